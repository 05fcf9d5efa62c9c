"""Write an HTML page about what a run has answered: `python -m pipeline.report output=runs/march`.

The page, OUTPUT/report.html, is one file that needs nothing else: what was asked and answered, what failed
and why, and which answers to look at first. It is made from the published tables and run.json alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.command import errors_end_in_a_line
from pipeline.viewing import page


def main() -> None:
    """Write the page and say where it is; exit 1 with one line when there is nothing to write about."""
    given = dict(each.partition("=")[::2] for each in sys.argv[1:])
    if set(given) != {"output"}:
        sys.exit("usage: python -m pipeline.report output=DIR")
    with errors_end_in_a_line():
        print(page.write(Path(given["output"])))


if __name__ == "__main__":
    main()
