"""Answer without a GPU: read the text layer or the OCR of a page, and find the passage that answers best."""

from __future__ import annotations

import heapq
import itertools
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Self

from pipeline.config import EmbeddedSettings
from pipeline.engines.base import EngineContext
from pipeline.engines.embedded import replies
from pipeline.engines.embedded.limits import fields_schema, is_evidence
from pipeline.engines.embedded.lines import Line
from pipeline.engines.embedded.passages import cut
from pipeline.engines.embedded.ranking import Index
from pipeline.engines.embedded.reader import Reader
from pipeline.errors import RenderTimeout, TooLarge, WorkersLost
from pipeline.records import Completion, Failure, Page, Request

log = logging.getLogger("pipeline")

# First questions about all documents of a window come before the second ones: a window has few documents.
_INDEXES = 64


def _code(error: Exception) -> str:
    """Return the `error_code` for what ended the reading of a page."""
    if isinstance(error, TimeoutError):
        return RenderTimeout.code
    if isinstance(error, MemoryError):
        return TooLarge.code
    return "engine_failed"


class EmbeddedEngine:
    """A reader of text that picks passages. It writes nothing of its own.

    Boxes in its completions are in pixels of the page's image: it does not know the page's size in points.
    """

    def __init__(self, settings: EmbeddedSettings, context: EngineContext) -> None:
        self.window_tokens = settings.window_tokens
        self.windows_ahead = 0
        self._settings = settings
        self._envelope = context.envelope
        self._detect_language = context.detect_language
        self._indexes: OrderedDict[tuple[tuple[str, int, int], ...], Index] = OrderedDict()
        self._waiting: list[tuple[int, int, Request]] = []
        self._numbers = itertools.count()
        self._reader = Reader(settings, as_markdown=context.envelope is None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._reader.close()

    def put(self, requests: Sequence[Request], window_number: int) -> None:
        """Queue requests; their pages are read ahead in the worker processes."""
        for request in requests:
            self._reader.begin(request.pages)
            heapq.heappush(self._waiting, (window_number, next(self._numbers), request))

    def take(self) -> list[tuple[Request, Completion]]:
        """Answer the next request, of the earliest window first."""
        # The number breaks ties: requests of one window stay in order, and are never compared themselves.
        _, _, request = heapq.heappop(self._waiting)
        begin = self._core_seconds()
        try:
            written = self._write(request)
        except WorkersLost:
            raise
        except Exception as error:
            # What the reading libraries choke on costs its own row; the log has the trace.
            source = request.cell.subject.source
            log.error("%s: could not be answered", source, exc_info=error)
            # By its type alone: what libraries say holds folders of this machine.
            why = f"its text could not be read ({type(error).__name__}); run.log says more"
            failure = Failure(_code(error), f"{source}: {why}")
            return [(request, self._completion(request, replies.Written(""), begin, failure))]
        return [(request, self._completion(request, written, begin, None))]

    def _completion(
        self, request: Request, written: replies.Written, begin: float, failure: Failure | None
    ) -> Completion:
        return Completion(
            text=written.text,
            finish_reason="error" if failure else "stop",
            prompt_tokens=request.prompt_tokens,
            confidence=written.confidence,
            boxes=written.boxes,
            engine_seconds=self._core_seconds() - begin,
            failure=failure,
        )

    def _core_seconds(self) -> float:
        """Return what answering has taken of the cores so far: no clock tells, for pages are read ahead."""
        return time.thread_time() + self._reader.core_seconds

    def _write(self, request: Request) -> replies.Written:
        fields = fields_schema(self._envelope) if self._envelope is not None else None
        if self._envelope is not None and fields is None:
            return replies.passage(request, lambda: self._index(request.pages))
        if self._envelope is None or fields is None:
            return replies.transcription(request, self._lines(request.pages))
        cells = {page.ordinal: self._reader.cells(page) for page in request.pages}
        return replies.fields(request, cells, fields, is_evidence(self._envelope), self._detect_language)

    def _lines(self, pages: Sequence[Page]) -> dict[int, list[Line]]:
        return {page.ordinal: self._reader.lines(page) for page in pages}

    def _index(self, pages: Sequence[Page]) -> Index:
        """Return the index of some pages; the last few are kept, for the other questions about them."""
        key = tuple((page.document.document_id, page.number, page.ordinal) for page in pages)
        if key not in self._indexes:
            self._indexes[key] = Index(cut(self._lines(pages), self._settings.passage_chars))
            if len(self._indexes) > _INDEXES:
                self._indexes.popitem(last=False)
        return self._indexes[key]
