"""Draw one document's pages as images of exactly the size that the model takes. Runs in worker processes."""

from __future__ import annotations

import functools
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import Corrupt, DocumentError, Empty, Encrypted, Unreadable
from pipeline.reading import images, layer, marks, pagetree, scratch
from pipeline.reading.job import Geometry as Geometry
from pipeline.reading.job import Job as Job
from pipeline.reading.job import Rendered as Rendered
from pipeline.reading.job import first_line as first_line
from pipeline.records import Words

if TYPE_CHECKING:
    from PIL.Image import Image


def prepare_worker() -> None:
    """Make this process one that only draws."""
    # PyMuPDF would load the models of its layout analysis, where that is installed: half of a worker's start.
    sys.modules.setdefault("pymupdf.layout", None)  # type: ignore[arg-type]
    _mupdf().TOOLS.mupdf_display_errors(False)
    _mupdf().TOOLS.mupdf_display_warnings(False)
    # Words have MuPDF's own boxes: corrected ones take twice the time.
    _mupdf().TOOLS.unset_quad_corrections(True)


def _mupdf() -> Any:
    import pymupdf

    return pymupdf


def inspect(job: Job, geometry: Geometry) -> list[tuple[int, int]]:
    """Return the size in pixels that each page will have."""
    changed_ns = _changed_ns(job)
    if job.kind in images.IMAGE_KINDS:
        return images.sizes(job, geometry)
    document = _open(job, changed_ns)
    return [_size(job, document, index, geometry) for index in range(document.page_count)]


def _size(job: Job, document: Any, index: int, geometry: Geometry) -> tuple[int, int]:
    mupdf = _mupdf()
    try:
        rect = document.load_page(index).rect
    except mupdf.mupdf.FzErrorSystem as error:
        raise MemoryError(first_line(error)) from None
    except (mupdf.mupdf.FzErrorBase, RuntimeError, ValueError):
        return geometry.fit(1, 1, enlarge=False)  # drawing says what is wrong, and costs this page alone
    if rect.is_empty or rect.is_infinite:
        raise Corrupt(f"{job.source}: page {index + 1} has no area; repair the file")
    return geometry.fit(rect.width, rect.height, enlarge=True)


def render_run(job: Job, wanted: list[tuple[int, int, int, str]]) -> list[Rendered | DocumentError]:
    """Render pages (number, width, height, file); a page that cannot be drawn does not keep the others."""
    outcomes: list[Rendered | DocumentError] = []
    for number, width_px, height_px, out in wanted:
        try:
            outcomes.append(_render(job, number, width_px, height_px, out))
        except DocumentError as error:
            outcomes.append(error)
    return outcomes


def _render(job: Job, number: int, width_px: int, height_px: int, out: str) -> Rendered:
    """Write page `number` as a binary PPM of exactly that size and return its text layer."""
    begin = time.perf_counter()
    changed_ns = _changed_ns(job)
    if job.kind in images.IMAGE_KINDS:
        image = images.decode(job, number, width_px, height_px)
        scratch.write_image(Path(out), width_px, height_px, image.tobytes())
        blank, faint = marks.look(image)
        return Rendered("", Words(), False, blank, faint, 1.0, time.perf_counter() - begin)
    pixmap, found, scale = _draw(job, changed_ns, number, width_px, height_px)
    samples = pixmap.samples_mv
    scratch.write_image(Path(out), width_px, height_px, samples)
    covers = layer.covers(found, samples, width_px, scale)
    blank = faint = False
    if not found.text.strip():
        blank, faint = marks.look(_as_image(pixmap))
    return Rendered(found.text, found.words, covers, blank, faint, 1 / scale[0], time.perf_counter() - begin)


def _changed_ns(job: Job) -> int:
    """Return when a document was last changed. Raises Unreadable when it is no file any more."""
    try:
        found = Path(job.path).stat()
    except OSError as error:
        raise Unreadable(f"{job.source}: cannot be read any more ({error.strerror})") from None
    if not stat.S_ISREG(found.st_mode):
        raise Unreadable(f"{job.source}: is not a regular file any more")
    return found.st_mtime_ns


@functools.lru_cache(maxsize=2)
def _open(job: Job, changed_ns: int) -> Any:
    """Open a document with MuPDF; the last two stay open, since pages come one by one."""
    mupdf = _mupdf()
    try:
        document = mupdf.open(job.path, filetype=job.kind)
    except mupdf.mupdf.FzErrorSystem as error:
        raise MemoryError(first_line(error)) from None
    except (mupdf.mupdf.FzErrorBase, RuntimeError, ValueError) as error:
        raise Corrupt(f"{job.source}: cannot be opened as {job.kind} ({first_line(error)})") from None
    if document.needs_pass and not (job.password and document.authenticate(job.password)):
        hint = "the password given is wrong" if job.password else "needs a password"
        raise Encrypted(f"{job.source}: {hint}; give it with raster.password=… or raster.passwords=FILE.csv")
    try:
        return document if pagetree.is_sound(document) else _with_pages_that_are_there(job, document)
    except mupdf.mupdf.FzErrorSystem as error:
        raise MemoryError(first_line(error)) from None


def _with_pages_that_are_there(job: Job, document: Any) -> Any:
    """Return a PDF with the pages that can be found. Raises Corrupt or Empty when there is none."""
    data = pagetree.rebuilt(document) if document.is_pdf else None
    if data is not None:
        return _mupdf().open(stream=data, filetype="pdf")
    if getattr(document, "is_repaired", False):
        raise Corrupt(f"{job.source}: no page could be recovered; the file is damaged, fetch it again")
    raise Empty(f"{job.source}: has no pages")


def _draw(
    job: Job, changed_ns: int, number: int, width_px: int, height_px: int
) -> tuple[Any, layer.Layer, tuple[float, float]]:
    """Return a page's pixels, its text layer, and the pixels per point across and down."""
    mupdf = _mupdf()
    try:
        page = _open(job, changed_ns).load_page(number - 1)
        scale = width_px / page.rect.width, height_px / page.rect.height
        # One display list serves both the pixels and the text: the page is interpreted once.
        content = page.get_displaylist()
        pixmap = content.get_pixmap(matrix=mupdf.Matrix(*scale), alpha=False)
        found = layer.read(content)
    except mupdf.mupdf.FzErrorSystem as error:
        raise MemoryError(first_line(error)) from None
    except (mupdf.mupdf.FzErrorBase, RuntimeError, ValueError) as error:
        raise Unreadable(f"{job.source}, page {number}: cannot be drawn ({first_line(error)})") from None
    if (pixmap.width, pixmap.height, pixmap.n) != (width_px, height_px, 3):
        raise Unreadable(f"{job.source}, page {number}: drawn as {pixmap.width} x {pixmap.height} px")
    return pixmap, found, scale


def _as_image(pixmap: Any) -> Image:
    from PIL import Image

    return Image.frombuffer("RGB", (pixmap.width, pixmap.height), pixmap.samples, "raw", "RGB", 0, 1)
