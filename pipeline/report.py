"""Write a page about what a run has answered, to look at, search and review.

    python -m pipeline.report output=runs/march
    python -m pipeline.report output=runs/march report.pages=all
    python -m pipeline.report output=runs/march marks=march.csv   # marks of the page become reviews

The page, OUTPUT/report/index.html, opens from a file and needs no server: send the folder. Settings:

    output=DIR            a directory that a run has written
    input=PATH            where the inputs are now, if not where they were for the run
    marks=FILE            a CSV that the page has saved, merged into OUTPUT/reviews
    report.pages=auto     page images: auto (a sample, wrong, to review, then others), all or none
    report.most_pages=500 that auto draws at most
    report.sample=50      answers of whatever kind that auto draws the pages of first
    report.page_px=1400   longest side of a page image
    report.quality=60     of these images (WebP)
    raster.…              as for pipeline.run: workers, passwords, time limits
"""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline import store, usage
from pipeline.command import errors_end_in_a_line
from pipeline.compose import compose_report


def main() -> None:
    """Merge marks where there are any, write the page and say where it is; exit 1 with one line if not."""
    usage.print_if_asked(__doc__)
    with errors_end_in_a_line():
        settings = compose_report(sys.argv[1:])
        from pipeline.viewing import finished, marks, report

        with store.opened(settings.output) as output:
            if settings.marks:
                print(marks.merge(finished.load(output), Path(settings.marks)))
            print(store.named(str(report.write(settings))))


if __name__ == "__main__":
    main()
