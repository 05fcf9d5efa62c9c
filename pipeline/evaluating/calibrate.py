"""Fit what confidence is worth on answers that were judged, and measure it on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.answering.calibration import Calibration, Curve
from pipeline.errors import SettingsError
from pipeline.evaluating import reliability
from pipeline.evaluating.evaluation import Evaluation
from pipeline.evaluating.reliability import Reliability
from pipeline.evaluating.statistics import Codes, Floats

_ISOTONIC_FROM = 200
"""Answers from which isotonic regression, which bends where the answers say, beats a curve of two numbers."""
_FEWEST = 20
"""Answers without which nothing is fitted."""
_FEWEST_OF_QUALITY = 50
"""Answers about pages of one quality from which they have a curve of their own."""
_FOLDS = 5
_PLATT_POINTS = 101


@dataclass(frozen=True, slots=True)
class Judged:
    """Answers with a confidence: an item of each array for each."""

    confidence: Floats
    """As the engine gave it."""
    right: Floats
    documents: Codes
    qualities: tuple[str, ...]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.right)

    def chosen(self, places: Codes) -> Judged:
        """Return some of them."""
        qualities = tuple(self.qualities[place] for place in places)
        return Judged(self.confidence[places], self.right[places], self.documents[places], qualities)


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """What confidence was worth before, and is by calibrations that had not seen the answer."""

    before: Reliability
    after: Reliability
    folds: int


def judged(found: Evaluation) -> Judged:
    """Return the answers of an evaluation that have a confidence."""
    confidence = np.asarray(found.engine_confidence, float)
    places = np.flatnonzero(~np.isnan(confidence))
    everything = Judged(
        confidence, found.right_values, found.codes, tuple(found.groups["page_quality"].texts)
    )
    return everything.chosen(places)


def check(answers: Judged) -> None:
    """Raise SettingsError where there is too little to fit a calibration on."""
    if len(answers) < _FEWEST:
        raise SettingsError(
            f"calibrate: {len(answers)} judged answers have a confidence, and {_FEWEST} are needed; add gold"
        )


def fit(answers: Judged, engine: str, method: str, fitted_on: frozenset[str] = frozenset()) -> Calibration:
    """Fit a calibration on answers that `check` let pass, or on a part of them."""
    by_quality = {}
    for quality in sorted(set(answers.qualities)):
        places = np.asarray([i for i, each in enumerate(answers.qualities) if each == quality], np.int64)
        if len(places) >= _FEWEST_OF_QUALITY and quality != "unknown":
            by_quality[quality] = _curve(answers.chosen(places), method)
    return Calibration(engine, method, _curve(answers, method), by_quality, fitted_on)


def _curve(answers: Judged, method: str) -> Curve:
    if method == "isotonic" or (method == "auto" and len(answers) >= _ISOTONIC_FROM):
        return _isotonic(answers)
    return _platt(answers)


def _isotonic(answers: Judged) -> Curve:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(answers.confidence, answers.right)
    return _points(fitted.X_thresholds_, fitted.y_thresholds_, len(answers))


def _platt(answers: Judged) -> Curve:
    """Fit a logistic curve; Platt's targets keep a few answers from claiming certainty."""
    from sklearn.linear_model import LogisticRegression

    right, wrong = answers.right.sum(), len(answers) - answers.right.sum()
    high, low = (right + 1) / (right + 2), 1 / (wrong + 2)
    target = np.where(answers.right > 0, high, low)
    # Each answer stands for both outcomes, weighted: the library takes no targets between 0 and 1.
    x = np.concatenate([answers.confidence, answers.confidence])[:, None]
    outcomes = np.concatenate([np.ones(len(answers)), np.zeros(len(answers))])
    # C divides the penalty: hardly any, for Platt's targets already keep the curve from being too steep.
    fitted = LogisticRegression(C=1e6).fit(x, outcomes, sample_weight=np.concatenate([target, 1 - target]))
    grid = np.linspace(0, 1, _PLATT_POINTS)
    return _points(grid, fitted.predict_proba(grid[:, None])[:, 1], len(answers))


def _points(x: Floats, y: Floats, answers: int) -> Curve:
    # Two points at one place would be a step that has no value there: the later one counts.
    by_place = {min(max(float(a), 0.0), 1.0): min(max(float(b), 0.0), 1.0) for a, b in zip(x, y, strict=True)}
    places = sorted(by_place)
    return Curve(tuple(places), tuple(by_place[place] for place in places), answers)


def cross_validate(answers: Judged, method: str) -> CrossValidated:
    """Judge each answer by a calibration that was fitted on answers about other documents."""
    folds = _folds(answers.documents)
    after = np.full(len(answers), np.nan)
    for fold in range(folds.max() + 1):
        inside, outside = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        fitted = fit(answers.chosen(outside), "", method)
        for place in inside:
            value = fitted.of(float(answers.confidence[place]), answers.qualities[place])
            after[place] = np.nan if value is None else value
    before = reliability.measure(answers.confidence, answers.right)
    calibrated = reliability.measure(after, answers.right)
    assert before is not None and calibrated is not None  # `check` has refused too few answers
    return CrossValidated(before, calibrated, int(folds.max()) + 1)


def _folds(documents: Codes) -> Codes:
    """Give each document to one of five folds, the largest first, each to the one with the fewest answers."""
    codes, counts = np.unique(documents, return_counts=True)
    folds = min(_FOLDS, len(codes))
    if folds < 2:
        raise SettingsError("calibrate: all judged answers are about one document; add gold about others")
    # By lot among documents of one size, and the same each time.
    order = np.random.default_rng(0).permutation(len(codes))
    order = order[np.argsort(-counts[order], kind="stable")]
    filled, fold_of = np.zeros(folds, int), {}
    for place in order:
        fold_of[codes[place]] = int(filled.argmin())
        filled[fold_of[codes[place]]] += counts[place]
    return np.asarray([fold_of[code] for code in documents], np.int64)


def describe(checked: CrossValidated, fitted: Calibration) -> Sequence[str]:
    """Return what was fitted and what it is worth, in a line each."""
    own = ", ".join(f"{name} ({curve.answers})" for name, curve in fitted.by_quality.items())
    return [
        f"calibration fitted on {fitted.everything.answers} answers"
        + (f"; curves of their own: {own}" if own else ""),
        f"expected calibration error {checked.before.ece:.3f} before, {checked.after.ece:.3f} after, by"
        f" cross-validation over documents ({checked.folds} folds); Brier score {checked.before.brier:.3f},"
        f" {checked.after.brier:.3f}",
    ]
