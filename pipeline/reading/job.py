"""What a worker that draws is told, and what it returns."""

from __future__ import annotations

import stringprep
import unicodedata
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.records import Part, Words

WHOLE = Part(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Geometry:
    """What the model's image encoder takes as it is: sides of whole patches, none over `max_px`."""

    max_px: int
    patch_px: int
    crop: str = "none"
    """`ink`: without margins at the same pixels per point; `zoom`: at as many tokens."""

    def fit(self, width: float, height: float, *, enlarge: bool) -> tuple[int, int]:
        """Return the size in pixels at which an encoder need not resample a `width` x `height` page."""
        ratio = max(width, height) / self.max_px
        # In the steps of mistral_common, rounding first: another size here would be resampled there.
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
    bytes: int = 0
    changed_ns: int = 0
    """Size and time of the last change when its bytes were hashed; a time of 0 where that is not known."""
    second: bool = True
    """PDFium may be tried as well."""
    sample: bool = False
    """What is measured comes with the text of the first page."""

    @property
    def passwords(self) -> list[str]:
        """Return the password as it was typed and as PDF 2.0 normalises it (SASLprep)."""
        if not self.password:
            return []
        return list(dict.fromkeys([self.password, _saslprep(self.password)]))


def _saslprep(password: str) -> str:
    # RFC 4013: spaces of any kind become one kind, and what is mapped to nothing goes.
    mapped = (
        " " if stringprep.in_table_c12(character) else character
        for character in password
        if not stringprep.in_table_b1(character)
    )
    return unicodedata.normalize("NFKC", "".join(mapped))


class Sheet(NamedTuple):
    """An image that a document will have: a page of the file, or a part of one of another shape."""

    number: int
    """1-based page of the file."""
    width_px: int
    height_px: int
    part: Part = WHOLE
    crop: Part = WHOLE
    """Of a whole page: what is shown of it, its margins cut off; places on it stay those of the page."""

    @property
    def shown(self) -> Part:
        """What of the page is in the image."""
        return self.crop if self.part == WHOLE else self.part


class Measured(NamedTuple):
    """What is known of a document once it was opened."""

    sheets: list[Sheet]
    is_repaired: bool | None = None
    """Its structure was damaged and has been rebuilt; None for kinds of which that is not known."""
    sample: str | None = None
    """A little of the text of its first page, where the job asks for it."""


class Rendered(NamedTuple):
    """A page that has been drawn; what its fields mean is said at `records.Page`."""

    text: str
    words: Words
    text_covers: bool
    blank: bool
    faint: bool
    damaged: bool
    points_per_px: tuple[float, float]
    origin: tuple[float, float] = (0.0, 0.0)
    """Where the image begins on the page, in points."""
    seconds: float = 0.0


def first_line(error: BaseException) -> str:
    """Return the first line of what an error, or the one behind it, says; its type where it says nothing."""
    # PyMuPDF's own errors name the file with its whole path, which is not for tables; MuPDF's say the reason.
    while error.__cause__ is not None:
        error = error.__cause__
    said = (str(error).splitlines() or [""])[0].strip()
    return said.partition(": ")[2] if said.startswith("code=") else said or type(error).__name__
