"""Precision, recall and F1 of what was found: fields, their values, pages and boxes."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.evaluating.metrics.text import collapse
from pipeline.records import Box, Json


@dataclass(slots=True)  # not frozen: there are millions, and a frozen one takes three times as long to make
class Found:
    """How much was found, how much of it is right, and how much there is to find."""

    right: int = 0
    found: int = 0
    wanted: int = 0

    def __add__(self, other: Found) -> Found:
        """Add what another item found."""
        return Found(self.right + other.right, self.found + other.found, self.wanted + other.wanted)

    @property
    def precision(self) -> float | None:
        """The share of what was found that is right; None where nothing was found."""
        return self.right / self.found if self.found else None

    @property
    def recall(self) -> float | None:
        """The share of what there is that was found; None where there is nothing."""
        return self.right / self.wanted if self.wanted else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of both; None where nothing was found and there is nothing."""
        total = self.found + self.wanted
        return 2 * self.right / total if total else None


def of_pages(cited: Iterable[int], wanted: Iterable[int]) -> Found:
    """Compare the pages that an answer cites with those that hold it."""
    said, known = set(cited), set(wanted)
    return Found(len(said & known), len(said), len(known))


def of_boxes(cited: Sequence[Box], wanted: Sequence[Box], least_overlap: float = 0.5) -> Found:
    """Pair boxes whose intersection over union is large enough, each once, the best pairs first."""
    overlaps = ((overlap(one, other), i, j) for i, one in enumerate(cited) for j, other in enumerate(wanted))
    # The best first: a box that overlaps two is not taken from the one that it fits better.
    pairs = sorted((each for each in overlaps if each[0] >= least_overlap), reverse=True)
    said: set[int] = set()
    known: set[int] = set()
    for _, i, j in pairs:
        if i not in said and j not in known:
            said.add(i)
            known.add(j)
    return Found(len(said), len(cited), len(wanted))


def overlap(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes; 0 on different pages."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    if one.page != other.page or width <= 0 or height <= 0:
        return 0.0
    areas = sum((box.x1 - box.x0) * (box.y1 - box.y0) for box in (one, other))
    return width * height / (areas - width * height)


def of_fields(said: Mapping[str, Json], known: Mapping[str, Json]) -> dict[str, Found]:
    """Compare the values of each field; of one with many values, each value counts, in whatever order."""
    names = dict.fromkeys([*known, *said])
    return {name: _of_values(_values(said.get(name)), _values(known.get(name))) for name in names}


def _of_values(said: Counter[str], known: Counter[str]) -> Found:
    return Found((said & known).total(), said.total(), known.total())


def _values(value: Json) -> Counter[str]:
    if isinstance(value, list):
        return sum((_values(each) for each in value), Counter())
    if isinstance(value, dict):
        # A value within a value is known by its name too.
        return Counter(
            f"{name}: {inner}" for name, each in value.items() for inner in _values(each).elements()
        )
    text = _plain(value)
    return Counter([text] if text else [])


def _plain(value: Json) -> str:
    """Return a value as text, its letters in one form; a whole number is so with and without a point."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else collapse(unicodedata.normalize("NFC", str(value)))
