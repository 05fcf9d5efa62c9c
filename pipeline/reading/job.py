"""What a worker that draws is told, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pipeline.records import Words


@dataclass(frozen=True, slots=True)
class Geometry:
    """What the model's image encoder takes as it is: sides of whole patches, none over `max_px`."""

    max_px: int
    patch_px: int

    def fit(self, width: float, height: float, *, enlarge: bool) -> tuple[int, int]:
        """Return the size in pixels at which an encoder need not resample a `width` x `height` page."""
        ratio = max(width, height) / self.max_px
        if ratio > 1 or enlarge:
            width, height = max(round(width / ratio), 1), max(round(height / ratio), 1)
        return self._whole(width), self._whole(height)

    def _whole(self, side: float) -> int:
        return ((int(side) - 1) // self.patch_px + 1) * self.patch_px


class Job(NamedTuple):
    """What a worker needs to open a document."""

    path: str
    source: str
    kind: str
    password: str | None
    max_pixels: int


class Rendered(NamedTuple):
    """A page that has been drawn; what its fields mean is said at `records.Page`."""

    text: str
    words: Words
    text_covers: bool
    blank: bool
    faint: bool
    points_per_px: float
    seconds: float


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
