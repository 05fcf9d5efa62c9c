"""Turn documents into page images at the model's native resolution, in worker processes that may die."""

from __future__ import annotations

import csv
import functools
import logging
import resource
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, TimeoutError
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from pebble import ProcessExpired

from pipeline import workers
from pipeline.config import RasterSettings
from pipeline.errors import (
    Corrupt,
    DocumentError,
    Empty,
    Encrypted,
    RenderCrashed,
    RenderTimeout,
    SettingsError,
    TooLarge,
    Unreadable,
)
from pipeline.records import Chunk, Document, Failure, Outline, Page, matches

log = logging.getLogger("pipeline")

_PAGES_PER_TASK = 8
IMAGE_KINDS = frozenset({"png", "jpeg", "webp", "tiff", "gif", "bmp"})


@dataclass(frozen=True, slots=True)
class Geometry:
    """What the model's image encoder takes as it is: sides of whole patches, none over `max_px`."""

    max_px: int
    patch_px: int

    def fit(self, width: float, height: float, *, enlarge: bool) -> tuple[int, int]:
        """Return the size in pixels at which an encoder need not resample a `width` x `height` page."""
        ratio = max(width, height) / self.max_px
        if ratio > 1 or enlarge:
            width, height = max(round(width / ratio), 1), max(round(height / ratio), 1)
        return self._whole(width), self._whole(height)

    def _whole(self, side: float) -> int:
        return ((int(side) - 1) // self.patch_px + 1) * self.patch_px


class _Job(NamedTuple):
    """What a worker needs to open a document."""

    path: str
    source: str
    kind: str
    password: str | None
    max_pixels: int


class _Rendered(NamedTuple):
    text: str
    blank: bool
    seconds: float


class _Run(NamedTuple):
    """Consecutive pages of a document that one task renders."""

    pages: list[Page]
    future: Future[Any]


class Rasterizer:
    """A pool of rendering processes and the scratch folder that they write to. Use as a context manager."""

    def __init__(self, settings: RasterSettings, geometry: Geometry, scratch: Path) -> None:
        self._settings = settings
        self._geometry = geometry
        self._passwords = _read_passwords(settings.passwords)
        self.scratch = scratch
        self._ahead = 4 * (settings.workers or workers.cores())
        self._pool = workers.pool(settings.workers, 5000, _limit_memory, [settings.worker_memory_mb])

    def __enter__(self) -> Rasterizer:
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.stop()
        self._pool.join()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def outlines(
        self, documents: Iterable[Document], known: Callable[[Document], Outline | None]
    ) -> Iterator[Outline]:
        """Yield each document's outline, in order, a few ahead; `known` spares opening a finished one."""
        ahead: deque[tuple[Document, Future[Any] | Outline]] = deque()
        for document in documents:
            ahead.append((document, self._begin_outline(document, known)))
            if len(ahead) > self._ahead:
                yield self._end_outline(*ahead.popleft())
        while ahead:
            yield self._end_outline(*ahead.popleft())

    def render(self, windows: Iterable[list[Chunk]]) -> Iterator[list[Chunk]]:
        """Yield windows with their pages rendered, while the next window's pages are under way."""
        ahead: deque[tuple[list[Chunk], list[_Run]]] = deque()
        for window in windows:
            ahead.append((window, self._begin_window(window)))
            if len(ahead) > 1:
                yield self._end_window(*ahead.popleft())
        while ahead:
            yield self._end_window(*ahead.popleft())

    def release(self, window: Iterable[Chunk]) -> None:
        """Delete the images of a window that has been answered."""
        for chunk in window:
            for page in chunk.pages:
                if page.image:
                    page.image.unlink(missing_ok=True)

    def _begin_outline(
        self, document: Document, known: Callable[[Document], Outline | None]
    ) -> Future[Any] | Outline:
        if document.failure:
            return Outline(document, failure=document.failure)
        return known(document) or self._pool.schedule(
            _inspect, args=[self._job(document), self._geometry], timeout=self._settings.page_timeout_s
        )

    def _end_outline(self, document: Document, outcome: Future[Any] | Outline) -> Outline:
        if isinstance(outcome, Outline):
            return outcome
        try:
            sizes = outcome.result()
        except Exception as error:
            return Outline(document, failure=self._failure(error, document.source))
        pages = (
            Page(document=document, number=n, total=len(sizes), width_px=w, height_px=h, ordinal=n)
            for n, (w, h) in enumerate(sizes, 1)
        )
        return Outline(document, pages=tuple(pages))

    def _begin_window(self, window: Iterable[Chunk]) -> list[_Run]:
        """Start rendering, a few consecutive pages to a task: a worker opens the document once for them."""
        pages = [page for chunk in window for page in chunk.pages]
        runs = []
        for _, members in groupby(pages, key=lambda page: page.document.document_id):
            together = list(members)
            for start in range(0, len(together), _PAGES_PER_TASK):
                runs.append(self._begin_run(together[start : start + _PAGES_PER_TASK]))
        return runs

    def _begin_run(self, pages: list[Page]) -> _Run:
        wanted = [(page.number, page.width_px, page.height_px, str(self._image(page))) for page in pages]
        job = self._job(pages[0].document)
        future = self._pool.schedule(_render_run, args=[job, wanted], timeout=self._settings.page_timeout_s)
        return _Run(pages, future)

    def _end_window(self, window: list[Chunk], runs: list[_Run]) -> list[Chunk]:
        done = iter([page for run in runs for page in self._end_run(run)])
        return [replace(chunk, pages=tuple(next(done) for _ in chunk.pages)) for chunk in window]

    def _end_run(self, run: _Run) -> list[Page]:
        try:
            outcomes = run.future.result()
        except Exception as error:
            if len(run.pages) == 1:
                what = f"{run.pages[0].document.source}, page {run.pages[0].number}"
                return [replace(run.pages[0], failure=self._failure(error, what))]
            # One page hung, crashed or took too much memory: each gets its own time and its own worker.
            return [done for page in run.pages for done in self._end_run(self._begin_run([page]))]
        return [self._rendered(page, outcome) for page, outcome in zip(run.pages, outcomes, strict=True)]

    def _rendered(self, page: Page, outcome: _Rendered | DocumentError) -> Page:
        if isinstance(outcome, DocumentError):
            return replace(page, failure=Failure(outcome.code, str(outcome)))
        return replace(
            page,
            image=self._image(page),
            text=outcome.text,
            blank=outcome.blank,
            raster_seconds=outcome.seconds,
        )

    def _image(self, page: Page) -> Path:
        return self.scratch / f"{page.document.document_id[:32]}-{page.number:06d}.ppm"

    def _job(self, document: Document) -> _Job:
        password = next(
            (secret for pattern, secret in self._passwords if matches(document.source, pattern)),
            self._settings.password,
        )
        return _Job(
            str(document.path),
            document.source,
            document.kind,
            password,
            self._settings.max_megapixels * 1_000_000,
        )

    def _failure(self, error: Exception, what: str) -> Failure:
        """Name what a worker's error means for `what`."""
        if isinstance(error, DocumentError):
            return Failure(error.code, str(error))
        if isinstance(error, TimeoutError):
            limit = f"{self._settings.page_timeout_s:g} s"
            return Failure(RenderTimeout.code, f"{what}: not done in {limit}; raise raster.page_timeout_s")
        if isinstance(error, ProcessExpired):
            return Failure(RenderCrashed.code, f"{what}: the renderer died (exit code {error.exitcode})")
        if isinstance(error, MemoryError):
            limit = f"{self._settings.worker_memory_mb} MB"
            return Failure(TooLarge.code, f"{what}: needs over {limit}; raise raster.worker_memory_mb")
        # Hostile files reach corners of the libraries that nobody knows: a row for the user, a trace for us.
        log.error("%s: an error that has no name yet; please report it", what, exc_info=error)
        return Failure(Unreadable.code, f"{what}: {type(error).__name__}: {_first_line(error)}")


def scratch_folder(given: str | None, name: str, need_mb: int = 2048) -> Path:
    """Choose where page images pass through: `given`, else tmpfs with `need_mb` free, else disk."""
    if given:
        return Path(given) / name
    tmpfs = Path("/dev/shm")
    roomy = tmpfs.is_dir() and shutil.disk_usage(tmpfs).free > need_mb << 20
    return (tmpfs if roomy else Path(tempfile.gettempdir())) / name


def _read_passwords(path: str | None) -> list[tuple[str, str]]:
    if path is None:
        return []
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        return [(row["document"], row["password"]) for row in rows]
    except (OSError, KeyError) as error:
        raise SettingsError(
            f"raster.passwords={path}: needs the columns document and password ({error})"
        ) from error


# ---- what follows runs in worker processes ----


def _limit_memory(worker_memory_mb: int) -> None:
    _mupdf().TOOLS.mupdf_display_errors(False)
    _mupdf().TOOLS.mupdf_display_warnings(False)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + (worker_memory_mb << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _mupdf() -> Any:
    import pymupdf

    return pymupdf


def _inspect(job: _Job, geometry: Geometry) -> list[tuple[int, int]]:
    """Return the size in pixels that each page will have."""
    if job.kind in IMAGE_KINDS:
        return _image_sizes(job, geometry)
    document = _open(job, Path(job.path).stat().st_mtime_ns)
    sizes = []
    for index in range(document.page_count):
        rect = document.load_page(index).rect
        if rect.is_empty or rect.is_infinite:
            raise Corrupt(f"{job.source}: page {index + 1} has no area; repair the file")
        sizes.append(geometry.fit(rect.width, rect.height, enlarge=True))
    return sizes


def _render_run(job: _Job, wanted: list[tuple[int, int, int, str]]) -> list[_Rendered | DocumentError]:
    """Render pages (number, width, height, file); a page that cannot be drawn does not keep the others."""
    outcomes: list[_Rendered | DocumentError] = []
    for number, width_px, height_px, out in wanted:
        try:
            outcomes.append(_render(job, number, width_px, height_px, out))
        except DocumentError as error:
            outcomes.append(error)
    return outcomes


def _render(job: _Job, number: int, width_px: int, height_px: int, out: str) -> _Rendered:
    """Write page `number` as a binary PPM of exactly that size and return its text layer."""
    begin = time.perf_counter()
    if job.kind in IMAGE_KINDS:
        image = _image(job, number, width_px, height_px)
        image.save(out, format="PPM")
        text, blank = "", _is_blank(image)
    else:
        pixmap, text = _draw(job, number, width_px, height_px)
        with Path(out).open("wb") as file:
            file.write(b"P6 %d %d 255\n" % (width_px, height_px))
            file.write(pixmap.samples_mv)
        blank = not text.strip() and _is_blank(_as_image(pixmap))
    return _Rendered(text, blank, time.perf_counter() - begin)


@functools.lru_cache(maxsize=2)
def _open(job: _Job, mtime_ns: int) -> Any:
    """Open a document with MuPDF; the last two stay open, since pages come one by one."""
    mupdf = _mupdf()
    try:
        document = mupdf.open(job.path, filetype=job.kind)
    except mupdf.mupdf.FzErrorSystem as error:
        raise MemoryError(_first_line(error)) from None
    except (mupdf.mupdf.FzErrorBase, RuntimeError, ValueError) as error:
        raise Corrupt(f"{job.source}: cannot be opened as {job.kind} ({_first_line(error)})") from None
    if document.needs_pass and not (job.password and document.authenticate(job.password)):
        hint = "the password given is wrong" if job.password else "needs a password"
        raise Encrypted(f"{job.source}: {hint}; give it with raster.password=… or raster.passwords=FILE.csv")
    if document.page_count == 0:
        if getattr(document, "is_repaired", False):
            raise Corrupt(f"{job.source}: no page could be recovered; the file is damaged, fetch it again")
        raise Empty(f"{job.source}: has no pages")
    return document


def _draw(job: _Job, number: int, width_px: int, height_px: int) -> tuple[Any, str]:
    mupdf = _mupdf()
    try:
        page = _open(job, Path(job.path).stat().st_mtime_ns).load_page(number - 1)
        scale = mupdf.Matrix(width_px / page.rect.width, height_px / page.rect.height)
        # One display list serves both the pixels and the text: the page is interpreted once.
        content = page.get_displaylist()
        pixmap = content.get_pixmap(matrix=scale, alpha=False)
        text: str = mupdf.TextPage(content.get_textpage()).extractText()
    except mupdf.mupdf.FzErrorSystem as error:
        raise MemoryError(_first_line(error)) from None
    except (mupdf.mupdf.FzErrorBase, RuntimeError, ValueError) as error:
        raise Unreadable(f"{job.source}, page {number}: cannot be drawn ({_first_line(error)})") from None
    if (pixmap.width, pixmap.height, pixmap.n) != (width_px, height_px, 3):
        raise Unreadable(f"{job.source}, page {number}: drawn as {pixmap.width} x {pixmap.height} px")
    return pixmap, text


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _pillow(job: _Job) -> Any:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # our own limit speaks first, from the header
    try:
        image = Image.open(job.path)
    except (OSError, ValueError, SyntaxError) as error:
        raise Corrupt(f"{job.source}: not a readable {job.kind} image ({_first_line(error)})") from None
    if image.width * image.height > job.max_pixels:
        size = f"{image.width} x {image.height} pixels"
        raise TooLarge(f"{job.source}: {size}, over raster.max_megapixels={job.max_pixels // 1_000_000}")
    return image


def _image_sizes(job: _Job, geometry: Geometry) -> list[tuple[int, int]]:
    image = _pillow(job)
    sizes = []
    try:
        for index in range(getattr(image, "n_frames", 1) if job.kind == "tiff" else 1):
            image.seek(index)
            if image.width * image.height > job.max_pixels:
                raise TooLarge(f"{job.source}: page {index + 1} is over raster.max_megapixels")
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            width, height = (image.height, image.width) if turned else image.size
            sizes.append(geometry.fit(width, height, enlarge=False))
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise Corrupt(f"{job.source}: cannot be decoded ({_first_line(error)})") from None
    return sizes


def _image(job: _Job, number: int, width_px: int, height_px: int) -> Any:
    """Decode an image file upright, as RGB on white, at exactly the size asked for."""
    from PIL import Image, ImageOps

    image = _pillow(job)
    try:
        image.seek(number - 1)
        if image.format == "JPEG":
            image.draft(None, (2 * width_px, 2 * height_px))
        # Pillow decodes lazily: load here, so that a corrupt chart fails in the worker that owns it.
        image.load()
        upright = _flatten(ImageOps.exif_transpose(image))
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise Corrupt(f"{job.source}, page {number}: cannot be decoded ({_first_line(error)})") from None
    if upright.size == (width_px, height_px):
        return upright
    return upright.resize((width_px, height_px), Image.Resampling.BICUBIC, reducing_gap=3.0)


def _flatten(image: Any) -> Any:
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        image = _to_8_bit(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _to_8_bit(image: Any) -> Any:
    """Scale 16-bit samples by 1/257; wider ones by their own range, for they have no fixed white."""
    import numpy as np
    from PIL import Image

    samples = np.asarray(image).astype(np.float32)
    if image.mode.startswith("I;16") or (image.mode == "I" and samples.min() >= 0 and samples.max() <= 65535):
        low, high = 0.0, 65535.0
    else:
        low, high = float(np.nanmin(samples)), float(np.nanmax(samples))
    scaled = (np.nan_to_num(samples) - low) * (255.0 / max(high - low, 1e-9))
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))


def _as_image(pixmap: Any) -> Any:
    from PIL import Image

    return Image.frombuffer("RGB", (pixmap.width, pixmap.height), pixmap.samples, "raw", "RGB", 0, 1)


def _is_blank(image: Any, block_px: int = 8, contrast: int = 16) -> bool:
    """Tell whether no block of pixels stands out: scanner noise averages out, a single word does not."""
    low, high = image.convert("L").reduce(block_px).getextrema()
    return bool(high - low <= contrast)
