"""Tell whether a run would accept these settings, before anything is queued.

    python -m pipeline.check input=pdfs/ output=runs/march
    python -m pipeline.check input=pdfs/ task=qa task.questions=questions.csv

Takes the settings of pipeline.run; prints nothing if all is well, else one line, and exits with 1.
"""

from __future__ import annotations

import sys

from pipeline import usage
from pipeline.command import errors_end_in_a_line
from pipeline.compose import compose_settings


def main() -> None:
    """Say nothing if `pipeline.run` would accept the overrides; else one line, and exit 1."""
    usage.print_if_asked(__doc__)
    with errors_end_in_a_line():
        compose_settings(sys.argv[1:])


if __name__ == "__main__":
    main()
