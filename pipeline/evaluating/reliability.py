"""What confidence is worth: whether answers of 0.8 are right eight times in ten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.evaluating.statistics import Floats

_BINS = 10
COVERAGES = (0.5, 0.8, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of about the same confidence."""

    low: float
    high: float
    answers: int
    confidence: float
    """On average."""
    right: float
    """The share that is right."""


@dataclass(frozen=True, slots=True)
class Reliability:
    ece: float
    """Expected calibration error: how far confidence lies from the share that is right, over ten bins."""
    brier: float
    """Mean square of the difference between confidence and 1 for a right answer, 0 for a wrong one."""
    area_under_risk: float
    """Mean error rate over all coverages, answers taken from the surest on."""
    bins: tuple[Bin, ...]
    risk_at: tuple[tuple[float, float], ...]
    """The error rate of the surest half of the answers, four fifths, and so on."""
    answers: int


def measure(confidence: Sequence[float] | Floats, right: Sequence[bool] | Floats) -> Reliability | None:
    """Measure answers that have a confidence; None without any."""
    sure, is_right = np.asarray(confidence, float), np.asarray(right, float)
    known = ~np.isnan(sure)
    sure, is_right = sure[known], is_right[known]
    if not len(sure):
        return None
    bins = _bins(sure, is_right)
    risks = _risks(sure, is_right)
    at = tuple((share, float(risks[max(1, round(share * len(risks))) - 1])) for share in COVERAGES)
    return Reliability(
        ece=sum(each.answers * abs(each.confidence - each.right) for each in bins) / len(sure),
        brier=float(np.square(sure - is_right).mean()),
        area_under_risk=float(risks.mean()),
        bins=bins,
        risk_at=at,
        answers=len(sure),
    )


def _bins(sure: Floats, is_right: Floats) -> tuple[Bin, ...]:
    # A confidence of 1 belongs to the last bin.
    places = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    found = []
    for place in np.unique(places):
        chosen = places == place
        low, high = float(place / _BINS), float((place + 1) / _BINS)
        means = float(sure[chosen].mean()), float(is_right[chosen].mean())
        found.append(Bin(low, high, int(chosen.sum()), *means))
    return tuple(found)


def _risks(sure: Floats, is_right: Floats) -> Floats:
    """Return the error rate of the surest 1, 2, 3 … answers; equally sure ones count as mixed."""
    order = np.argsort(-sure, kind="stable")
    sure, wrong = sure[order], 1 - is_right[order]
    _, group = np.unique(-sure, return_inverse=True)
    mixed = (np.bincount(group, weights=wrong) / np.bincount(group))[group]
    risks: Floats = np.cumsum(mixed) / np.arange(1, len(sure) + 1)
    return risks
