"""Make the tables of what the shards of a plan have answered.

    python -m pipeline.publish input=pdfs/ output=runs/march
    python -m pipeline.publish input=pdfs/ task=qa task.questions=questions.csv output=runs/march

Takes the settings that the plan and its tasks were given. The journals of all shards become the tables that
analysts read, each replaced whole. What is missing is named, shard by shard, and makes the exit status 1;
what is there is published all the same. `summary.md` in the output tells both; `report/index.html` is a page
to look at. With evaluate.min_score=0.8 the answers are scored first, against the questions' own answers or
evaluate.gold=FILE; below it nothing is published, and the tables of before are left.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from pipeline import store, usage
from pipeline.command import EXIT_FAILED, errors_end_in_a_line
from pipeline.compose import compose_report, compose_settings
from pipeline.config import RunSettings
from pipeline.errors import PipelineError
from pipeline.evaluating.installed import scores_of
from pipeline.flow.progress import describe
from pipeline.sharding.publish import complaints, publish
from pipeline.viewing import report


def main() -> None:
    """Publish; exit 1 with one line for each shard of which something is missing."""
    usage.print_if_asked(__doc__)
    with errors_end_in_a_line():
        settings = compose_settings(sys.argv[1:])
        with store.opened(settings.output) as output:
            published = publish(settings)
            scores = None if published.missing else scores_of(settings)
            missing = complaints(published, output)
            print(describe(published.summary, settings.output))
            if scores:
                print(f"scores   {scores}")
            _write_report(settings, published.summary.cells)
    if missing:
        for line in missing:
            print(f"error: {line}", file=sys.stderr)
        print("submit the same again to get what is missing, and only that", file=sys.stderr)
        sys.exit(EXIT_FAILED)


# It is made in memory and as large as the answers: beyond this, only for those who ask for it.
_MOST_ANSWERS_SHOWN = 100_000


def _write_report(settings: RunSettings, answers: int) -> None:
    """Write the report; that it cannot be written does not make the tables any less complete."""
    how = f"python -m pipeline.report output={settings.output}"
    if answers > _MOST_ANSWERS_SHOWN:
        print(f"report   not written by itself for over {_MOST_ANSWERS_SHOWN:,} answers: {how}")
        return
    try:
        page = report.write(replace(compose_report([]), output=settings.output, raster=settings.raster))
    except PipelineError as error:
        print(f"report   not written ({error}); try again with {how}", file=sys.stderr)
    else:
        print(f"report   {store.named(str(page))}")


if __name__ == "__main__":
    main()
