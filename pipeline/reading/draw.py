"""Draw one document's pages as images of exactly the size that the model takes. Runs in worker processes."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import DocumentError, Interrupted, PipelineError, TooLarge
from pipeline.reading import crop, images, layer, marks, opening, pages, scratch, second_renderer, svg
from pipeline.reading.job import Geometry as Geometry
from pipeline.reading.job import Job as Job
from pipeline.reading.job import Measured, Sheet
from pipeline.reading.job import Rendered as Rendered
from pipeline.reading.job import first_line as first_line
from pipeline.reading.sheets import PAGE_PT, sheets
from pipeline.records import Words

DRAWING = 3
"""Raised when the code draws other pixels of the same page: questions about it are then asked again."""


def prepare_worker() -> None:
    """Make this process one that only draws."""
    # PyMuPDF would load the models of its layout analysis, where that is installed: half of a worker's start.
    sys.modules.setdefault("pymupdf.layout", None)  # type: ignore[arg-type]
    import pymupdf

    # What libraries say of a file goes into its row; printed, it would pass for this program's words.
    warnings.simplefilter("ignore")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    # MuPDF's warnings are read page by page (damage.py).
    pymupdf.TOOLS.mupdf_display_errors(False)
    pymupdf.TOOLS.mupdf_display_warnings(False)
    # Words have MuPDF's own boxes: corrected ones take twice the time.
    pymupdf.TOOLS.unset_quad_corrections(True)
    # Viewers draw hairlines a pixel wide; at their true width they fade away on pages as small as ours.
    pymupdf.TOOLS.set_graphics_min_line_width(1.0)


def inspect(job: Job, geometry: Geometry) -> Measured:
    """Return the images that a document will have, with their sizes."""
    # One guard around all that is met of a file: what is raised behind it costs its own row.
    with _errors_as_text():
        return _inspected(job, geometry)


def _inspected(job: Job, geometry: Geometry) -> Measured:
    changed_ns = opening.changed_ns(job)
    if job.kind in images.KINDS:
        return Measured(images.sheets_of(job, geometry), sample="" if job.sample else None)
    if job.kind == "svg":
        return Measured(svg.sheets_of(job, geometry), sample="" if job.sample else None)
    found = opening.opened(job, changed_ns)
    return Measured(
        [
            sheet
            for index in range(found.document.page_count)
            for sheet in _sheets(job, found, index, geometry)
        ],
        found.is_repaired if found.document.is_pdf else None,
        _sample(found) if job.sample else None,
    )


def _sample(found: opening.Opened) -> str:
    """Return a little of the text of the first page; nothing where it cannot be read."""
    import pymupdf

    try:
        text: str = opening.load(found, 0).get_text()
        return text[:_SAMPLE_CHARS]
    except (pymupdf.mupdf.FzErrorBase, RuntimeError, ValueError):
        return ""


_SAMPLE_CHARS = 600


def _sheets(job: Job, found: opening.Opened, index: int, geometry: Geometry) -> list[Sheet]:
    size = _size(job, found, index)
    if size is None:  # drawing says what is wrong, and it costs this page alone
        return [Sheet(index + 1, geometry.patch_px, geometry.patch_px)]
    try:
        whole = sheets(index + 1, *size, geometry, legible=PAGE_PT, enlarge=True)
    except TooLarge as error:
        raise TooLarge(f"{job.source}, {error}") from None
    return [crop.cropped(sheet, found, geometry) for sheet in whole]


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
        scratch.write_image(Path(out), sheet.width_px, sheet.height_px, image.tobytes())
        blank, faint = marks.look(image)
        return Rendered("", Words(), False, blank, faint, False, (1.0, 1.0))
    picture = pages.draw(job, changed_ns, sheet)
    scratch.write_image(Path(out), sheet.width_px, sheet.height_px, picture.samples)
    # What nobody sees is not on the page; unless the picture lacks what could not be decoded.
    found = pages.NO_LAYER if picture.blank and not picture.damaged else picture.layer
    samples = memoryview(picture.samples)
    return Rendered(
        text=found.text,
        words=found.words,
        text_covers=layer.covers(pages.layer_in(picture), samples, sheet.width_px, picture.scale),
        blank=picture.blank,
        faint=picture.faint,
        damaged=picture.damaged,
        points_per_px=(1 / picture.scale[0], 1 / picture.scale[1]),
        origin=picture.shown[:2],
    )
