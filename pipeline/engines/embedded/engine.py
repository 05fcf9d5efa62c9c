"""Answer without a GPU: read the text layer or the OCR of a page, and find the passage that answers best."""

from __future__ import annotations

import contextlib
import functools
import heapq
import io
import itertools
import json
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from pipeline import workers
from pipeline.config import EmbeddedSettings
from pipeline.engines.base import EngineContext
from pipeline.engines.embedded import extract
from pipeline.engines.embedded.passages import Passage, best, cut
from pipeline.errors import WorkersLost
from pipeline.records import Completion, Failure, Page, Request

log = logging.getLogger("pipeline")

_Reading = dict[tuple[str, int], workers.Task]
_CACHED_PAGES = 512
_CANDIDATES = 6


class EmbeddedEngine:
    """A reader of text that picks passages. It writes nothing of its own."""

    def __init__(self, settings: EmbeddedSettings, context: EngineContext) -> None:
        self.window_tokens = settings.window_tokens
        self.windows_ahead = 0
        self._settings = settings
        self._envelope = context.envelope
        self._detect_language = context.detect_language
        self._texts: OrderedDict[tuple[str, int], str] = OrderedDict()
        self._waiting: list[tuple[int, int, Request, _Reading]] = []
        self._put = itertools.count()
        self._pool = workers.Pool(settings.workers, 500)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.close()

    def put(self, requests: Sequence[Request], window_number: int) -> None:
        """Queue requests; their pages are read ahead in the worker processes."""
        reading = self._read_ahead(requests)
        for request in requests:
            heapq.heappush(self._waiting, (window_number, next(self._put), request, reading))

    def take(self) -> list[tuple[Request, Completion]]:
        """Answer the next request, of the earliest window first."""
        _, _, request, reading = heapq.heappop(self._waiting)
        begin = time.perf_counter()
        completion = self._answer(request, reading)
        seconds = time.perf_counter() - begin
        return [(request, replace(completion, prompt_tokens=request.prompt_tokens, engine_seconds=seconds))]

    def _answer(self, request: Request, reading: _Reading) -> Completion:
        try:
            texts = {page.ordinal: self._text(page, reading) for page in request.pages}
        except WorkersLost:
            raise
        except Exception as error:
            # A page that the reading libraries choke on costs its own rows; the log has the trace.
            log.error("%s: a page could not be read", request.cell.subject.source, exc_info=error)
            message = f"{request.cell.subject.source}: its text could not be read ({error!r})"
            return Completion("", "error", failure=Failure("engine_failed", message))
        text, confidence = self._reply(request, texts)
        return Completion(text, "stop", confidence=confidence)

    # ---- reading ----

    def _read_ahead(self, requests: Sequence[Request]) -> _Reading:
        """Start reading the pages that need more than their text layer."""
        reading: _Reading = {}
        for page in (page for request in requests for page in request.pages):
            key = (page.document.document_id, page.number)
            if key in self._texts or key in reading or page.blank:
                continue
            if not _is_readable(page.text):
                job: tuple[Any, list[Any]] = (_ocr, [str(page.image)])
            elif self._envelope is None:
                job = (_markdown, [str(page.document.path), page.number])
            else:
                continue
            reading[key] = self._pool.schedule(job[0], args=job[1], timeout=self._settings.page_timeout_s)
        return reading

    def _text(self, page: Page, reading: _Reading) -> str:
        key = (page.document.document_id, page.number)
        if key not in reading and key not in self._texts:
            return page.text
        if key not in self._texts:
            self._texts[key] = self._read(page, reading[key])
            if len(self._texts) > _CACHED_PAGES:
                self._texts.popitem(last=False)
        return self._texts[key]

    def _read(self, page: Page, future: workers.Task) -> str:
        try:
            return future.result() or page.text
        except Exception as error:
            if isinstance(error, WorkersLost) or not _is_readable(page.text):
                raise
            log.warning("%s, page %d: its text layer serves (%r)", page.document.source, page.number, error)
            return page.text

    # ---- replying ----

    def _reply(self, request: Request, texts: Mapping[int, str]) -> tuple[str, float | None]:
        """Return the reply's text and its confidence, 0 to 1."""
        if self._envelope is None:
            parts = request.parts or [texts[number] for number in sorted(texts)]
            return "\n\n".join(part.strip() for part in parts), None
        properties = self._envelope["properties"]
        if "quote" not in properties:
            return _dump(self._fields(self._envelope, request, texts)), None
        if "properties" in properties["answer"]:
            fields = self._fields(properties["answer"], request, texts)
            pages = sorted(
                {number for number in texts if any(_holds(texts[number], v) for v in fields.values())}
            )
            return _dump({"answer": fields, "pages": pages[:30], "quote": None}), None
        return self._passage(request, texts)

    def _fields(
        self, schema: Mapping[str, Any], request: Request, texts: Mapping[int, str]
    ) -> dict[str, Any]:
        if request.parts:
            return extract.combine([_fields_of(part) for part in request.parts], schema)
        return extract.fill(schema, texts, self._detect_language)

    def _passage(self, request: Request, texts: Mapping[int, str]) -> tuple[str, float | None]:
        """Answer with the best passage; a part of a long document hands on its best few instead."""
        if request.parts:
            candidates = [Passage(**c) for part in request.parts for c in json.loads(part)["candidates"]]
        else:
            candidates = cut(texts, self._settings.passage_chars)
        ranked = best(request.cell.question.text, candidates, _CANDIDATES)
        if request.siblings > 1:
            return _dump({"candidates": [{"page": p.page, "text": p.text} for p, _ in ranked]}), None
        if not ranked:
            return _dump({"answer": None, "pages": [], "quote": None}), 0.0
        passage, confidence = ranked[0]
        return _dump({"answer": passage.text, "pages": [passage.page], "quote": passage.text}), confidence


def _is_readable(text: str) -> bool:
    """Tell whether a text layer can be used: fonts without a map to Unicode leave replacement characters."""
    characters = "".join(text.split())
    return bool(characters) and characters.count("\ufffd") < 0.1 * len(characters)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _fields_of(reply: str) -> dict[str, Any]:
    value = json.loads(reply)
    fields = value["answer"] if "quote" in value else value
    return dict(fields)


def _holds(text: str, value: Any) -> bool:
    return isinstance(value, str) and bool(value) and value in text


# ---- what follows runs in worker processes ----


@functools.lru_cache(maxsize=1)
def _reader() -> Any:
    from rapidocr import RapidOCR

    threads = {"EngineConfig.onnxruntime.intra_op_num_threads": 1}
    return RapidOCR(params={"Global.log_level": "error", **threads})


def _ocr(image: str) -> str:
    """Return the lines of a page image, turned upright if its text stands on its side."""
    from PIL import Image

    with Image.open(image) as opened:
        upright = opened.convert("RGB")
    lines, sideways = _read_lines(upright)
    if sideways:
        turned = [
            _read_lines(upright.transpose(t))[0]
            for t in (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270)
        ]
        lines = max([lines, *turned], key=lambda found: sum(len(text) * score for text, score in found))
    return "\n".join(text for text, _ in lines)


def _read_lines(image: Any) -> tuple[list[tuple[str, float]], bool]:
    """Return (text, score) per line in reading order, and whether most lines run up or down the page."""
    import numpy as np

    found = _reader()(np.asarray(image)[:, :, ::-1])
    if not found.txts:
        return [], False
    boxes = np.asarray(found.boxes)
    widths, heights = np.ptp(boxes[:, :, 0], axis=1), np.ptp(boxes[:, :, 1], axis=1)
    tall = np.asarray([len(text) for text in found.txts]) * (heights > 1.5 * widths)
    return list(zip(found.txts, found.scores, strict=True)), bool(
        2 * tall.sum() > sum(len(text) for text in found.txts)
    )


def _markdown(path: str, number: int) -> str:
    """Return a page of a document with a text layer as Markdown; empty when it cannot be laid out."""
    with contextlib.redirect_stdout(io.StringIO()):
        import pymupdf4llm

        try:
            text: str = pymupdf4llm.to_markdown(path, pages=[number - 1], use_ocr=False, show_progress=False)
        except Exception as error:  # of any type, on layouts that it does not know: the text layer serves
            log.info("%s, page %d: no Markdown, plain text instead (%r)", path, number, error)
            return ""
    return re.sub(r"\n{3,}", "\n\n", text).strip()
