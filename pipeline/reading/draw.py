"""Draw one document's pages as images of exactly the size that the model takes. Runs in worker processes."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.errors import Corrupt, DocumentError, Interrupted, PipelineError, TooLarge, Unreadable
from pipeline.reading import damage, images, layer, marks, opening, second_renderer, svg
from pipeline.reading.job import WHOLE, Measured, Sheet
from pipeline.reading.job import Geometry as Geometry
from pipeline.reading.job import Job as Job
from pipeline.reading.job import Rendered as Rendered
from pipeline.reading.job import first_line as first_line
from pipeline.reading.sheets import PAGE_PT, box, sheets
from pipeline.records import Words

if TYPE_CHECKING:
    from PIL.Image import Image


class _Picture(NamedTuple):
    """A page that was drawn, with what the text layer says of it."""

    samples: bytes | memoryview
    """RGB, row by row."""
    layer: layer.Layer
    scale: tuple[float, float]
    """Pixels per point, across and down."""
    damage: damage.Damage = damage.Damage(False, False)
    owner: object = None
    """What the samples belong to, which must live as long."""


def prepare_worker(worker_memory_mb: int) -> None:
    """Make this process one that only draws, with a limit on its memory."""
    # PyMuPDF would load the models of its layout analysis, where that is installed: half of a worker's start.
    sys.modules.setdefault("pymupdf.layout", None)  # type: ignore[arg-type]
    import pymupdf

    # Its warnings are read page by page (damage.py); printed, they would be another program's output in ours.
    pymupdf.TOOLS.mupdf_display_errors(False)
    pymupdf.TOOLS.mupdf_display_warnings(False)
    # Words have MuPDF's own boxes: corrected ones take twice the time.
    pymupdf.TOOLS.unset_quad_corrections(True)
    # Viewers draw hairlines a pixel wide; at their true width they fade away on pages as small as ours.
    pymupdf.TOOLS.set_graphics_min_line_width(1.0)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + (worker_memory_mb << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def inspect(job: Job, geometry: Geometry) -> Measured:
    """Return the images that a document will have, with their sizes."""
    with _errors_as_text():
        return _inspected(job, geometry)


def _inspected(job: Job, geometry: Geometry) -> Measured:
    changed_ns = opening.changed_ns(job)
    if job.kind in images.KINDS:
        return Measured(images.sheets_of(job, geometry))
    if job.kind == "svg":
        return Measured(svg.sheets_of(job, geometry))
    found = opening.opened(job, changed_ns)
    return Measured(
        [
            sheet
            for index in range(found.document.page_count)
            for sheet in _sheets(job, found, index, geometry)
        ],
        found.is_repaired if found.document.is_pdf else None,
    )


def _sheets(job: Job, found: opening.Opened, index: int, geometry: Geometry) -> list[Sheet]:
    size = _size(job, found, index)
    if size is None:  # drawing says what is wrong, and it costs this page alone
        return [Sheet(index + 1, geometry.patch_px, geometry.patch_px)]
    try:
        return sheets(index + 1, *size, geometry, legible=PAGE_PT, enlarge=True)
    except TooLarge as error:
        raise TooLarge(f"{job.source}, {error}") from None


def _size(job: Job, found: opening.Opened, index: int) -> tuple[float, float] | None:
    """Return the size of a page in points, of one that MuPDF cannot load by PDFium; None without an area."""
    import pymupdf

    try:
        rect = opening.load(found, index).rect
        return None if rect.is_empty or rect.is_infinite else (rect.width, rect.height)
    except pymupdf.mupdf.FzErrorSystem as error:
        raise MemoryError(first_line(error)) from None
    except (pymupdf.mupdf.FzErrorBase, RuntimeError, ValueError):
        if not job.second or not found.document.is_pdf:
            return None
    with found.for_pdfium() as (source, passwords):
        return second_renderer.size(source, passwords, index)


def render_run(job: Job, wanted: list[tuple[Sheet, str]]) -> list[Rendered | DocumentError]:
    """Render pages, each to its file; one that cannot be drawn does not keep the others."""
    outcomes: list[Rendered | DocumentError] = []
    for sheet, out in wanted:
        try:
            with _errors_as_text():
                outcomes.append(_render(job, sheet, out))
        except DocumentError as error:
            outcomes.append(error)
    return outcomes


@contextlib.contextmanager
def _errors_as_text() -> Iterator[None]:
    """Make of an error without a name here one that can leave this process, with its trace as text.

    MuPDF's own errors cannot be pickled, and a panic of resvg is no `Exception`.
    """
    try:
        yield
    except (PipelineError, MemoryError, Interrupted):
        raise
    except BaseException as error:
        said = f"{type(error).__name__}: {first_line(error)}"
        raise RuntimeError(f"{said}\n{traceback.format_exc()}") from None


def _render(job: Job, sheet: Sheet, out: str) -> Rendered:
    """Write a page as a binary PPM of exactly its size and return its text layer."""
    begin = time.perf_counter()
    changed_ns = opening.changed_ns(job)
    rendered = _rendered(job, changed_ns, sheet, out)
    opening.changed_ns(job)  # a file that is replaced meanwhile is not what its row says
    return rendered._replace(seconds=time.perf_counter() - begin)


def _rendered(job: Job, changed_ns: int, sheet: Sheet, out: str) -> Rendered:
    if job.kind in images.KINDS:
        image = images.decode(job, sheet)
        _write(out, sheet, image.tobytes())
        blank, faint = marks.look(image)
        return Rendered("", Words(), False, blank, faint, False, 1.0)
    if job.kind == "svg":
        picture, damaged = _draw_svg(job, changed_ns, sheet), False
    else:
        picture, damaged = _draw_best(job, changed_ns, sheet)
    _write(out, sheet, picture.samples)
    found = picture.layer
    covers = layer.covers(found, memoryview(picture.samples), sheet.width_px, picture.scale)
    blank = faint = False
    if not found.text.strip():
        blank, faint = marks.look(_as_image(picture, sheet))
    return Rendered(
        found.text,
        found.words,
        covers,
        blank,
        faint,
        damaged,
        1 / picture.scale[0],
    )


def _write(out: str, sheet: Sheet, samples: bytes | memoryview) -> None:
    """Write an image that only this user can read, whatever the umask."""
    with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(b"P6 %d %d 255\n" % (sheet.width_px, sheet.height_px))
        file.write(samples)


def _draw_best(job: Job, changed_ns: int, sheet: Sheet) -> tuple[_Picture, bool]:
    """Return a page as the renderer drew it that shows more, and whether something is missing on it."""
    found = opening.opened(job, changed_ns)
    try:
        picture = _draw(job, found, sheet)
    except Unreadable:
        other = _draw_again(job, found, sheet)
        if other is None:
            raise
        return _Picture(other.tobytes(), layer.Layer("", Words(), []), (1.0, 1.0)), False
    # A picture that MuPDF cannot decode may leave the page white without a warning.
    by_expression = opening.hides_by_expression(found, sheet.number - 1)
    empty = not picture.layer.text.strip() and marks.look(_as_image(picture, sheet))[0]
    could_be_white = empty and (bool(picture.layer.pictures) or found.is_repaired)
    if not (picture.damage.is_doubtful or could_be_white or by_expression):
        return picture, False
    other = _draw_again(job, found, sheet)
    if other is not None and (by_expression or damage.shows_more(other, _as_image(picture, sheet))):
        return picture._replace(samples=other.tobytes()), False
    unsure = other is None and picture.damage.is_doubtful
    return picture, picture.damage.is_lost or unsure or (empty and found.is_repaired)


def _draw_svg(job: Job, changed_ns: int, sheet: Sheet) -> _Picture:
    """Return a drawing with the text that MuPDF finds in it, where it finds any."""
    import pymupdf

    if not svg.can_write(job):  # MuPDF brings fonts of its own for Chinese, Japanese and Korean
        with contextlib.suppress(DocumentError):
            return _draw(job, opening.opened(job, changed_ns), sheet)
    samples = svg.draw(job, sheet).tobytes()
    try:
        page = opening.opened(job, changed_ns).document.load_page(0)
        words = layer.read(page.get_displaylist())
        width, height = page.rect.width, page.rect.height
    except (DocumentError, pymupdf.mupdf.FzErrorBase, RuntimeError, ValueError):
        return _Picture(samples, layer.Layer("", Words(), []), (1.0, 1.0))
    if sheet.part != WHOLE:
        words = layer.within(words, box(sheet.part, width, height))
    return _Picture(samples, words, _per_point(sheet, width, height))


def _draw(job: Job, found: opening.Opened, sheet: Sheet) -> _Picture:
    import pymupdf

    damage.forget()
    try:
        page = opening.load(found, sheet.number - 1)
        width, height = page.rect.width, page.rect.height
        if page.rect.is_empty or page.rect.is_infinite:
            raise Corrupt(f"{job.source}, page {sheet.number}: has no area; repair the file")
        scale = _per_point(sheet, width, height)
        shown = box(sheet.part, width, height)
        # One display list serves both the pixels and the text: the page is interpreted once.
        content = page.get_displaylist()
        matrix = pymupdf.Matrix(scale[0], 0, 0, scale[1], -shown[0] * scale[0], -shown[1] * scale[1])
        pixmap = content.get_pixmap(matrix=matrix, alpha=False, clip=pymupdf.Rect(shown))
        words = layer.read(content)
    except pymupdf.mupdf.FzErrorSystem as error:
        raise MemoryError(first_line(error)) from None
    except (pymupdf.mupdf.FzErrorBase, RuntimeError, ValueError) as error:
        raise Unreadable(
            f"{job.source}, page {sheet.number}: cannot be drawn ({first_line(error)})"
        ) from None
    if (pixmap.width, pixmap.height, pixmap.n) != (sheet.width_px, sheet.height_px, 3):
        raise Unreadable(f"{job.source}, page {sheet.number}: drawn as {pixmap.width} x {pixmap.height} px")
    if sheet.part != WHOLE:
        words = layer.within(words, shown)
    return _Picture(pixmap.samples_mv, words, scale, damage.since_forgotten(), pixmap)


def _per_point(sheet: Sheet, width: float, height: float) -> tuple[float, float]:
    x0, y0, x1, y1 = box(sheet.part, width, height)
    return sheet.width_px / (x1 - x0), sheet.height_px / (y1 - y0)


def _draw_again(job: Job, found: opening.Opened, sheet: Sheet) -> Image | None:
    if not job.second or not found.document.is_pdf:
        return None
    size = sheet.width_px, sheet.height_px
    with found.for_pdfium() as (source, passwords):
        return second_renderer.draw(source, passwords, sheet.number - 1, *size, sheet.part)


def _as_image(picture: _Picture, sheet: Sheet) -> Image:
    from PIL import Image

    size = sheet.width_px, sheet.height_px
    return Image.frombuffer("RGB", size, picture.samples, "raw", "RGB", 0, 1)  # type: ignore[arg-type]
