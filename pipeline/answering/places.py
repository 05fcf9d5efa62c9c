"""Find where on a page the words of a quote stand."""

from __future__ import annotations

import math
import struct
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.records import Box, Page, Words

_Corners = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Layout:
    """The words of a page as one text, a line for a line, that still knows where each stands."""

    page: int
    text: str
    starts: tuple[int, ...]
    """Where each word begins in the text."""
    corners: tuple[_Corners, ...]

    def boxes(self, positions: Iterable[int]) -> tuple[Box, ...]:
        """Return one box for each line of the words that hold these positions of the text."""
        indices = sorted({bisect_right(self.starts, position) - 1 for position in positions})
        lines: list[_Corners] = []
        last: _Corners | None = None
        for corners in (self.corners[index] for index in indices):
            # Files with broken matrices have words at infinity, which Parquet holds and no viewer can draw.
            if not all(map(math.isfinite, corners)):
                continue
            if last is not None and _on_one_line(last, corners):
                lines[-1] = _around(lines[-1], corners)
            else:
                lines.append(corners)
            last = corners
        return tuple(Box(self.page, *corners) for corners in lines)


def lay_out(page: Page) -> Layout:
    """Return the words of a page's text layer as a text with places."""
    corners = _corners(page.words)
    texts = page.words.texts[: len(corners)]
    parts: list[str] = []
    starts: list[int] = []
    length = 0
    for index, text in enumerate(texts):
        if index:
            parts.append(" " if _on_one_line(corners[index - 1], corners[index]) else "\n")
            length += 1
        starts.append(length)
        parts.append(text)
        length += len(text)
    return Layout(page.ordinal, "".join(parts), tuple(starts), corners)


def _corners(words: Words) -> tuple[_Corners, ...]:
    # Four 32-bit floats a word.
    whole = len(words.corners) // 16 * 16
    return tuple(struct.iter_unpack("<4f", words.corners[:whole]))


def _on_one_line(one: _Corners, other: _Corners) -> bool:
    """Tell whether two words share more than half the height of the lower one."""
    shared = min(one[3], other[3]) - max(one[1], other[1])
    return shared > 0.5 * min(one[3] - one[1], other[3] - other[1]) and shared > 0


def _around(one: _Corners, other: _Corners) -> _Corners:
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])
