"""Ask the model one question, without any document.

    python -m pipeline.ask 'Which day was yesterday?' engine=server engine.urls=[http://node7:8000/v1]
    python -m pipeline.ask 'How many days ago was 14 July 1789?' model.path=/models/pixtral-large

Takes the settings of model and engine that pipeline.run takes, and task.max_output_tokens; prints the reply
and stores nothing. For questions about documents, and for more than one, use pipeline.run.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence

from pipeline import usage
from pipeline.command import (
    EXIT_INTERRUPTED,
    errors_end_in_a_line,
    ignore_signals,
    log_to_terminal,
    signals_raise,
    speak_utf8,
)
from pipeline.compose import compose_settings
from pipeline.errors import Interrupted, SettingsError


def main() -> None:
    """Print the reply to the question on the command line."""
    speak_utf8()
    usage.print_if_asked(__doc__)
    with errors_end_in_a_line():
        if not sys.argv[1:] or not sys.argv[1].strip():
            raise SettingsError("a question is needed: docbatch ask 'Which day was yesterday?'")
        log_to_terminal()
        try:
            print(reply(sys.argv[1], sys.argv[2:]))
        except Interrupted:
            ignore_signals()
            sys.exit(EXIT_INTERRUPTED)


def reply(question: str, overrides: Sequence[str]) -> str:
    """Return the reply of the engine that the overrides name."""
    from pipeline.flow import single

    # Neither is used, but every composition has them.
    with signals_raise(), tempfile.TemporaryDirectory() as folder:
        settings = compose_settings(["input=.", f"output={folder}", *overrides])
        return single.ask(settings, question)


if __name__ == "__main__":
    main()
