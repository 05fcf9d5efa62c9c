"""The text layer of a page: its words and their places, and whether it holds what the page shows."""

from __future__ import annotations

import functools
from array import array
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.reading import letters
from pipeline.records import Words, clean_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

Rectangle = tuple[float, float, float, float]

_LOOKED_AT = 32
"""Words of a page whose places are looked at for ink."""
_VISIBLE = 12
"""Levels of grey by which ink differs from what is under it."""
_CELL_PX = 4
_EDGE = 48
"""Levels of grey within a cell that has an edge: of a letter, a line, or of much in a photograph."""


class Layer(NamedTuple):
    text: str
    words: Words
    pictures: list[Rectangle]
    """Where images are drawn, in points."""


def read(content: Any) -> Layer:
    """Return the text layer of a page from its display list."""
    import pymupdf

    keep = pymupdf.TEXT_PRESERVE_LIGATURES | pymupdf.TEXT_PRESERVE_WHITESPACE | pymupdf.TEXT_PRESERVE_IMAGES
    textpage: Any = pymupdf.TextPage(content.get_textpage(keep))  # type: ignore[no-untyped-call]
    found = textpage.extractWORDS()
    # A tuple a word is much to make and to send: the corners go as one block of bytes.
    corners = array("f", chain.from_iterable(map(itemgetter(0, 1, 2, 3), found))).tobytes()
    texts = tuple(map(itemgetter(4), found))
    raw = textpage.extractText()
    text = clean_text(raw)
    if text != raw:
        texts = tuple(map(clean_text, texts))
    return Layer(text, Words(texts, corners), _pictures(textpage))


def _pictures(textpage: Any) -> list[Rectangle]:
    import pymupdf

    found = []
    block = textpage.this.m_internal.first_block
    while block:
        if block.type == pymupdf.mupdf.FZ_STEXT_BLOCK_IMAGE:
            box = block.bbox
            found.append((box.x0, box.y0, box.x1, box.y1))
        block = block.next
    return found


def covers(layer: Layer, pixels: Pixels, scale_x: float, scale_y: float) -> bool:
    """Tell whether a text layer holds what its page, drawn as `pixels` (height, width, 3), shows.

    It does not where it is a cipher, where its words stand on nothing, and where it is a stamp, a header or a
    page number on a scan.
    """
    import numpy as np

    if not layer.words.texts or not letters.is_written(layer.text):
        return False
    scale = np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
    boxes = np.frombuffer(layer.words.corners, np.float32).reshape(-1, 4) * scale
    if not _is_seen(boxes, pixels):
        return False
    return not layer.pictures or not _is_stamp(boxes, np.array(layer.pictures, np.float32) * scale, pixels)


def _is_seen(boxes: NDArray[np.float32], pixels: Pixels) -> bool:
    """Tell whether there is ink where most of some words are said to be."""
    sample = boxes[:: max(len(boxes) // _LOOKED_AT, 1)]
    seen = 0
    for x0, y0, x1, y1 in sample.clip(0).astype(int).tolist():
        under = pixels[y0 : y1 + 1, x0 : x1 + 1]
        # Green is most of what one sees; of an ink that only the others show, they are looked at in turn.
        seen += any(
            under.size and int(under[:, :, color].max()) - int(under[:, :, color].min()) >= _VISIBLE
            for color in (1, 0, 2)
        )
    return 2 * seen >= len(sample)


def _is_stamp(boxes: NDArray[np.float32], pictures: NDArray[np.float32], pixels: Pixels) -> bool:
    """Tell whether most of what there is to see lies in pictures, and no words are there."""
    edges = _edges(pixels)
    pictured, worded = _painted(pictures, edges.shape), _painted(boxes, edges.shape)
    area = pictured.mean()
    if area < 0.1:
        return False
    unread = (edges & pictured & ~worded).sum()
    return bool(unread > (0.5 if area >= 0.5 else 0.8) * edges.sum())


def _edges(pixels: Pixels) -> NDArray[np.bool_]:
    """Return a map of the cells of 4 x 4 pixels that have an edge."""
    import numpy as np

    height, width = (side // _CELL_PX * _CELL_PX for side in pixels.shape[:2])
    cells = pixels[:height, :width, 1].reshape(height // _CELL_PX, _CELL_PX, width // _CELL_PX, _CELL_PX)
    rows = [cells[:, n] for n in range(_CELL_PX)]
    high, low = functools.reduce(np.maximum, rows), functools.reduce(np.minimum, rows)
    return np.asarray(high.max(axis=2) - low.min(axis=2) > _EDGE)


def _painted(boxes: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return a map of the cells that any of some rectangles, in pixels, touches."""
    import numpy as np

    painted = np.zeros(shape, bool)
    for x0, y0, x1, y1 in (boxes.clip(0, 1e6) / _CELL_PX).astype(int).tolist():
        painted[y0 : y1 + 1, x0 : x1 + 1] = True
    return painted
