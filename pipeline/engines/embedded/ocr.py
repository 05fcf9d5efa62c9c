"""Read a page image, or lay out a page's text layer: what the worker processes do."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.engines.embedded import tesseract
from pipeline.engines.embedded.lines import Line, Place, lines_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

log = logging.getLogger("pipeline")


_LEGIBLE = 0.5
"""Score under which what was read is no text."""
_LOOKED_AT = 5
"""Lines that tell which way a page on its side has to be turned."""


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
    # A second pass is slow, and nearly all pages are upright.
    if sideways:
        lines = max([lines, _turned(upright, _quarters(upright, lines))], key=_characters_read)
    else:
        lines = tesseract.corrected(lines, upright)
    return [line for line in lines if line.score >= _LEGIBLE]


def _quarters(upright: Image.Image, lines: list[Line]) -> int:
    """Return how many quarters anticlockwise set the text of a page upright, by its longest lines."""
    import numpy as np
    from PIL import Image

    tall = sorted((line for line in lines if line.place), key=lambda line: -len(line.text))[:_LOOKED_AT]
    crops = [upright.crop(line.place) for line in tall if line.place]
    sure = {}
    for quarters, method in ((1, Image.Transpose.ROTATE_90), (3, Image.Transpose.ROTATE_270)):
        turned = [np.asarray(crop.transpose(method))[:, :, ::-1] for crop in crops]
        read = [load_models()(each, use_det=False, use_cls=False, use_rec=True) for each in turned]
        sure[quarters] = sum(sum(each.scores or ()) for each in read)
    return max(sure, key=lambda quarters: sure[quarters])


def _turned(upright: Image.Image, quarters: int) -> list[Line]:
    from PIL import Image

    turn = _Turn(quarters, *upright.size)
    method = Image.Transpose.ROTATE_90 if quarters == 1 else Image.Transpose.ROTATE_270
    image = upright.transpose(method)
    found = tesseract.corrected(_read_lines(image)[0], image)
    return [line._replace(place=turn.back(line.place), slope=0.0) for line in found if line.place]


def _characters_read(lines: list[Line]) -> float:
    return sum(len(line.text) * line.score for line in lines)


@functools.lru_cache(maxsize=1)
def load_models() -> Any:
    """Load the models that read images, once in a process."""
    from rapidocr import RapidOCR

    # Each worker process has a core of its own already.
    threads = {"EngineConfig.onnxruntime.intra_op_num_threads": 1}
    # What it hardly read is of another script: Tesseract may know it.
    return RapidOCR(params={"Global.log_level": "error", "Global.text_score": 0.0, **threads})


def _read_lines(image: Image.Image) -> tuple[list[Line], bool]:
    """Return the lines in reading order, and whether most of the text runs up or down the page."""
    import numpy as np

    # It was trained on BGR, as OpenCV reads images.
    found = load_models()(np.asarray(image)[:, :, ::-1], use_det=True, use_cls=True, use_rec=True)
    if not found.txts:
        return [], False
    corners = np.asarray(found.boxes)  # four a line, for it may be aslant
    low, high = corners.min(axis=1), corners.max(axis=1)
    width, height = (high - low).T
    legible = np.asarray(found.scores) >= _LEGIBLE
    lengths = np.asarray([len(text) for text in found.txts]) * legible
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


def load_layout() -> None:
    """Load what lays out pages, once in a process."""
    with contextlib.redirect_stdout(io.StringIO()):
        import pymupdf4llm  # noqa: F401


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
