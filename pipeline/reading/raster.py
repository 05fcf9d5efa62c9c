"""Turn documents into page images at the model's native resolution, in worker processes that may die."""

from __future__ import annotations

import contextlib
import itertools
import logging
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import TimeoutError
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from pebble import ProcessExpired

from pipeline import store, workers
from pipeline.config import RasterSettings
from pipeline.errors import (
    DocumentError,
    RenderCrashed,
    RenderTimeout,
    ScratchError,
    ScratchFull,
    TooLarge,
    Unreadable,
    WorkersLost,
)
from pipeline.reading import draw, passwords, scratch
from pipeline.reading.job import WHOLE, Job, Measured, Sheet
from pipeline.records import Chunk, Document, Failure, Outline, Page

log = logging.getLogger("pipeline")

# Few enough that one slow page does not hold up many, enough that a document is not opened for each.
_PAGES_PER_TASK = 8


_Measuring = workers.Task[Measured]


class _Run(NamedTuple):
    """Consecutive pages of a document that one task renders."""

    pages: list[Page]
    images: list[Path]
    future: workers.Task[list[draw.Rendered | DocumentError]]
    second: bool


class Rasterizer:
    """A pool of rendering processes and the scratch folder that they write to. Use as a context manager."""

    def __init__(
        self, settings: RasterSettings, geometry: draw.Geometry, folder: Path, samples: bool = False
    ) -> None:
        """`samples`: outlines come with a little of their text."""
        self._samples = samples
        self._settings = settings
        self._geometry = geometry
        self._passwords = passwords.read(settings.passwords, settings.password)
        self.scratch = folder
        self._renders = itertools.count()
        self._room_bytes = 0
        # Measuring is quick: enough of it under way that no worker waits while the run packs questions.
        self._ahead = 4 * (settings.workers or workers.cores())
        self._pool = workers.Pool(settings.workers, 5000, draw.prepare_worker, settings.worker_memory_mb)

    def __enter__(self) -> Rasterizer:
        scratch.sweep(self.scratch)
        scratch.make(self.scratch)
        self._room_bytes = shutil.disk_usage(self.scratch).free
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close()
        scratch.remove(self.scratch)

    def outlines(
        self, documents: Iterable[Document], known: Callable[[Document], Outline | None]
    ) -> Iterator[Outline]:
        """Yield each document's outline, in order, a few ahead; `known` spares opening a finished one."""
        ahead: deque[tuple[Document, _Measuring | Outline]] = deque()
        # In order, so that tables and prompts of two runs over the same input are alike.
        for document in documents:
            ahead.append((document, self._begin_outline(document, known)))
            if len(ahead) > self._ahead:
                yield self._end_outline(*ahead.popleft())
        while ahead:
            yield self._end_outline(*ahead.popleft())

    def render(self, windows: Iterable[list[Chunk]]) -> Iterator[list[Chunk]]:
        """Yield windows with their pages rendered, while the next window's pages are under way.

        A window without chunks asks for something: the scratch folder is full, and those that were yielded
        before must be released. Raises ScratchError when the pages of one request do not fit into the folder,
        or it cannot be written for another reason.
        """
        ahead: deque[tuple[list[Chunk], list[_Run]]] = deque()
        for window in windows:
            ahead.append((window, self._begin_window(window)))
            if len(ahead) > 1:
                yield from self._end_first(ahead)
        while ahead:
            yield from self._end_first(ahead)

    def room_bytes(self) -> int:
        """Return how much the scratch folder could take when this run began."""
        return self._room_bytes

    def release(self, window: Iterable[Chunk]) -> None:
        """Delete the images of a window that has been answered."""
        for chunk in window:
            for page in chunk.pages:
                if page.image:
                    _delete([page.image])

    def _end_first(self, ahead: deque[tuple[list[Chunk], list[_Run]]]) -> Iterator[list[Chunk]]:
        window, runs = ahead.popleft()
        try:
            rendered = self._end_window(window, runs)
        except ScratchFull:
            # Make room: what was drawn ahead is drawn again once this window has been answered.
            for taken in (runs, *(other for _, other in ahead)):
                self._take_back(taken)
            yield from self._one_by_one(window)
            for index, (waiting, _) in enumerate(ahead):
                ahead[index] = (waiting, self._begin_window(waiting))
        else:
            yield rendered

    def _one_by_one(self, window: list[Chunk]) -> Iterator[list[Chunk]]:
        """Yield a window's chunks, each alone in the scratch folder."""
        for chunk in window:
            yield []
            try:
                rendered = self._end_window([chunk], self._begin_window([chunk]))
            except ScratchFull as error:
                need = sum(3 * page.width_px * page.height_px for page in chunk.pages) >> 20
                raise self._scratch_error(
                    f"has no room for the {len(chunk.pages)} pages of one request ({need + 1} MB);"
                    " free space, choose another folder, or lower pack.max_images"
                ) from error
            yield rendered

    def _take_back(self, runs: Iterable[_Run]) -> None:
        """Delete what was drawn, or is being drawn, for a window that has to wait."""
        for run in runs:
            with contextlib.suppress(Exception):  # it will be drawn again, and fail again
                run.future.result()
            _delete(run.images)

    def _scratch_error(self, what: str) -> ScratchError:
        return ScratchError(f"raster.scratch={self.scratch.parent}: {what}")

    def _begin_outline(
        self, document: Document, known: Callable[[Document], Outline | None]
    ) -> _Measuring | Outline:
        if document.failure:
            return Outline(document, failure=document.failure)
        return known(document) or self._inspect(self._job(document))

    def _end_outline(self, document: Document, outcome: _Measuring | Outline) -> Outline:
        if isinstance(outcome, Outline):
            return outcome
        try:
            measured = self._measured(document, outcome)
        except Exception as error:
            return Outline(document, failure=self._failure(error, document.source))
        pages = (
            _page(document, number, len(measured.sheets), sheet)
            for number, sheet in enumerate(measured.sheets, 1)
        )
        return Outline(document, tuple(pages), is_repaired=measured.is_repaired, sample=measured.sample)

    def _measured(self, document: Document, task: _Measuring) -> Measured:
        try:
            found: Measured = task.result()
        except ProcessExpired:  # PDFium may be what crashed: MuPDF alone has a try
            found = self._inspect(self._job(document)._replace(second=False)).result()
        return found

    def _inspect(self, job: Job) -> _Measuring:
        timeout_s = self._settings.page_timeout_s
        return self._pool.schedule(draw.inspect, args=[job, self._geometry], timeout=timeout_s)

    def _begin_window(self, window: Iterable[Chunk]) -> list[_Run]:
        """Start rendering, a few consecutive pages to a task: a worker opens the document once for them."""
        pages = [page for chunk in window for page in chunk.pages]
        runs = []
        # By bytes, not by name: a copy of a document is drawn for both.
        for _, members in groupby(pages, key=lambda page: page.document.document_id):
            together = list(members)
            for start in range(0, len(together), _PAGES_PER_TASK):
                runs.append(self._begin_run(together[start : start + _PAGES_PER_TASK]))
        return runs

    def _begin_run(self, pages: list[Page], second: bool = True) -> _Run:
        """Start rendering pages of a document; `second`: PDFium may draw what MuPDF cannot."""
        images = [self._new_image() for _ in pages]
        wanted = [(_sheet(page), str(image)) for page, image in zip(pages, images, strict=True)]
        job = self._job(pages[0].document)._replace(second=second)
        future = self._pool.schedule(
            draw.render_run, args=[job, wanted], timeout=self._settings.page_timeout_s
        )
        return _Run(pages, images, future, second)

    def _new_image(self) -> Path:
        """Name an image as no other render is: two names of the same bytes must not share one file."""
        return self.scratch / f"{next(self._renders):012d}.ppm"

    def _end_window(self, window: list[Chunk], runs: list[_Run]) -> list[Chunk]:
        done = iter([page for run in runs for page in self._end_run(run)])
        return [replace(chunk, pages=tuple(next(done) for _ in chunk.pages)) for chunk in window]

    def _end_run(self, run: _Run) -> list[Page]:
        try:
            outcomes = run.future.result()
        except ScratchFull:
            _delete(run.images)
            raise
        except ScratchError as error:
            raise self._scratch_error(f"cannot be written ({error}); choose another folder") from error
        except Exception as error:
            _delete(run.images)  # drawn before the page that went wrong
            if len(run.pages) == 1 and run.second and isinstance(error, ProcessExpired):
                return self._end_run(self._begin_run(run.pages, second=False))  # PDFium may be what crashed
            if len(run.pages) == 1:
                what = f"{run.pages[0].document.source}, page {run.pages[0].number}"
                return [replace(run.pages[0], failure=self._failure(error, what))]
            # One page hung, crashed or took too much memory: each gets its own time and its own worker.
            done: list[Page] = []
            try:
                for page in run.pages:
                    done += self._end_run(self._begin_run([page]))
            except ScratchFull:
                _delete(page.image for page in done if page.image)
                raise
            return done
        return list(map(_rendered, run.pages, run.images, outcomes))

    def _job(self, document: Document) -> Job:
        return Job(
            str(document.path),
            document.source,
            document.kind,
            self._passwords.of(document.source),
            self._settings.max_megapixels * 1_000_000,
            document.bytes,
            document.changed_ns,
            sample=self._samples,
        )

    def _failure(self, error: Exception, what: str) -> Failure:
        """Name what a worker's error means for `what`. Raises WorkersLost, which is about all documents."""
        if isinstance(error, WorkersLost):
            raise error
        if isinstance(error, DocumentError):
            return Failure(error.code, str(error))
        if isinstance(error, TimeoutError):
            limit = f"{self._settings.page_timeout_s:g} s"
            return Failure(RenderTimeout.code, f"{what}: not done in {limit}; raise raster.page_timeout_s")
        if isinstance(error, ProcessExpired):
            return Failure(
                RenderCrashed.code, f"{what}: the renderer died (exit code {error.exitcode}); look at it"
            )
        if isinstance(error, MemoryError):
            limit = f"{self._settings.worker_memory_mb} MB"
            return Failure(TooLarge.code, f"{what}: needs over {limit}; raise raster.worker_memory_mb")
        # Hostile files reach corners of the libraries that nobody knows: a row for the user, a trace for us.
        log.error("%s: an error that has no name yet; please report it", what, exc_info=error)
        return Failure(Unreadable.code, f"{what}: {draw.first_line(error)}; repair the file")


def _page(document: Document, number: int, total: int, sheet: Sheet) -> Page:
    return Page(
        document=document,
        number=number,
        total=total,
        width_px=sheet.width_px,
        height_px=sheet.height_px,
        ordinal=number,
        sheet=sheet.number,
        part=None if sheet.part == WHOLE else sheet.part,
    )


def _sheet(page: Page) -> Sheet:
    return Sheet(page.sheet, page.width_px, page.height_px, page.part or WHOLE)


def _delete(images: Iterable[Path]) -> None:
    """Delete page images, as far as that can be done: the folder goes with the run."""
    with contextlib.suppress(OSError):
        for image in images:
            store.remove(image)


def _rendered(page: Page, image: Path, outcome: draw.Rendered | DocumentError) -> Page:
    if isinstance(outcome, DocumentError):
        _delete([image])
        return replace(page, failure=Failure(outcome.code, str(outcome)))
    return replace(
        page,
        image=image,
        text=outcome.text,
        words=outcome.words,
        text_covers=outcome.text_covers,
        blank=outcome.blank,
        faint=outcome.faint,
        damaged=outcome.damaged,
        points_per_px=outcome.points_per_px,
        raster_seconds=outcome.seconds,
    )
