"""Means and shares with 95 % intervals, by resampling documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

_RESAMPLES = 2000
_LEVEL = 0.95
_MOST_SORTS = 2000
"""Sorts of documents, by what they add, up to which resampling them is quick."""
_Z = 1.959963984540054
"""Standard deviations that 95 % of a normal distribution lie within."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean or a share, and where it may lie as well as not, with 95 % confidence."""

    score: float
    low: float
    high: float
    answers: int

    def __str__(self) -> str:
        """Say it in a few characters."""
        return f"{self.score:.3f} ({self.low:.3f} to {self.high:.3f})"


def mean(values: Sequence[float] | Floats, documents: Sequence[int] | Codes) -> Estimate | None:
    """Return the mean of values, each about one of `documents` (numbers from 0); None without any."""
    return ratio(values, np.ones(len(values)), documents)


def ratio(
    parts: Sequence[float] | Floats, wholes: Sequence[float] | Floats, documents: Sequence[int] | Codes
) -> Estimate | None:
    """Return the sum of parts over that of wholes; None where there are no wholes.

    Documents are resampled, not answers: answers about one document are right or wrong together. With one
    document the answers are, for want of others.
    """
    part, whole = np.asarray(parts, float), np.asarray(wholes, float)
    codes = np.asarray(documents, np.int64)
    if not whole.sum() > 0:
        return None
    if codes.min() == codes.max():
        codes = np.arange(len(part))
    sums: Floats = np.bincount(codes, weights=part).astype(float)
    sizes: Floats = np.bincount(codes, weights=whole).astype(float)
    sums, sizes = sums[sizes > 0], sizes[sizes > 0]
    score = float(part.sum() / whole.sum())
    low, high = _interval(sums, sizes, score)
    return Estimate(score, low, high, int(np.count_nonzero(whole)))


def _interval(sums: Floats, sizes: Floats, score: float) -> tuple[float, float]:
    rates = sums / sizes
    if np.ptp(rates) == 0:
        return _all_the_same(float(rates[0]), len(rates))
    # As complex numbers, which sort a hundred times as fast as pairs.
    sorts, counts = np.unique(np.round(sums, 6) + 1j * sizes, return_counts=True)
    if len(sorts) > _MOST_SORTS:
        # Of so many the resampled ratios are distributed normally, and their spread is known.
        deviation = float(np.sqrt(np.square(sums - score * sizes).sum()) / sizes.sum())
        return score - _Z * deviation, score + _Z * deviation
    # How often each sort of document is drawn, which is all that a resample's ratio depends on.
    drawn = np.random.default_rng(0).multinomial(len(sums), counts / len(sums), _RESAMPLES)
    ratios = (drawn @ sorts.real) / (drawn @ sorts.imag)
    tail = 50 * (1 - _LEVEL)
    low, high = np.percentile(ratios, [tail, 100 - tail])
    return float(low), float(high)


def _all_the_same(rate: float, documents: int) -> tuple[float, float]:
    """Return what is known where all documents say the same: resampling them would claim certainty.

    Of shares that is the exact binomial bound; five right of five may be half right as well as not.
    """
    if rate < 0:  # of a difference
        low, high = _all_the_same(-rate, documents)
        return -high, -low
    bound = ((1 - _LEVEL) / 2) ** (1 / documents)
    return rate * bound, max(rate, 1 - (1 - rate) * bound)


def difference(new: Floats, old: Floats, documents: Codes) -> Estimate | None:
    """Return how much higher the same answers score in one run than in another, on average."""
    change = new - old
    if len(change) and not change.any():
        return Estimate(0.0, 0.0, 0.0, len(change))
    return mean(change, documents)
