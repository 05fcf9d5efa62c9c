"""Keep answers from being published that score less than they have to."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline import store
from pipeline.config import GateSettings, RunSettings
from pipeline.errors import OutputError
from pipeline.evaluating import golden, results
from pipeline.evaluating.evaluation import Evaluation, Rules
from pipeline.evaluating.score import score_files
from pipeline.evaluating.statistics import Estimate
from pipeline.tables import evaluation
from pipeline.tables.columns import Row

Gate = Callable[[Path, Path, str], None]
"""Takes files of answers and documents that are about to be published, and the run; raises OutputError."""


def of(settings: RunSettings) -> Gate:
    """Return the gate of a run. Raises SettingsError where it cannot be used."""
    given = settings.evaluate
    rules = Rules(given.profile, given.metric, given.right_from)
    # Both for their errors: a wrong name or file is told now, not after a night of work.
    _ = rules.name
    if given.gold is not None:
        golden.read(Path(given.gold))
    return _Check(store.folder(settings.output), given, rules)


@dataclass(frozen=True, slots=True)
class _Check:
    output: Path
    settings: GateSettings
    rules: Rules

    def __call__(self, answers: Path, documents: Path, run_id: str) -> None:
        """Score what is about to be published, note the score, and refuse it where that is too low."""
        known = golden.known(self.output, self.settings.gold)
        found = score_files([answers], evaluation.kinds([documents]), known, self.rules, None)
        score = results.main_score(found)
        least = self.settings.min_score or 0.0
        # The lower end: a few answers may score well by chance.
        passes = score.low >= least
        with store.disk_errors(self.output):
            # Before it is refused: the history has the nights that were not published, too.
            _note(self.output, self._row(score, run_id, passes))
        if not passes:
            raise OutputError(self._refusal(found, score, least))

    def _row(self, score: Estimate, run_id: str, passes: bool) -> Row:
        profile, metric = self.rules.name
        return {
            "scored_at": dt.datetime.now(dt.UTC), "run_id": run_id, "profile": profile, "metric": metric,
            "answers": score.answers, "score": score.score, "low": score.low, "high": score.high,
            "min_score": self.settings.min_score, "is_published": passes,
        }  # fmt: skip

    def _refusal(self, found: Evaluation, score: Estimate, least: float) -> str:
        """Write what was refused for people to look at, and return the message."""
        figures = results.lines(found, None)
        page = results.markdown("Scores of what was not published", found, figures, results.wrong(found))
        target = evaluation.folder(self.output) / "refused.md"
        with store.disk_errors(self.output):
            store.write_text(target, page)
        name = ".".join(self.rules.name)
        return (
            f"output={self.output}: {name} of {score.answers} answers is {score}, and its lower end is below"
            f" evaluate.min_score={least:g}: the tables of before are left; see {target}, then correct"
            " what is wrong, or lower it"
        )


def _note(output: Path, row: Row) -> None:
    """Add a score to the history, and draw it."""
    from pipeline.evaluating import plots

    rows = [*evaluation.history(output), row]
    folder = evaluation.folder(output)
    evaluation.write(folder / "history.parquet", rows, evaluation.HISTORY)
    store.write_text(folder / "history.svg", plots.history(rows))
