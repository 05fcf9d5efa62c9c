"""Find what is stated beside, after or under a label."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pipeline.engines.embedded import cells
from pipeline.engines.embedded.cells import Row
from pipeline.engines.embedded.lines import Line
from pipeline.engines.embedded.passages import plain, tokens

UNSURE = 0.3
"""Score of a value that may belong to another label: too low to pass without review."""

_LONGEST = 60
"""Letters of the longest label, unless a field's name is longer; as in the patterns that follow."""
_FILLING = re.compile(r"[.…_·\s]{2,}")
"""Dots or a line between a label and its value, or to be written on."""
_LABELLED = re.compile(r"^\s*([^:：=]{2,60}?)\s*[:：=][\s.…_·]*([^\s.…_·].*)$")
_LED = re.compile(r"^(.{2,60}?)\s*(?:[.…_·]\s?){3,}\s*([^\s.…_·].*)?$")
_RUN_TOGETHER = re.compile(r"^(.{2,60}?)\s*((?:\b[A-Z]{3}\b|[$€£¥])?\s?[-+\u2212]?\d.*)$")
_LEADERS = re.compile(r"^[\s.…_·:]+")
NUMBER = re.compile(r"\d[\d.,'’/-]*")
_WORDS_OF_A_UNIT = 3
"""From so many words on, what follows a number is more than its unit."""
_CURRENCY = re.compile(r"[$€£¥]|[A-Z]{3}")
_IN_BRACKETS = re.compile(r"\s*\((?:[$€£¥]|[A-Z]{3})\)\s*$")
_ASKS = re.compile(r"[:：]\s*$")
_WORD_STARTS = re.compile(r"(?<=[a-z])(?=[A-Z])|_")
# Words that a label may have and its field not, or the other way round, by what they name.
_GENERIC = {"number": "number", "no": "number", "nr": "number", "num": "number", "name": "name"}


class Stated(NamedTuple):
    """What stands at a label."""

    text: str
    score: float
    """How sure it is that it was read right and belongs to the label, 0 to 1."""
    page: int = 0


class Name:
    """What a field is called: a label is the field's when it says the same, all of it."""

    def __init__(self, names: Sequence[str]) -> None:
        self._words = {words(name) for name in names}
        self._letters = {letters(name) for name in names} - {""}
        self._generic: dict[frozenset[str], list[set[str]]] = {}
        """What the generic words of a name stand for, by its other words."""
        for name in names:
            others, generic = _parted(words(name))
            self._generic.setdefault(others, []).append(generic)

    def is_exactly(self, label: str) -> bool:
        """Tell whether a label is the name. OCR may lose the spaces between its words."""
        return words(label) in self._words or letters(label) in self._letters

    def is_nearly(self, label: str) -> bool:
        """Tell whether they differ in no more than a generic word: "Invoice" and "invoice_number"."""
        others, generic = _parted(words(label))
        known = self._generic.get(others, []) if others else []
        return any(generic == each or not (generic and each) for each in known)


# A cell is looked at from several sides: as a label, and beside and under other cells.
@functools.lru_cache(maxsize=4096)
def words(label: str) -> frozenset[str]:
    """Return the words of a label or of a field's name."""
    marked = _WORD_STARTS.sub(" ", _IN_BRACKETS.sub("", label)).replace("#", " no ")
    return frozenset(term for term in tokens(marked) if not term.endswith("~"))


@functools.lru_cache(maxsize=4096)
def letters(label: str) -> str:
    """Return the letters and digits of a label, together."""
    return re.sub(r"[\W_]+", "", plain(_IN_BRACKETS.sub("", label)))


def _parted(found: frozenset[str]) -> tuple[frozenset[str], set[str]]:
    """Return the words that are not generic, and what the others stand for."""
    return found.difference(_GENERIC), {_GENERIC[word] for word in found & _GENERIC.keys()}


class Labels:
    """The labels on some pages, with what is stated at each."""

    def __init__(self, pages: Mapping[int, Sequence[Line]], names: Sequence[str]) -> None:
        """`names`: those of all fields, so that a label is not taken for the value of another one."""
        self._fields = Name(names)
        self._longest = max([_LONGEST, *(2 * len(name) for name in names)])
        self._found = [
            (label, value._replace(page=page))
            for page, lines in pages.items()
            for label, value in self._of_page(cells.rows(lines))
        ]

    def stated(self, name: Name) -> list[Stated]:
        """Return what is stated under a name, what stands at a label of the same words first."""
        exact = [value for label, value in self._found if name.is_exactly(label)]
        near = [v for label, v in self._found if not name.is_exactly(label) and name.is_nearly(label)]
        return [*exact, *near]

    def _of_page(self, rows: list[Row]) -> Iterator[tuple[str, Stated]]:
        for number, row in enumerate(rows):
            for place, cell in enumerate(row):
                yield from self._of_cell(cell, row[place + 1 :], rows[number + 1 :])

    def _of_cell(self, cell: Line, after: Row, following: list[Row]) -> Iterator[tuple[str, Stated]]:
        if match := _LABELLED.match(cell.text) or _LED.match(cell.text):
            if match[2]:
                inner = _LABELLED.match(match[2])
                if inner and self._is_a_field(inner[1]):  # nothing is stated: the next label follows at once
                    yield from self._of_cell(cell._replace(text=match[2]), after, following)
                    return
                yield match[1], Stated(_value(match[2]), cell.score)
                return
        elif (match := _RUN_TOGETHER.match(cell.text)) and self._is_a_field(match[1]):
            # With two numbers the first may be of the label: "VAT 19 % 63.53".
            # And with words after it, it may be of a sentence: "Age 65 and over are free".
            number, rest = NUMBER.findall(match[2]), NUMBER.split(match[2], maxsplit=1)[-1]
            alone = len(number) == 1 and len(rest.split()) < _WORDS_OF_A_UNIT
            yield match[1], Stated(match[2].strip(), cell.score if alone and not after else UNSURE)
        label = _LEADERS.sub("", cell.text[::-1])[::-1]
        # What stands at labels of other names is never asked for.
        if self._is_a_field(label) and (value := self._beside_or_below(cell, after, following)):
            yield label, value

    def _beside_or_below(self, cell: Line, after: Row, following: list[Row]) -> Stated | None:
        led = bool(_LED.match(cell.text)) or bool(after and _LEADERS.match(after[0].text))
        right = self._beside(after)
        under = cells.below(cell, following)
        if under is not None and self._is_label(under.text):
            under = None
        asks = led or bool(_ASKS.search(cell.text))
        if right and (asks or under is None):
            sure = asks or any(map(str.isdigit, right.text))
            return right if sure else right._replace(score=min(right.score, UNSURE))
        if right and under:
            chosen = under.text if _has_digit(under.text) > _has_digit(right.text) else right.text
            return Stated(chosen, UNSURE)
        if under is None:
            return None
        sure = _has_digit(under.text) and not self._is_column(cell, under, following)
        return Stated(under.text.strip(), under.score if sure else UNSURE)

    def _beside(self, after: Row) -> Stated | None:
        """Return what stands to the right of a label, up to the next label."""
        values: list[Line] = []
        for other in after:
            text = _LEADERS.sub("", other.text)
            if text and self._is_label(other.text):
                break
            values += [other._replace(text=text)] if text else []
        if not values:
            return None
        if len(values) > 1 and _CURRENCY.fullmatch(values[0].text.strip()):
            first, second, *rest = values
            joined = f"{first.text.strip()} {second.text}"
            values = [second._replace(text=joined, score=min(first.score, second.score)), *rest]
        # In a row of several values, as of a table, the last is most often the sum.
        last = values[-1]
        return Stated(_value(last.text), last.score if len(values) == 1 else UNSURE)

    def _is_column(self, cell: Line, under: Line, following: list[Row]) -> bool:
        """Tell whether more stands below at the same distance, as in a table."""
        further = [row for row in following if cells.level(row[0]) > cells.level(under) + 1]
        third = cells.below(under, further)
        step = cells.level(under) - cells.level(cell)
        return third is not None and cells.level(third) - cells.level(under) < 1.4 * step

    def _is_label(self, text: str) -> bool:
        return bool(_ASKS.search(text) or _LABELLED.match(text)) or self._is_a_field(text)

    def _is_a_field(self, label: str) -> bool:
        # Most lines of running text are longer than any label: their words need not be looked at.
        if len(label) > self._longest and len(_FILLING.sub("", label)) > self._longest:
            return False
        return self._fields.is_exactly(label) or self._fields.is_nearly(label)


def _has_digit(text: str) -> bool:
    return any(map(str.isdigit, text))


def _value(text: str) -> str:
    """Return a value without the dots or the line that it stands on."""
    return re.sub(r"[.…_·]{2,}$", "", text.strip()).strip()
