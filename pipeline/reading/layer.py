"""The text layer of a page: its words and their places, and whether it holds what the page shows."""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from pipeline.reading import letters
from pipeline.records import Words
from pipeline.texts import clean_text

if TYPE_CHECKING:
    import numpy as np
    import pymupdf
    from numpy.typing import NDArray

Rectangle = tuple[float, float, float, float]

_LOOKED_AT = 10
"""Words of a page whose places are looked at for ink."""
_VISIBLE = 12
"""Levels of grey by which ink differs from what is under it."""
_CELL_PX = 4
_EDGE = 48
"""Levels of grey within a cell that has an edge: of a letter, a line, or of much in a photograph."""

_FEW_WORDS = 60
_CROSSINGS, _LINE_PX, _FEWEST_LINES = 20, (4, 40), 5
"""Edges across a line of text, its height, and how many lines are a text."""


class Layer(NamedTuple):
    text: str
    words: Words
    pictures: list[Rectangle]
    """Where images are drawn, in points."""


def read(content: pymupdf.DisplayList) -> Layer:
    """Return the text layer of a page from its display list."""
    import pymupdf

    keep = pymupdf.TEXT_PRESERVE_LIGATURES | pymupdf.TEXT_PRESERVE_WHITESPACE | pymupdf.TEXT_PRESERVE_IMAGES
    # Texts that a file gives in place of what it draws (/ActualText) may say something else.
    keep |= pymupdf.mupdf.FZ_STEXT_IGNORE_ACTUALTEXT
    textpage = pymupdf.TextPage(content.get_textpage(keep))
    found: list[tuple[float, float, float, float, str]] = textpage.extractWORDS()
    # A tuple a word is much to make and to send: the corners go as one block of bytes.
    corners = struct.pack(f"{4 * len(found)}f", *chain.from_iterable(map(itemgetter(0, 1, 2, 3), found)))
    texts = tuple(map(itemgetter(4), found))
    raw = textpage.extractText()
    text = clean_text(raw)
    if text != raw:
        texts = tuple(map(clean_text, texts))
    return Layer(text, Words(texts, corners), _pictures(textpage))


def within(layer: Layer, box: Rectangle) -> Layer:
    """Return what of a text layer lies in a part of the page, with places from that part's corner."""
    import numpy as np

    left, top, right, bottom = box
    places = np.frombuffer(layer.words.corners, np.float32).reshape(-1, 4)
    middle = (places[:, :2] + places[:, 2:]) / 2
    low, high = np.array([left, top]), np.array([right, bottom])
    # By its middle, so that a word on the edge is whole in one part, or in both where they overlap.
    inside: NDArray[np.bool_] = np.all((middle >= low) & (middle < high), axis=1)
    texts = tuple(text for text, kept in zip(layer.words.texts, inside.tolist(), strict=True) if kept)
    moved = (places[inside] - np.array([left, top, left, top], np.float32)).astype(np.float32)
    pictures = [
        (max(x0, left) - left, max(y0, top) - top, min(x1, right) - left, min(y1, bottom) - top)
        for x0, y0, x1, y1 in layer.pictures
        if x0 < right and x1 > left and y0 < bottom and y1 > top
    ]
    return Layer(_as_lines(texts, moved), Words(texts, moved.tobytes()), pictures)


def _as_lines(texts: Sequence[str], places: NDArray[np.float32]) -> str:
    """Return words as text: a new line where one stands lower or further left than the one before."""
    parts: list[str] = []
    for index, text in enumerate(texts):
        if index:
            x0, middle = places[index, 0], (places[index, 1] + places[index, 3]) / 2
            follows = x0 >= places[index - 1, 0] and middle < places[index - 1, 3]
            parts.append(" " if follows else "\n")
        parts.append(text)
    return "".join(parts)


def _pictures(textpage: pymupdf.TextPage) -> list[Rectangle]:
    import pymupdf

    found = []
    block = textpage.this.m_internal.first_block
    while block:
        if block.type == pymupdf.mupdf.FZ_STEXT_BLOCK_IMAGE:
            box = block.bbox
            found.append((box.x0, box.y0, box.x1, box.y1))
        block = block.next
    return found


def covers(layer: Layer, samples: memoryview, width_px: int, scale: tuple[float, float]) -> bool:
    """Tell whether a text layer holds what its page, drawn as RGB `samples`, shows.

    It does not where it is a cipher, where its words stand on nothing, and where it is a stamp, a header or a
    page number on a scan or on a text of outlines. `scale`: pixels per point across and down.
    """
    if not layer.words.texts or not letters.is_written(layer.text):
        return False
    if not is_seen(layer.words, samples, width_px, scale):
        return False
    if layer.pictures and _is_stamp(layer, samples, width_px, scale):
        return False
    return len(layer.words.texts) > _FEW_WORDS or not _is_beside_outlines(layer, samples, width_px, scale)


def is_seen(words: Words, samples: memoryview, width_px: int, scale: tuple[float, float]) -> bool:
    """Tell whether there is ink where most of some words are said to be, of those on the page."""
    # The dots of a table of contents are thinner than the lines that are looked at.
    letters_or_digits = [index for index, text in enumerate(words.texts) if text[:1].isalnum()]
    chosen = letters_or_digits[:: max(len(letters_or_digits) // _LOOKED_AT, 1)]
    found = [_has_ink(words.place(index), samples, width_px, scale) for index in chosen]
    on_page = [has_ink for has_ink in found if has_ink is not None]
    return not chosen or 0 < len(on_page) <= 2 * sum(on_page)


def _has_ink(
    place: tuple[float, float, float, float], samples: memoryview, width_px: int, scale: tuple[float, float]
) -> bool | None:
    """Tell whether the pixels of some lines through a rectangle differ; None where it is not on the page."""
    if not all(map(math.isfinite, place)):
        return None
    x0, y0, x1, y1 = place
    left, right = max(int(x0 * scale[0]), 0), min(int(x1 * scale[0]) + 1, width_px)
    lines = {int((y0 + part * (y1 - y0)) * scale[1]) for part in (0.4, 0.6, 0.8)}
    starts = [3 * width_px * line for line in lines if line >= 0]
    # Green is most of what one sees; red and blue are looked at where it shows nothing.
    for color in (1, 0, 2):
        rows = [samples[at + 3 * left + color : at + 3 * max(left, right) : 3] for at in starts]
        levels = b"".join([row.tobytes() for row in rows])
        if not levels:
            return None
        if max(levels) - min(levels) >= _VISIBLE:
            return True
    return False


def _is_stamp(layer: Layer, samples: memoryview, width_px: int, scale: tuple[float, float]) -> bool:
    """Tell whether most of what there is to see lies in pictures, and no words are there."""
    import numpy as np

    edges = _edges(np.frombuffer(samples, np.uint8).reshape(-1, width_px, 3))
    to_cells = np.array([*scale, *scale], np.float32) / np.float32(_CELL_PX)
    places = np.frombuffer(layer.words.corners, np.float32).reshape(-1, 4)
    pictured = _painted(np.array(layer.pictures, np.float32) * to_cells, edges.shape)
    worded = _painted(places * to_cells, edges.shape)
    unread = float((edges & pictured & ~worded).sum()) / max(float(edges.sum()), 1)
    area = float(pictured.mean())
    return area >= 0.1 and unread > (0.5 if area >= 0.5 else 0.8)


def _is_beside_outlines(layer: Layer, samples: memoryview, width_px: int, scale: tuple[float, float]) -> bool:
    """Tell whether there are lines of text on a page, and hardly any of what it shows has words."""
    import numpy as np

    pixels = np.frombuffer(samples, np.uint8).reshape(-1, width_px, 3)
    edges = _edges(pixels)
    places = np.frombuffer(layer.words.corners, np.float32).reshape(-1, 4)
    to_cells = np.array([*scale, *scale], np.float32) / np.float32(_CELL_PX)
    unread = float((edges & ~_painted(places * to_cells, edges.shape)).sum())
    if unread < 0.8 * float(edges.sum()):
        return False
    return _lines_of_text(pixels[:, :, 1]) >= _FEWEST_LINES


def _lines_of_text(levels: NDArray[np.uint8]) -> int:
    """Count what looks like lines of text.

    Across a line of text one crosses many edges, each row of pixels another number of them, and between two
    lines none. Across drawings one crosses few, or as many everywhere, or as many in each row of a shape.
    """
    import numpy as np

    crossed = (np.abs(np.diff(levels.astype(np.int16), axis=1)) > _EDGE).sum(axis=1)
    turns = np.flatnonzero(np.diff(np.concatenate(([False], crossed >= _CROSSINGS, [False]))))
    found = 0
    for start, end in turns.reshape(-1, 2).tolist():
        changes = int((np.abs(np.diff(crossed[start:end])) > 2).sum())
        found += _LINE_PX[0] <= end - start <= _LINE_PX[1] and 2 * changes > end - start
    return found


def _edges(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return a map of the cells of 4 x 4 pixels that have an edge."""
    import numpy as np

    height, width = (side // _CELL_PX for side in pixels.shape[:2])
    whole = pixels[: height * _CELL_PX, : width * _CELL_PX, 1]
    cells = whole.reshape(height, _CELL_PX, width, _CELL_PX)
    rows = [cells[:, row] for row in range(_CELL_PX)]
    high, low = functools.reduce(np.maximum, rows), functools.reduce(np.minimum, rows)
    return np.asarray(high.max(axis=2) - low.min(axis=2) > _EDGE)


def _painted(boxes: NDArray[np.floating], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return a map of the cells that any of some rectangles, in cells, touches."""
    import numpy as np

    painted = np.zeros(shape, bool)
    # Broken matrices put words at infinity, which no cell has a number for.
    for x0, y0, x1, y1 in np.nan_to_num(boxes).clip(0, 1e6).astype(int).tolist():
        painted[y0 : y1 + 1, x0 : x1 + 1] = True
    return painted
