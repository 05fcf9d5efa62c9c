"""Tell what MuPDF could not decode of a page, and whether another picture of it shows more."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

# MuPDF has no codes for its warnings, only words. These say that part of a page is missing or wrong.
_LOST = re.compile(
    r"treating as end of file|truncated|page may not be correct|leaving it blank|cannot (decode|render|draw)"
    r"|library error|zlib error|jbig2|jpx|jpeg error|cannot find \w+ resource|too large|too many|overly large"
    r"|recursive|cannot load (object|content|shading)",
    re.IGNORECASE,
)
# These say nothing about what a page shows: the structure of the file, which fonts stand in for others.
_HARMLESS = re.compile(
    r"xref|repair|version marker|page tree|trailer|stream Length incorrect|begin marker|endobj|endstream"
    r"|startxref|generation number|font|glyph|icc|cmap|cid|encoding|structure|\.\.\. repeated|non-page object"
    r"|annotation|outline|link|workaround|broken xref|invalid key in dict|hex string|garbage bytes",
    re.IGNORECASE,
)

_CELL_PX = 4
_EDGE = 32
"""Levels by which the pixels of a cell, or its mean red, green and blue, differ where it shows anything."""
_FEWEST_CELLS = 6
"""Cells by which a picture shows more: those of a short word."""


class Damage(NamedTuple):
    is_doubtful: bool
    """A second renderer may see more."""
    is_lost: bool
    """Part of the page could not be decoded."""


def forget() -> None:
    """Forget what MuPDF has warned of so far."""
    import pymupdf

    pymupdf.TOOLS.mupdf_warnings(reset=True)


def since_forgotten() -> Damage:
    """Return what MuPDF has warned of since, and forget it."""
    import pymupdf

    lines = pymupdf.TOOLS.mupdf_warnings(reset=True).splitlines()
    lost = any(_LOST.search(line) for line in lines)
    return Damage(lost or any(not _HARMLESS.search(line) for line in lines), lost)


def shows_more(other: Image, first: Image) -> bool:
    """Tell whether `other` shows what `first`, of the same size, lacks, and lacks less than it adds.

    What could not be decoded is white, black or grey: edges and colours count where the other has none.
    """
    others, firsts = shown(other), shown(first)
    # Twice as much: two pictures of the same page differ a little both ways, by fonts and smoothing.
    added = int((others & ~widened(firsts)).sum())
    missing = int((firsts & ~widened(others)).sum())
    return added >= _FEWEST_CELLS and added > 2 * missing


def shown(image: Image) -> NDArray[np.bool_]:
    """Return a map of the cells of 4 x 4 pixels that have an edge or a colour."""
    import numpy as np

    colours = image.convert("RGB")
    pixels = np.asarray(colours)
    height, width = (side // _CELL_PX for side in pixels.shape[:2])
    whole = pixels[: height * _CELL_PX, : width * _CELL_PX]
    # Every fourth row and column at a time: numpy takes ten times as long over axes of four.
    each = [whole[row::_CELL_PX, column::_CELL_PX] for row in range(_CELL_PX) for column in range(_CELL_PX)]
    edges = (functools.reduce(np.maximum, each) - functools.reduce(np.minimum, each)).max(axis=2)
    means = np.asarray(colours.reduce(_CELL_PX))[:height, :width]
    found: NDArray[np.bool_] = (edges > _EDGE) | (means.max(axis=2) - means.min(axis=2) > _EDGE)
    return found


def widened(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a map with each cell's neighbours: two renderers set lines a pixel or two apart."""
    wide = cells.copy()
    wide[1:] |= cells[:-1]
    wide[:-1] |= cells[1:]
    sideways = wide.copy()
    sideways[:, 1:] |= wide[:, :-1]
    sideways[:, :-1] |= wide[:, 1:]
    return sideways
