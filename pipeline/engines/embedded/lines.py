"""A line of text, and where it stands on the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Place = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the page's image, from its top left corner."""


class Line(NamedTuple):
    text: str
    place: Place | None = None
    """Known of what was read by OCR; a text layer has places of its own."""
    score: float = 1.0
    """How sure the OCR is of it, 0 to 1."""
    slope: float = 0.0
    """By how much the lines of its page run down to the right, as a share of the way."""


def in_points(line: Line, points_per_px: tuple[float, float]) -> Line:
    """Return a line that was read off a page image with its place in points of the page."""
    if line.place is None:
        return line
    # Boxes go into tables: more digits than the eye can see would only cost space.
    x0, y0, x1, y1 = (round(scale * at, 2) for scale, at in zip(2 * points_per_px, line.place, strict=True))
    return line._replace(place=(x0, y0, x1, y1))


def lines_of(text: str) -> list[Line]:
    """Return the lines of a text layer."""
    return [Line(line) for line in text.splitlines()]


def text_of(lines: Sequence[Line]) -> str:
    """Return lines as text."""
    return "\n".join(line.text for line in lines)


def legibility(lines: list[Line]) -> float:
    """Return how sure the reading of some lines is: the mean score of their characters; 0 without any."""
    characters = sum(len(line.text) for line in lines)
    return sum(len(line.text) * line.score for line in lines) / characters if characters else 0.0
