"""Say how good the answers of a run are: scores against what is right, and what confidence is worth.

    python -m pipeline.evaluate run=runs/march gold=qa.csv
    python -m pipeline.evaluate run=runs/march gold=qa.csv against=runs/feb
    python -m pipeline.evaluate run=runs/march gold=qa.csv calibrate=qa.calibration.json
    python -m pipeline.evaluate dataset=chartqa files='chartqa/*.parquet' to=chartqa
    python -m pipeline.evaluate vectors=vectors/

Prints a table and writes RUN/evaluation: the scores with 95 % intervals, and each answer with its own. The
report then shows every wrong answer beside its page. docs/evaluation.md says what is measured. Settings:

    run=DIR               a directory that a run has written: its answers are scored
    gold=FILE             what is right: CSV, YAML, JSON or Parquet with question, document, answer; else the
                          answers of the run's own questions file; reviews count in either case
    against=DIR           another run of the same: the difference, answer by answer
    profile=official      official or mistral_evals: whose rules the scores follow
    metric=contained      which metric says whether an answer is right: contained, exact_match, anls, …
    right_from=0.5        the score from which an answer counts as right
    calibrate=FILE        fit what confidence is worth, and write it there, for engine.calibration=FILE
    method=auto           isotonic, platt, or auto: isotonic from 200 answers on
    dataset=NAME          ai2d, chartqa, docvqa, mathvista, mm_mt_bench, mmmu or vqav2: write its images and
                          questions
    files=PATH            its Parquet files: a file, a folder or a glob
    to=DIR                the folder to write them to
    limit=N               at most so many items of it
    vectors=DIR           scores of reference implementations: ours must be the same; exit 1 if any is not
"""

from __future__ import annotations

import gc
import sys
from contextlib import ExitStack

from pipeline import store, usage
from pipeline.command import EXIT_FAILED, errors_end_in_a_line
from pipeline.compose import compose_evaluate

_OBJECTS = 20_000
"""New objects after which cycles are looked for: more than a batch of answers makes, which frees its own."""


def main() -> None:
    """Do what is asked and print it; exit 1 with one line where that cannot be done, or vectors differ."""
    usage.print_if_asked(__doc__)
    gc.set_threshold(_OBJECTS)
    with errors_end_in_a_line():
        settings = compose_evaluate(sys.argv[1:])
        from pipeline.evaluating import installed

        installed.check()
        from pipeline.evaluating import task

        with ExitStack() as outputs:
            for location in filter(None, (settings.run, settings.against)):
                output = outputs.enter_context(store.opened(location))
                for name in ("run.json", "answers", "documents", "reviews"):
                    store.fetch(output / name)
            done = task.perform(settings)
    print(done.text)
    if not done.ok:
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
