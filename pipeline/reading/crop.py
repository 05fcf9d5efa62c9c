"""Cut the white margin off a page: the same print takes fewer tokens, or larger print as many."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pipeline.reading import damage, layer, opening
from pipeline.reading.job import WHOLE, Geometry, Sheet
from pipeline.records import Part

if TYPE_CHECKING:
    import pymupdf

_LOOK_PX = 512
"""Longest side at which margins are looked for."""
_WHITE = 250
"""Levels from which on a pixel is paper; at this size a hairline is far below."""
_MARGIN_PT = 4.0
_MOST_ZOOM = 2.0

_Rectangle = tuple[float, float, float, float]


def cropped(sheet: Sheet, found: opening.Opened, geometry: Geometry) -> Sheet:
    """Return a sheet that shows a page without its margins, where that makes a difference."""
    if geometry.crop == "none" or sheet.part != WHOLE:
        return sheet
    page = _page(found, sheet.number - 1)
    if page is None:
        return sheet
    width, height = page.rect.width, page.rect.height
    ink = _ink(page)
    # What MuPDF could not draw may be where it shows paper.
    if ink is None or damage.since_forgotten().is_doubtful:
        return sheet
    return _fitted(sheet, ink, width, height, geometry)


def _page(found: opening.Opened, index: int) -> pymupdf.Page | None:
    import pymupdf

    # These may be drawn by PDFium, which shows more: what MuPDF leaves white is no margin then.
    if found.is_repaired or opening.hides_by_expression(found, index):
        return None
    damage.forget()
    try:
        return opening.load(found, index)
    except (pymupdf.mupdf.FzErrorBase, RuntimeError, ValueError):
        return None


def _ink(page: pymupdf.Page) -> _Rectangle | None:
    """Return the rectangle, in points from the page's corner, of all that is drawn or written on it."""
    import numpy as np
    import pymupdf

    scale = _LOOK_PX / max(page.rect.width, page.rect.height)
    try:
        content = page.get_displaylist()
        pixmap = content.get_pixmap(
            matrix=pymupdf.Matrix(scale, scale), colorspace=pymupdf.csGRAY, alpha=False
        )
        words = layer.read(content).words
    except (pymupdf.mupdf.FzErrorBase, RuntimeError, ValueError):
        return None
    levels = np.frombuffer(pixmap.samples_mv, np.uint8).reshape(pixmap.height, pixmap.stride)[
        :, : pixmap.width
    ]
    rows, columns = (np.flatnonzero((levels < _WHITE).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    drawn = (columns[0] / scale, rows[0] / scale, (columns[-1] + 1) / scale, (rows[-1] + 1) / scale)
    # Words that are as white as the paper, or invisible over a picture, stay inside as well.
    places = np.frombuffer(words.corners, np.float32).reshape(-1, 4)
    corners = np.vstack([np.array([drawn]), places[np.isfinite(places).all(axis=1)]])
    x0, y0 = corners[:, :2].min(axis=0) - _MARGIN_PT
    x1, y1 = corners[:, 2:].max(axis=0) + _MARGIN_PT
    return (
        max(0.0, float(x0)),
        max(0.0, float(y0)),
        min(page.rect.width, float(x1)),
        min(page.rect.height, float(y1)),
    )


def _fitted(sheet: Sheet, ink: _Rectangle, width: float, height: float, geometry: Geometry) -> Sheet:
    """Return the sheet at the same pixels per point, or at as many tokens (`zoom`)."""
    x0, y0, x1, y1 = ink
    scale = max(sheet.width_px / width, sheet.height_px / height)
    if geometry.crop == "zoom":
        gain = math.sqrt(width * height / ((x1 - x0) * (y1 - y0)))
        scale *= min(_MOST_ZOOM, gain, geometry.max_px / (scale * max(x1 - x0, y1 - y0)))
    patch = geometry.patch_px
    x0, x1, width_px = _whole(x0, x1, width, scale, patch)
    y0, y1, height_px = _whole(y0, y1, height, scale, patch)
    width_px, height_px = min(width_px, geometry.max_px), min(height_px, geometry.max_px)
    if (width_px, height_px) == (sheet.width_px, sheet.height_px) and geometry.crop == "ink":
        return sheet
    return Sheet(
        sheet.number, width_px, height_px, WHOLE, Part(x0 / width, y0 / height, x1 / width, y1 / height)
    )


def _whole(low: float, high: float, side: float, scale: float, patch_px: int) -> tuple[float, float, int]:
    """Widen an interval of a side, within it, to whole patches; return it with its length in pixels."""
    # Less a little: by rounding alone a length of whole patches would have one patch more.
    px = math.ceil((high - low) * scale / patch_px - 1e-6) * patch_px
    length = min(max(px / scale, high - low), side)
    start = min(max(0.0, (low + high - length) / 2), side - length)
    return start, start + length, px
