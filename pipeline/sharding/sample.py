"""Choose a sample of the inputs, and say from what it came to what all will come to."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

_T_975 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12,
          2.11, 2.10, 2.09, 2.09, 2.08, 2.07, 2.07, 2.06, 2.06, 2.06, 2.05, 2.05, 2.05, 2.04)  # fmt: skip
"""Student's t at 97.5 % for 1, 2, 3 … degrees of freedom."""
_TAIL = 0.025


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float

    def holds(self, true: float) -> bool:
        """Tell whether a number lies within, its own rounding aside."""
        return self.low <= true * (1 + 1e-9) and true <= self.high * (1 + 1e-9)


@dataclass(frozen=True, slots=True)
class Unit:
    """An input, or a folder where folders are asked about as a whole."""

    name: str
    stratum: tuple[str, str, int, str]
    """Kind, language, pages (in powers of two) and folder."""
    predicted: float
    """What the cost model says that it takes."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A unit of a sample, with the chance that it had to be in it."""

    unit: Unit
    chance: float


def choose(units: Sequence[Unit], count: int, seed: int = 0) -> list[Chosen]:
    """Choose units that are like all: by kind, language, pages and folder.

    Units are sorted, so that similar ones are neighbours, and taken at even steps from a random start
    (systematic sampling): each kind then has its share. Half of a unit's chance is the same for all, half
    goes by what it takes, because few large inputs can be most of the work.
    """
    chances = _chances(units, min(count, len(units)))
    found: list[Chosen] = []
    # A fixed seed: a pilot that was cut short takes the same sample again.
    passed, start = 0.0, random.Random(seed).random()
    for unit in sorted(units, key=lambda unit: (unit.stratum, unit.name)):
        chance = chances[unit.name]
        before = passed
        passed += chance if chance < 1 else 0.0
        if chance >= 1 or math.floor(passed - start) > math.floor(before - start):
            found.append(Chosen(unit, chance))
    return found


def _chances(units: Sequence[Unit], count: int) -> dict[str, float]:
    whole = sum(unit.predicted for unit in units) or 1.0
    shares = {unit.name: 0.5 * unit.predicted / whole + 0.5 / len(units) for unit in units}
    sure: set[str] = set()
    while True:
        rest = sum(share for name, share in shares.items() if name not in sure)
        factor = (count - len(sure)) / rest if rest > 0 else 0.0
        # No chance is over one: such units are taken for sure, and the others share what is left.
        more = {name for name, share in shares.items() if name not in sure and factor * share >= 1 - 1e-9}
        if not more:
            return {name: 1.0 if name in sure else factor * share for name, share in shares.items()}
        sure |= more


def total(sample: Sequence[Chosen], spent: Mapping[str, float], predicted: float) -> Interval:
    """Estimate the total over all units, which are predicted to take `predicted`, of what a sample `spent`.

    The sample tells by which factor the cost model is wrong: a ratio estimator, each unit weighted by one
    over its chance (Särndal, Swensson and Wretman, Model Assisted Survey Sampling, section 7.3).
    """
    real = sum(spent[each.unit.name] for each in sample)
    weighed = sum(each.unit.predicted / each.chance for each in sample)
    unsure = [each for each in sample if each.chance < 1]
    if not unsure or weighed <= 0:
        return Interval(real, real, real)
    factor = predicted / weighed
    ratio = sum(spent[each.unit.name] / each.chance for each in sample) / weighed
    if len(unsure) < 2:
        return Interval(ratio * predicted, real, math.inf)
    rest = [(spent[each.unit.name] - ratio * each.unit.predicted) / each.chance for each in unsure]
    # The likelier a unit had to be chosen, the less of what it stands for is unknown.
    left = sum((1 - each.chance) * off**2 for each, off in zip(unsure, rest, strict=True))
    error = factor * math.sqrt(left * len(unsure) / (len(unsure) - 1))
    degrees = _effective([each.unit.predicted / each.chance for each in unsure]) - 2
    reach = _T_975[min(max(1, int(degrees)), len(_T_975)) - 1] * error
    value = ratio * predicted
    # What takes long takes much longer than the rest: as far above by factor as below by difference.
    high = value * math.exp(reach / value) if value else reach
    return Interval(value, max(real, value - reach), high)


def _effective(weights: Sequence[float]) -> float:
    """Return how many units of equal weight say as much (Kish, 1965)."""
    squares = sum(weight**2 for weight in weights)
    return sum(weights) ** 2 / squares if squares else 0.0


def by_code(
    sample: Sequence[Chosen], codes: Mapping[str, set[str]], units: int
) -> tuple[dict[str, Interval], int]:
    """Estimate in how many units each error code is met, and the most that any code not met here has.

    `codes` are those of the sampled units that have any.
    """
    weights = {each.unit.name: 1 / each.chance for each in sample}
    whole = sum(weights.values()) or 1.0
    # A sample of unequal chances says as much as a smaller one of equal ones.
    size = min(units, max(1, int(_effective(list(weights.values()))))) if len(sample) < units else units
    found: dict[str, Interval] = {}
    for code in sorted(set().union(*(codes.get(name, set()) for name in weights))):
        share = sum(weight for name, weight in weights.items() if code in codes.get(name, ())) / whole
        interval = affected(max(1, round(share * size)), size, units)
        found[code] = Interval(share * units, interval.low, max(interval.high, share * units))
    return found, round(affected(0, size, units).high)


def affected(found: int, sampled: int, units: int) -> Interval:
    """Estimate how many of all units have what `found` of the sampled ones have.

    The interval is exact for sampling without replacement: numbers under which what was found is not rare.
    """
    if sampled >= units:
        return Interval(found, found, found)
    # More of them are rarely as few as were found, and fewer rarely as many.
    low = _first(found, units, lambda all_: _at_least(found, sampled, all_, units) > _TAIL)
    high = _first(low, units + 1, lambda all_: _at_most(found, sampled, all_, units) <= _TAIL) - 1
    return Interval(found * units / sampled, low, max(low, high))


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the least number from `low` to `high` from which on something holds; or else `high`."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _at_most(found: int, sampled: int, affected_: int, units: int) -> float:
    return sum(_chance(each, sampled, affected_, units) for each in range(found + 1))


def _at_least(found: int, sampled: int, affected_: int, units: int) -> float:
    return 1.0 - _at_most(found - 1, sampled, affected_, units)


def _chance(found: int, sampled: int, affected_: int, units: int) -> float:
    """Return the chance that a sample holds `found` of those affected (hypergeometric)."""
    others = units - affected_
    if found > affected_ or sampled - found > others:
        return 0.0
    # By logarithms: from about a thousand units on, the numbers of ways exceed a float64.
    logs = _choose(affected_, found) + _choose(others, sampled - found) - _choose(units, sampled)
    return math.exp(logs)


def _choose(whole: int, part: int) -> float:
    """Return the logarithm of the number of ways to choose."""
    return math.lgamma(whole + 1) - math.lgamma(part + 1) - math.lgamma(whole - part + 1)
