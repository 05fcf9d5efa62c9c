"""The scores of a run as lines: what was measured, over which answers, with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.evaluating import statistics
from pipeline.evaluating.evaluation import Counts, Evaluation
from pipeline.evaluating.metrics.sets import Found
from pipeline.evaluating.profiles import OWN
from pipeline.evaluating.reliability import Reliability
from pipeline.evaluating.statistics import Estimate, Floats
from pipeline.tables.columns import Row

_MOST_VALUES = 50
"""Values of a group beyond which it is not broken down."""


@dataclass(frozen=True, slots=True)
class Line:
    """One figure."""

    profile: str
    metric: str
    estimate: Estimate
    group: str = ""
    """What the answers have in common, and what it is; empty for all."""
    value: str = ""

    def row(self) -> Row:
        """Return the row of scores.parquet."""
        found = self.estimate
        return {
            "profile": self.profile, "metric": self.metric, "group": self.group or None,
            "value": self.value or None, "answers": found.answers, "score": found.score,
            "low": found.low, "high": found.high,
        }  # fmt: skip


def lines(found: Evaluation, measured: Reliability | None) -> list[Line]:
    """Return every figure that can be told of an evaluation; `measured` is what confidence is worth."""
    confidence = _confidence(measured) if measured else ()
    return [*_scores(found), *_right(found), *_evidence(found), *_conduct(found), *confidence]


def right(found: Evaluation) -> Estimate:
    """Return the share of answers that are right."""
    estimate = statistics.mean(found.right_values, found.codes)
    assert estimate is not None  # an evaluation without any answer is refused
    return estimate


def main_score(found: Evaluation) -> Estimate:
    """Return the score by the metric that was chosen; of answers in fields alone, the F1 of these."""
    decided = np.frombuffer(found.decided, np.float32).astype(float)
    known = ~np.isnan(decided)
    return statistics.mean(decided[known], found.codes[known]) or right(found)


def _of_metric(found: Evaluation, name: tuple[str, str]) -> Estimate | None:
    values = found.values(name)
    known = ~np.isnan(values)
    return statistics.mean(values[known], found.codes[known])


def _scores(found: Evaluation) -> Iterator[Line]:
    for name in found.scores:
        if estimate := _of_metric(found, name):
            yield Line(*name, estimate)


def _right(found: Evaluation) -> Iterator[Line]:
    """Yield the share of right answers, of all and of those that have something in common."""
    profile = found.rules.name[0]
    yield Line(profile, "right", right(found))
    for group, labels in found.groups.items():
        # One value says no more than the whole, and hundreds are no table.
        for value in sorted(labels.numbers) if 1 < len(labels.numbers) <= _MOST_VALUES else ():
            chosen = labels.codes == labels.numbers[value]
            if estimate := statistics.mean(found.right_values[chosen], found.codes[chosen]):
                yield Line(profile, "right", estimate, group, value)


def _evidence(found: Evaluation) -> Iterator[Line]:
    for name, counts in (("evidence_page", found.pages), ("evidence_box", found.boxes)):
        if len(counts.documents):
            yield from _precision_and_recall(name, counts)
    for field, counted in sorted(found.fields.items()):
        yield from _of_field("field", field, counted)
    if found.fields:
        yield from _of_field("", "", sum(found.fields.values(), Found()))


def _precision_and_recall(name: str, counts: Counts) -> Iterator[Line]:
    for side, whole in (("precision", counts.found), ("recall", counts.wanted)):
        if estimate := statistics.ratio(counts.right, whole, counts.documents):
            yield Line(OWN, f"{name}_{side}", estimate)


def _of_field(group: str, field: str, found: Found) -> Iterator[Line]:
    for name in ("precision", "recall", "f1"):
        value: float | None = getattr(found, name)
        if value is not None:
            yield Line(OWN, f"field_{name}", _alone(value, found.wanted), group, field)


def _alone(value: float, answers: int) -> Estimate:
    """Return a figure without an interval."""
    return Estimate(value, float("nan"), float("nan"), answers)


def _conduct(found: Evaluation) -> Iterator[Line]:
    """Yield how often there was an answer at all, and whether there should have been."""
    abstains, unanswerable, failed = (
        _floats(a) for a in (found.abstains, found.unanswerable, found.failed["error"])
    )
    answered = (1 - abstains) * (1 - failed)
    shares = [
        ("answered", answered, None),
        ("right_where_answered", found.right_values, answered),
        ("abstained_on_unanswerable", abstains, unanswerable),
        ("answered_unanswerable", answered, unanswerable),
        ("abstained_on_answerable", abstains, 1 - unanswerable),
        *((f"{name}_rate", _floats(values), None) for name, values in found.failed.items()),
    ]
    for name, part, among in shares:
        whole = np.ones(len(part)) if among is None else among
        if estimate := statistics.ratio(part * whole, whole, found.codes):
            yield Line(OWN, name, estimate)


def _floats(values: npt.ArrayLike) -> Floats:
    return np.asarray(values, float)


def _confidence(measured: Reliability) -> Iterator[Line]:
    for name, value in (
        ("ece", measured.ece),
        ("brier", measured.brier),
        ("area_under_risk_coverage", measured.area_under_risk),
        *((f"error_rate_of_surest_{share:.0%}", risk) for share, risk in measured.risk_at),
    ):
        yield Line(OWN, name, _alone(value, measured.answers))


def wrong(found: Evaluation) -> list[str]:
    """Return some of the wrong answers, a line each."""
    return [f"wrong: {line}" for line in found.wrong]


def markdown(title: str, found: Evaluation, figures: Sequence[Line], notes: Sequence[str]) -> str:
    """Return a page: what was scored, what counts as right, and a table of all figures."""
    profile, metric = found.rules.name
    return "\n".join(
        [
            f"# {title}",
            "",
            f"{len(found)} answers about {len(np.unique(found.codes))} documents. An answer is right from"
            f" {found.rules.right_from:g} of `{profile}.{metric}` on. Intervals hold with 95 %, by"
            " resampling documents.",
            "",
            *(f"- {note}" for note in notes),
            *([""] if notes else []),
            table(figures),
            "",
        ]
    )


def table(figures: Sequence[Line]) -> str:
    """Return figures as a Markdown table."""
    rows = [("profile", "metric", "of", "answers", "score", "95 % interval")]
    for each in figures:
        found = each.estimate
        interval = "" if np.isnan(found.low) else f"{found.low:.3f} to {found.high:.3f}"
        of = f"{each.group}: {each.value}" if each.group else "all"
        rows.append(
            (
                each.profile,
                each.metric,
                of.replace("|", "/"),
                str(found.answers),
                f"{found.score:.3f}",
                interval,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    written = ["| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |" for r in rows]
    return "\n".join([written[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *written[1:]])
