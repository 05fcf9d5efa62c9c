"""Count what a run would do, load no model and render no page: `python -m pipeline.plan input=pdfs/`."""

from __future__ import annotations

import sys

from pipeline import run


def main() -> None:
    """Run with `plan=true`."""
    sys.argv.append("plan=true")  # last: of a setting that is given twice the later counts
    run.main()


if __name__ == "__main__":
    main()
