"""Read lines of right-to-left scripts that a text layer holds in the order in which the eye sees them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

# The classes of Unicode's bidirectional algorithm (UAX 9), as far as its reordering of lines needs them.
_SORTS = {"R": "R", "AL": "R", "L": "L", "EN": "E", "AN": "E", "ES": "S", "CS": "S", "ET": "S", "NSM": "M"}
# What runs from left to right all the same: words of other scripts with what is between them; numbers alone.
_LEFT_TO_RIGHT = re.compile(r"(?=[^R]*L)[LE](?:[^R]*[LE])?|E(?:[ESM]*E)?")
_RIGHT_TO_LEFT = re.compile(r"R(?:[^LE]*R)?")
_RUN = re.compile(f"{_LEFT_TO_RIGHT.pattern}|{_RIGHT_TO_LEFT.pattern}|.")

GAP = -1
"""Stands for white space that the text does not have."""

Order = list[int]
"""Positions in a text, in the order in which to read them; GAP among them."""


class _Sorts(dict[int, str]):
    """Work out a character's direction when it is first met: `str.translate` asks by code point."""

    def __missing__(self, code: int) -> str:
        self[code] = _SORTS.get(unicodedata.bidirectional(chr(code)), "O")
        return self[code]


_KNOWN = _Sorts()


def has_right_to_left(text: str) -> bool:
    """Tell whether any letter of a text is of a right-to-left script."""
    return "R" in text.translate(_KNOWN)


def orders(text: str) -> Iterator[Order]:
    """Yield other orders in which a text with right-to-left lines may be meant; none without such lines."""
    if not has_right_to_left(text):
        return
    # Files differ: letters as seen, words as read in a line as seen, or words as seen in a line as read.
    for turn in (_turn_line, _turn_order, _turn_runs):
        yield list(_by_line(text, turn))


def _by_line(text: str, turn: Callable[[str, str, range], Order]) -> Iterator[int]:
    start = 0
    for line in text.splitlines(keepends=True):
        body = line.rstrip("\r\n")
        sorts = body.translate(_KNOWN)
        places = range(start, start + len(body))
        yield from turn(body, sorts, places) if "R" in sorts else places
        start += len(line)
        # The break of the line stays at its end, so that positions of the next lines still fit.
        yield from range(start - len(line) + len(body), start)


def _turn_line(line: str, sorts: str, places: range) -> Order:
    """Turn a whole line round, but for what runs from left to right in it."""
    turned = list(reversed(places))
    for run in _LEFT_TO_RIGHT.finditer(sorts[::-1]):
        turned[run.start() : run.end()] = reversed(turned[run.start() : run.end()])
    return turned


def _turn_order(line: str, sorts: str, places: range) -> Order:
    """Turn the order of runs round, and leave each as it is: MuPDF has set only their letters right."""
    pieces = [places[run.start() : run.end()] for run in _RUN.finditer(sorts)]
    return [place for piece in reversed(pieces) for place in (*piece, GAP)]


def _turn_runs(line: str, sorts: str, places: range) -> Order:
    """Turn right-to-left words round in a line that runs from left to right."""
    turned = list(places)
    for run in _RIGHT_TO_LEFT.finditer(sorts):
        turned[run.start() : run.end()] = reversed(turned[run.start() : run.end()])
    return turned
