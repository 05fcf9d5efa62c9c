"""Pages to learn to read from: a few named codes in large print, drawn by MuPDF as the pipeline does."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pymupdf
from numpy.typing import NDArray

NAMES = ("Order", "Batch", "Crate", "Ticket", "Locker", "Invoice")
LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"
DIGITS = "23456789"
CHARACTERS = LETTERS + DIGITS
"""Without those that look like others in some fonts: 0, 1, I, O, Q."""
CODE = (LETTERS, DIGITS, LETTERS, DIGITS, LETTERS)
"""Letters and digits in turn: the tokenizer gives each of them a token of its own."""
PATCH_PX = 16
SIZES_PX = ((256, 128), (256, 160), (240, 176), (224, 192), (192, 224))
"""Widths and heights of pages, in whole patches of Pixtral; a page has as many points as pixels."""

FONTS = (
    "helv", "hebo", "tiro", "tibo", "cour", "cobo", "coit", "figo", "figbo", "figit", "fimo", "fimbo",
    "notos", "notosbo", "spacemo", "spacembo", "cascadia", "cascadiab", "cascadiai",
)  # fmt: skip
"""Of MuPDF and the package pymupdf-fonts: to train with. A font may also be the path of its file."""
HELD_OUT_FONTS = ("ubuntu", "ubuntubo", "ubuntm", "heit", "tiit", "notosit")
"""To judge with: never trained on, a whole family among them."""
_SMALLEST_PT, _LARGEST_PT = 19, 30
_MARGIN_PT = 6


@dataclass(frozen=True, slots=True)
class Line:
    """A named code as it stands on a page."""

    name: str
    code: str
    font: str
    size_pt: float
    x_pt: float
    baseline_pt: float

    @property
    def text(self) -> str:
        """What is printed, which is also the quote."""
        return f"{self.name} {self.code}"


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a size, with its lines from top to bottom; no name stands on it twice."""

    width_px: int
    height_px: int
    lines: tuple[Line, ...]
    ink: float
    """0 (black) to 0.5."""


def code(rng: random.Random) -> str:
    """Make up a code."""
    return "".join(map(rng.choice, CODE))


def page(
    rng: random.Random, size_px: tuple[int, int], fonts: Sequence[str], names: Sequence[str] = NAMES
) -> Page:
    """Make up a page with one to three lines, of those names, in one font, that do not touch."""
    width, height = size_px
    size = rng.uniform(_SMALLEST_PT, _LARGEST_PT)
    font = rng.choice(fonts)
    pitch = 1.25 * size
    most = min(3, len(names), int((height - 2 * _MARGIN_PT) // pitch))
    chosen = rng.sample(list(names), rng.randint(1, max(1, most)))
    free = height - 2 * _MARGIN_PT - pitch * len(chosen)
    gaps = sorted(rng.uniform(0, max(0.0, free)) for _ in chosen)
    lines = []
    for number, (name, gap) in enumerate(zip(chosen, gaps, strict=True)):
        text, room = code(rng), width - 2 * _MARGIN_PT
        wide = _width(font, f"{name} {text}")
        fitting = min(size, room / wide)
        x = _MARGIN_PT + rng.uniform(0, room - fitting * wide)
        baseline = _MARGIN_PT + gap + pitch * number + 0.95 * size
        lines.append(Line(name, text, font, fitting, x, baseline))
    return Page(width, height, tuple(lines), rng.choice((0.0, 0.0, rng.uniform(0, 0.5))))


def write(document: pymupdf.Document, given: Page) -> pymupdf.Page:
    """Add a page to a PDF, with its text as text."""
    written = document.new_page(width=given.width_px, height=given.height_px)
    writer = pymupdf.TextWriter(written.rect)
    for line in given.lines:
        writer.append((line.x_pt, line.baseline_pt), line.text, _font(line.font), line.size_pt)
    writer.write_text(written, color=(given.ink,) * 3)
    return written


class Painter:
    """Draws pages, one after the other in the same PDF, whose fonts are then read once."""

    _PAGES = 500
    """After which a new PDF begins: it holds all that was drawn."""

    def __init__(self) -> None:
        self._document = pymupdf.open()

    def draw(self, given: Page) -> NDArray[np.uint8]:
        """Return the image of a page, height by width, in grey."""
        if len(self._document) >= self._PAGES:
            self._document = pymupdf.open()
        pixels = write(self._document, given).get_pixmap(colorspace=pymupdf.csGRAY, alpha=False)
        return np.frombuffer(pixels.samples, np.uint8).reshape(given.height_px, given.width_px).copy()


def seen(given: Page) -> NDArray[np.uint8]:
    """Return what is to be seen in each patch of a page: (rows, columns, 1 + twice the length of a code).

    First 1 + the place in NAMES of the name of the code that the patch has a part of; then 1 + the place in
    CHARACTERS of the code's first to last character where the middle of that character lies in the patch;
    then the same of each character of the code, wherever in the code the patch is. Else 0.
    """
    length = len(CODE)
    found = np.zeros((given.height_px // PATCH_PX, given.width_px // PATCH_PX, 1 + 2 * length), np.uint8)
    for line in given.lines:
        whole = [1 + CHARACTERS.index(character) for character in line.code]
        for place, patch in enumerate(patches(line)):
            found[patch][0] = 1 + NAMES.index(line.name)
            found[patch][1 + place] = whole[place]
            found[patch][1 + length :] = whole
    return found


def patches(line: Line) -> list[tuple[int, int]]:
    """Return the (row, column) of the patch in which the middle of each character of a code lies."""
    row = int((line.baseline_pt - 0.35 * line.size_pt) // PATCH_PX)
    before = _width(line.font, f"{line.name} ")
    ends = [
        line.size_pt * (before + _width(line.font, line.code[:place])) for place in range(len(line.code) + 1)
    ]
    middles = [(left + right) / 2 for left, right in itertools.pairwise(ends)]
    return [(row, int((line.x_pt + middle) // PATCH_PX)) for middle in middles]


def _width(font: str, text: str) -> float:
    """Return how wide a text is, in its size."""
    return sum(_advance(font, character) for character in text)


@functools.cache
def _advance(font: str, character: str) -> float:
    return float(_font(font).glyph_advance(ord(character)))


@functools.cache
def _font(name: str) -> pymupdf.Font:
    return pymupdf.Font(fontfile=name) if "/" in name else pymupdf.Font(name)


def fonts_in(folder: Path) -> list[str]:
    """Return the files of fonts in a folder that have all characters of names and codes."""
    needed = set("".join(NAMES) + CHARACTERS)
    found = []
    for file in sorted((*folder.rglob("*.ttf"), *folder.rglob("*.otf"))):
        font = pymupdf.Font(fontfile=str(file))
        if all(font.has_glyph(ord(character)) for character in needed):
            found.append(str(file))
    return found
