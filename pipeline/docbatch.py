"""The one installed command, `docbatch`: each of its commands is also `python -m pipeline.NAME`."""

from __future__ import annotations

import difflib
import importlib
import sys
from pathlib import Path

from pipeline.command import fail
from pipeline.errors import SettingsError
from pipeline.usage import COMMANDS as COMMANDS


def help_text() -> str:
    """Return what the command does, its commands, and examples."""
    listed = "\n".join(f"  {name:12}{meaning}" for name, meaning in COMMANDS.items())
    return f"""\
docbatch: questions about thousands to millions of PDFs, scans and charts; one Parquet row per question.

{listed}

  docbatch pdfs/                                           describe each document below pdfs/
  docbatch run pdfs/ task=qa task.questions=questions.csv output=runs/march

docbatch COMMAND --help explains the command and its settings; docbatch --version."""


def main() -> None:
    """Run the command that is named; without a name it is `run`."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(help_text())
        return
    first = arguments[0]
    name, rest = (first, arguments[1:]) if first in COMMANDS else ("run", arguments)
    near = difflib.get_close_matches(first, COMMANDS, n=1, cutoff=0.7)
    # A path that exists is an input, however much it looks like a command.
    if first not in COMMANDS and near and not Path(first).exists():
        fail(SettingsError(f"{first}: is no command and no path; did you mean docbatch {near[0]}?"))
    sys.argv = [f"docbatch {name}", *rest]
    importlib.import_module(f"pipeline.{name}").main()


if __name__ == "__main__":
    main()
