"""Cut pages of another shape than a page (receipts, long web pages, strips) into images that can be read."""

from __future__ import annotations

import math

from pipeline.errors import TooLarge
from pipeline.reading.job import WHOLE, Geometry, Sheet
from pipeline.records import Part

_TALLEST, _WIDEST = 2.5, 5.0
"""Sides of a page to each other, beyond which it is cut if it would be too small otherwise.

What is wide is more often one chart or table, what is tall a text that goes on."""
_PIECE = 1.5
"""Sides of a piece to each other."""
_OVERLAP = 0.1
"""Share of a piece that the next one shows again, so that no line is cut in both."""
_MOST_PIECES = 200

PAGE_PT = 842.0
"""The long side of A4: at this size in the model's pixels, print can be read."""


def sheets(
    number: int, width: float, height: float, geometry: Geometry, *, legible: float, enlarge: bool
) -> list[Sheet]:
    """Return the images of page `number`: one, or pieces of about a page's shape from its start to its end.

    `legible`: length, in the unit of `width` and `height`, that may fill the longest side of an image.
    Raises TooLarge when these would be too many.
    """
    long, short = max(width, height), min(width, height)
    most = _TALLEST if height > width else _WIDEST
    if long <= most * short or long <= 1.5 * legible:
        return [Sheet(number, *geometry.fit(width, height, enlarge=enlarge))]
    piece = min(max(_PIECE * short, legible), long)
    step = piece * (1 - _OVERLAP)
    count = 1 + math.ceil((long - piece) / step)
    if count > _MOST_PIECES:
        raise TooLarge(f"page {number}: {width:.0f} x {height:.0f}, {count} images long; cut it")
    # Spread evenly, so that the last piece is as large as the others.
    starts = [index * (long - piece) / (count - 1) for index in range(count)]
    return [_piece(number, width, height, start, piece, geometry, enlarge) for start in starts]


def _piece(
    number: int, width: float, height: float, start: float, length: float, geometry: Geometry, enlarge: bool
) -> Sheet:
    if height >= width:
        part = WHOLE._replace(y0=start / height, y1=(start + length) / height)
        return Sheet(number, *geometry.fit(width, length, enlarge=enlarge), part)
    part = WHOLE._replace(x0=start / width, x1=(start + length) / width)
    return Sheet(number, *geometry.fit(length, height, enlarge=enlarge), part)


def box(part: Part, width: float, height: float) -> tuple[float, float, float, float]:
    """Return the corners of a part of a page of this size."""
    return part.x0 * width, part.y0 * height, part.x1 * width, part.y1 * height
