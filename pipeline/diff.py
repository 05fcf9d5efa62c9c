"""Show what has changed between two runs: answers changed, appeared, vanished, by task and question.

    python -m pipeline.diff old=runs/feb new=runs/march
    python -m pipeline.diff old=runs/feb new=runs/march report.pages=all

Prints a table, and writes NEW/diff: changes.parquet, a row for each answer that either run has, and
index.html, the report with both answers beside the page. Answers are matched by task, source, page and
question_id. Settings:

    old=DIR, new=DIR      directories that runs have written
    input=PATH            where the inputs are now, if not where they were for the new run
    report.…, raster.…    as for pipeline.report
"""

from __future__ import annotations

import sys

from pipeline import store, usage
from pipeline.command import errors_end_in_a_line
from pipeline.compose import compose_diff


def main() -> None:
    """Compare, and say what changed and where the page is; exit 1 with one line where that cannot be done."""
    usage.print_if_asked(__doc__)
    with errors_end_in_a_line():
        settings = compose_diff(sys.argv[1:])
        from pipeline.viewing import changes

        with store.opened(settings.old), store.opened(settings.new):
            compared, page = changes.write(settings)
    print(changes.describe(compared))
    print(store.named(str(page)))


if __name__ == "__main__":
    main()
