"""MM-MT-Bench: the rating that a judge gives to each reply of a conversation, and their means."""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

NO_RATING = -1.0
_RATING = re.compile(r"\[\[(\d+\.?\d*)\]\]")
_PYTHON_NUMBER = re.compile(r"0+|[1-9][0-9]*|[0-9]+\.[0-9]*")


def rating(judgement: str) -> float:
    """Return the first number in double brackets, whatever it is; NO_RATING where there is none.

    A number that Python does not read, such as `05` or one in Arabic digits, at which the reference raises,
    is no rating, and so is one without end.
    """
    match = _RATING.search(judgement)
    if match is None or not _PYTHON_NUMBER.fullmatch(match[1]):
        return NO_RATING
    value = float(match[1])
    return value if math.isfinite(value) else NO_RATING


@dataclass(frozen=True, slots=True)
class Rated:
    """A rated reply."""

    category: str
    turn: int
    """From 0."""
    rating: float


@dataclass(frozen=True, slots=True)
class Ratings:
    micro: float | None
    """The mean over replies."""
    macro: float | None
    """The mean over the means of categories and, as in the reference, of turns among them."""
    by_group: dict[str, float]
    failed: int
    """Replies without a rating, which no mean counts."""


def summarize(rated: Sequence[Rated]) -> Ratings:
    """Return the means over replies that have a rating."""
    groups: dict[str, list[float]] = defaultdict(list)
    known = [each for each in rated if each.rating != NO_RATING]
    for each in known:
        groups[each.category].append(each.rating)
        groups[f"{each.turn}_average"].append(each.rating)
    means = {name: statistics.fmean(ratings) for name, ratings in groups.items()}
    micro = statistics.fmean(each.rating for each in known) if known else None
    macro = statistics.fmean(means.values()) if means else None
    return Ratings(micro, macro, means, len(rated) - len(known))
