"""Read a page image, or lay out a page's text layer: what the worker processes do."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.engines.embedded.lines import Line, Place, lines_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

log = logging.getLogger("pipeline")


class _Turn(NamedTuple):
    """A page image turned by a quarter, anticlockwise once or three times."""

    quarters: int
    width_px: int
    height_px: int

    def back(self, place: Place) -> Place:
        """Return where something on the turned image stands on the page's own, of this width and height."""
        x0, y0, x1, y1 = place
        if self.quarters == 1:
            return self.width_px - y1, x0, self.width_px - y0, x1
        return y0, self.height_px - x1, y1, self.height_px - x0


def read_image(image: str) -> list[Line]:
    """Return the lines of a page image, turned upright if its text stands on its side."""
    from PIL import Image

    with Image.open(image) as opened:
        upright = opened.convert("RGB")
    lines, sideways = _read_lines(upright)
    # Two more passes are slow, and nearly all pages are upright.
    if sideways:
        lines = max([lines, _turned(upright, 1), _turned(upright, 3)], key=_characters_read)
    return lines


def _turned(upright: Image.Image, quarters: int) -> list[Line]:
    from PIL import Image

    turn = _Turn(quarters, *upright.size)
    method = Image.Transpose.ROTATE_90 if quarters == 1 else Image.Transpose.ROTATE_270
    found, _ = _read_lines(upright.transpose(method))
    return [line._replace(place=turn.back(line.place)) for line in found if line.place]


def _characters_read(lines: list[Line]) -> float:
    return sum(len(line.text) * line.score for line in lines)


@functools.lru_cache(maxsize=1)
def _reader() -> Any:
    from rapidocr import RapidOCR

    # Each worker process has a core of its own already.
    threads = {"EngineConfig.onnxruntime.intra_op_num_threads": 1}
    return RapidOCR(params={"Global.log_level": "error", **threads})


def _read_lines(image: Image.Image) -> tuple[list[Line], bool]:
    """Return the lines in reading order, and whether most of the text runs up or down the page."""
    import numpy as np

    # It was trained on BGR, as OpenCV reads images.
    found = _reader()(np.asarray(image)[:, :, ::-1])
    if not found.txts:
        return [], False
    corners = np.asarray(found.boxes)  # four a line, for it may be aslant
    low, high = corners.min(axis=1), corners.max(axis=1)
    width, height = (high - low).T
    lengths = np.asarray([len(text) for text in found.txts])
    sideways = bool(2 * (lengths * (height > 1.5 * width)).sum() > lengths.sum())
    places = np.concatenate([low, high], axis=1).round().astype(int).tolist()
    texts_scores = zip(found.txts, found.scores, places, strict=True)
    slope = _slope(corners)
    return [Line(text, tuple(place), float(score), slope) for text, score, place in texts_scores], sideways


def _slope(corners: NDArray[np.floating]) -> float:
    """Return how the lines of a page run, by its longest boxes: the corners of short ones are too rough."""
    import numpy as np

    along = corners[:, 1] - corners[:, 0] + corners[:, 2] - corners[:, 3]
    wide = along[np.argsort(-along[:, 0])[: max(len(along) // 3, 1)]]
    wide = wide[wide[:, 0] > _LONG_PX]
    return float(np.median(wide[:, 1] / wide[:, 0])) if len(wide) else 0.0


_LONG_PX = 60


def markdown(path: str, number: int) -> list[Line]:
    """Return a page of a document with a text layer as Markdown; nothing when it cannot be laid out."""
    with contextlib.redirect_stdout(io.StringIO()):
        import pymupdf4llm

        try:
            text: str = pymupdf4llm.to_markdown(path, pages=[number - 1], use_ocr=False, show_progress=False)
        except Exception as error:  # of any type, on layouts that it does not know: the text layer serves
            log.info("%s, page %d: no Markdown, plain text instead (%r)", path, number, error)
            return []
    return lines_of(re.sub(r"\n{3,}", "\n\n", text).strip())
