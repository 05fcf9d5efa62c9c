"""Draw a page of a document with MuPDF, or with PDFium where that shows more, and read its text layer."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from pipeline.errors import Corrupt, DocumentError, Unreadable
from pipeline.reading import damage, layer, marks, opening, second_renderer, svg
from pipeline.reading.job import WHOLE, Job, Sheet, first_line
from pipeline.reading.sheets import box
from pipeline.records import Words

if TYPE_CHECKING:
    from PIL.Image import Image

NO_LAYER = layer.Layer("", Words(), [])

_NO_CHAPTER = "ERROR: cannot find chapter"
"""What MuPDF draws in place of one that it cannot read."""


class Picture(NamedTuple):
    """A page that was drawn, with its text layer."""

    samples: bytes | memoryview
    """RGB, row by row."""
    layer: layer.Layer
    scale: tuple[float, float]
    """Pixels per point, across and down."""
    blank: bool = False
    faint: bool = False
    warned: damage.Damage = damage.Damage(False, False)
    """What MuPDF said about it."""
    damaged: bool = False
    shown: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """What of the page is in the picture where its margins are cut off, in points; else its corner alone."""
    owner: object = None
    """What the samples belong to, which must live as long."""


def layer_in(picture: Picture) -> layer.Layer:
    """Return the text layer of a page with places from the corner of its picture."""
    whole = picture.shown[:2] == (0.0, 0.0)
    return picture.layer if whole else layer.within(picture.layer, picture.shown)


def draw(job: Job, changed_ns: int, sheet: Sheet) -> Picture:
    """Return a page as the renderer drew it that shows more. Raises DocumentError where none can."""
    if job.kind == "svg":
        return _draw_svg(job, changed_ns, sheet)
    found = opening.opened(job, changed_ns)
    try:
        picture = _with_mupdf(job, found, sheet)
    except Unreadable:
        # The text layer goes with it: PDFium's is not read, so the page is read from its picture.
        if (other := _with_pdfium(job, found, sheet)) is None:
            raise
        return _looked_at(Picture(other.tobytes(), NO_LAYER, _scale_of_pdfium(found, sheet)), sheet)
    return _best(job, found, sheet, picture)


def _best(job: Job, found: opening.Opened, sheet: Sheet, picture: Picture) -> Picture:
    # A picture that MuPDF cannot decode may leave the page white without a warning.
    could_be_white = picture.blank and (bool(picture.layer.pictures) or found.is_repaired)
    by_expression = opening.hides_by_expression(found, sheet.number - 1)
    if not (picture.warned.is_doubtful or could_be_white or by_expression):
        return picture
    other = _with_pdfium(job, found, sheet)
    if other is not None and (by_expression or damage.shows_more(other, _image(picture, sheet))):
        return _looked_at(picture._replace(samples=other.tobytes()), sheet)
    # With no other picture to compare, any warning that is not known to be harmless counts.
    unsure = other is None and picture.warned.is_doubtful
    empty = picture.blank and found.is_repaired
    return picture._replace(damaged=picture.warned.is_lost or unsure or empty)


def _draw_svg(job: Job, changed_ns: int, sheet: Sheet) -> Picture:
    """Return a drawing with the text that MuPDF finds in it, where it finds any."""
    import pymupdf

    if not svg.can_write(job):  # MuPDF brings fonts of its own for Chinese, Japanese and Korean
        with contextlib.suppress(DocumentError):
            return _with_mupdf(job, opening.opened(job, changed_ns), sheet)
    samples = svg.draw(job, sheet).tobytes()
    try:
        page = opening.opened(job, changed_ns).document.load_page(0)
        width, height = page.rect.width, page.rect.height
        if page.rect.is_empty or page.rect.is_infinite:
            raise Corrupt(f"{job.source}: has no area; repair the file")
        words = layer.read(page.get_displaylist())
    except (DocumentError, pymupdf.mupdf.FzErrorBase, RuntimeError, ValueError):
        return _looked_at(Picture(samples, NO_LAYER, (1.0, 1.0)), sheet)
    if sheet.part != WHOLE:
        words = layer.within(words, box(sheet.part, width, height))
    return _looked_at(Picture(samples, words, _scale(sheet, width, height)), sheet)


def _with_mupdf(job: Job, found: opening.Opened, sheet: Sheet) -> Picture:
    import pymupdf

    named = f"{job.source}, page {sheet.number}"
    damage.forget()
    try:
        page = opening.load(found, sheet.number - 1)
        width, height = page.rect.width, page.rect.height
        if page.rect.is_empty or page.rect.is_infinite:
            raise Corrupt(f"{named}: has no area; repair the file")
        scale = _scale(sheet, width, height)
        shown = box(sheet.shown, width, height)
        # One display list serves both the pixels and the text: the page is interpreted once.
        content = page.get_displaylist()
        matrix = pymupdf.Matrix(scale[0], 0, 0, scale[1], -shown[0] * scale[0], -shown[1] * scale[1])
        pixmap = content.get_pixmap(matrix=matrix, alpha=False, clip=pymupdf.Rect(shown))
        words = layer.read(content)
    except pymupdf.mupdf.FzErrorSystem as error:
        raise MemoryError(first_line(error)) from None
    except (pymupdf.mupdf.FzErrorBase, RuntimeError, ValueError) as error:
        raise Unreadable(f"{named}: cannot be drawn ({first_line(error)}); repair the file") from None
    if (pixmap.width, pixmap.height, pixmap.n) != (sheet.width_px, sheet.height_px, 3):
        raise Unreadable(f"{named}: drawn as {pixmap.width} x {pixmap.height} px; please report it")
    if job.kind == "epub" and words.text.startswith(_NO_CHAPTER):
        raise Unreadable(f"{named}: a chapter is missing or damaged; fetch the file again")
    if sheet.part != WHOLE:
        words = layer.within(words, shown)
    # Read here, before another page is loaded: MuPDF keeps one list for the whole process.
    warned = damage.since_forgotten()
    drawn = Picture(pixmap.samples_mv, words, scale, warned=warned, owner=pixmap)
    return _looked_at(drawn if sheet.crop == WHOLE else drawn._replace(shown=shown), sheet)


def _with_pdfium(job: Job, found: opening.Opened, sheet: Sheet) -> Image | None:
    if not job.second or not found.document.is_pdf:
        return None
    size = sheet.width_px, sheet.height_px
    with found.for_pdfium() as (source, passwords):
        return second_renderer.draw(source, passwords, sheet.number - 1, *size, sheet.shown)


def _scale_of_pdfium(found: opening.Opened, sheet: Sheet) -> tuple[float, float]:
    with found.for_pdfium() as (source, passwords):
        size = second_renderer.size(source, passwords, sheet.number - 1)
    return _scale(sheet, *size) if size else (1.0, 1.0)


def _scale(sheet: Sheet, width: float, height: float) -> tuple[float, float]:
    x0, y0, x1, y1 = box(sheet.shown, width, height)
    return sheet.width_px / (x1 - x0), sheet.height_px / (y1 - y0)


def _looked_at(picture: Picture, sheet: Sheet) -> Picture:
    """Return a picture with whether it is blank; one with text is not, if that is seen."""
    if picture.layer.text.strip():
        words, samples = layer_in(picture).words, memoryview(picture.samples)
        if layer.is_seen(words, samples, sheet.width_px, picture.scale):
            return picture._replace(blank=False, faint=False)
    blank, faint = marks.look(_image(picture, sheet))
    return picture._replace(blank=blank, faint=faint)


def _image(picture: Picture, sheet: Sheet) -> Image:
    from PIL import Image

    size = sheet.width_px, sheet.height_px
    return Image.frombuffer("RGB", size, picture.samples, "raw", "RGB", 0, 1)  # type: ignore[arg-type]
