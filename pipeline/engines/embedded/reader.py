"""Read pages in worker processes, ahead of when they are needed."""

from __future__ import annotations

import logging
import resource
from collections import OrderedDict
from collections.abc import Callable, Iterable

from pipeline import workers
from pipeline.config import EmbeddedSettings
from pipeline.engines.embedded.cells import of_words
from pipeline.engines.embedded.lines import Line, in_points, lines_of
from pipeline.engines.embedded.ocr import load_layout, load_models, markdown, read_image
from pipeline.errors import WorkersLost
from pipeline.records import Page

log = logging.getLogger("pipeline")

# The further questions about a page come soon after its first.
_CACHED_PAGES = 512
# Bounds what libraries hoard in a worker: ONNX Runtime keeps memory for every size of image it met.
_PAGES_PER_WORKER = 500
_NOT_LAID_OUT = 0.3
"""Score of lines of a page that could not be laid out in time or memory: too low to pass without review."""

_PageId = tuple[str, int]


class Reader:
    """Gives the lines of pages: of their text layer where it shows what they show, or else by OCR."""

    def __init__(self, settings: EmbeddedSettings, as_markdown: bool) -> None:
        """`as_markdown`: lay out text layers, for transcriptions."""
        self._as_markdown = as_markdown
        self._timeout_s = settings.page_timeout_s
        self._pool = workers.Pool(settings.workers, _PAGES_PER_WORKER, memory_mb=settings.worker_memory_mb)
        self._tasks: dict[_PageId, workers.Task[tuple[list[Line], float]]] = {}
        self._read: OrderedDict[_PageId, list[Line] | Exception] = OrderedDict()
        self.core_seconds = 0.0
        """Of a core, what the pages whose lines were given have taken in the worker processes."""

    def close(self) -> None:
        """End the worker processes."""
        self._pool.close()

    def begin(self, pages: Iterable[Page]) -> None:
        """Start reading the pages that need more than their text layer."""
        for page in pages:
            if (key := _page_id(page)) in self._tasks or key in self._read or not self._needs_work(page):
                continue
            if has_usable_layer(page) and page.part is None:
                path = str(page.document.path)
                task = self._pool.schedule(
                    _measured,
                    args=[load_layout, markdown, path, page.sheet or page.number],
                    timeout=self._timeout_s,
                )
            else:
                task = self._pool.schedule(
                    _measured, args=[load_models, read_image, str(page.image)], timeout=self._timeout_s
                )
            self._tasks[key] = task

    def lines(self, page: Page) -> list[Line]:
        """Return a page's lines. Raises whatever its reading raised."""
        if not self._needs_work(page):
            return lines_of(page.text)
        key = _page_id(page)
        if key not in self._read:
            self.begin([page])
            # A failure is kept as well: the other requests about this page fail with it.
            self._read[key] = self._result(page, self._tasks.pop(key))
            if len(self._read) > _CACHED_PAGES:
                self._read.popitem(last=False)
        found = self._read[key]
        if isinstance(found, Exception):
            raise found
        return found

    def cells(self, page: Page) -> list[Line]:
        """Return what stands on a page, with its places where they are known. Raises like `lines`."""
        if page.words.texts and has_usable_layer(page) and not (page.blank and not page.faint):
            return of_words(page.words)
        return self.lines(page)

    def _needs_work(self, page: Page) -> bool:
        if page.blank and not page.faint:
            return False
        # A part of a page cannot be laid out: its text layer is as good as it gets.
        return not has_usable_layer(page) or (self._as_markdown and page.part is None)

    def _result(self, page: Page, task: workers.Task[tuple[list[Line], float]]) -> list[Line] | Exception:
        try:
            found, seconds = task.result()
            self.core_seconds += seconds
            lines = [in_points(line, page.points_per_px, page.origin) for line in found]
        except WorkersLost:
            raise
        except Exception as error:
            self.core_seconds += self._timeout_s if isinstance(error, TimeoutError) else 0.0
            # A layer that is not what the page shows cannot stand for it: it may be hidden, or a stamp.
            if not has_usable_layer(page):
                return error
            log.warning("%s, page %d: its text layer serves (%r)", page.document.source, page.number, error)
            # The words are all there, but not what is a table or a heading: someone has to look.
            return [line._replace(score=_NOT_LAID_OUT) for line in lines_of(page.text)]
        return lines or (lines_of(page.text) if has_usable_layer(page) else [])


def _measured(
    load: Callable[[], object], read: Callable[..., list[Line]], *given: object
) -> tuple[list[Line], float]:
    """Read a page in a worker process; return its lines, and the seconds of a core that it took."""
    load()  # which only the first page of a process waits for, and is not its own time
    before = _core_seconds()
    lines = read(*given)
    return lines, _core_seconds() - before


def _core_seconds() -> float:
    # Not by the clock: on a busy machine the same page would take many times as long. Tesseract is a child.
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def has_usable_layer(page: Page) -> bool:
    """Tell whether the text layer of a page can stand for what it shows."""
    return page.text_covers and _is_legible(page.text)


def _is_legible(text: str) -> bool:
    """Tell whether a text can be read: fonts without a map to Unicode leave replacement characters."""
    characters = "".join(text.split())
    return bool(characters) and characters.count("\ufffd") < 0.1 * len(characters)


def _page_id(page: Page) -> _PageId:
    return page.document.document_id, page.number
