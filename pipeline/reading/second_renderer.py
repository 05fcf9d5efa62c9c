"""PDFium, for what MuPDF cannot open or decode: other readers forgive other faults. Runs in workers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.records import Part

if TYPE_CHECKING:
    import pypdfium2
    from PIL.Image import Image

Source = str | bytes
"""The path of a PDF, or what is in it."""


def rewritten(source: Source, passwords: Sequence[str | None], more_than: int = 0) -> bytes | None:
    """Return a PDF of the pages that PDFium finds, without password; None where these are too few.

    What lies outside its pages (layers that are switched off, the fields of forms) is not carried over.
    """
    document = _open(source, passwords)
    if document is None:
        return None
    with document:
        return _imported(document) if len(document) > more_than else None


def _imported(document: pypdfium2.PdfDocument) -> bytes | None:
    import pypdfium2

    # A new document has a page tree that is right, so that MuPDF can do the rest: text, words, drawing.
    with pypdfium2.PdfDocument.new() as new:
        try:
            new.import_pages(document)
        except pypdfium2.PdfiumError:
            _import_one_by_one(document, new)
        if len(new) == 0:
            return None
        data = io.BytesIO()
        new.save(data)
        return data.getvalue()


def _import_one_by_one(document: pypdfium2.PdfDocument, new: pypdfium2.PdfDocument) -> None:
    import pypdfium2

    # What the failed call has brought is not known: from the beginning, so that no page comes twice.
    while len(new):
        del new[0]
    for index in range(len(document)):
        try:
            new.import_pages(document, [index])
        except pypdfium2.PdfiumError:
            continue  # the tree counts a page that is not there


def size(source: Source, passwords: Sequence[str | None], index: int) -> tuple[float, float] | None:
    """Return the width and height of a page in points; None where PDFium finds no page, or no area."""
    import pypdfium2

    document = _open(source, passwords)
    if document is None:
        return None
    with document:
        try:
            width, height = document[index].get_size()
        except (pypdfium2.PdfiumError, IndexError):
            return None
    return (width, height) if width > 0 and height > 0 else None


def draw(
    source: Source, passwords: Sequence[str | None], index: int, width_px: int, height_px: int, part: Part
) -> Image | None:
    """Return a page, or a part of it, as RGB on white at exactly that size; None where PDFium cannot."""
    import pypdfium2

    document = _open(source, passwords)
    if document is None:
        return None
    with document:
        try:
            document.init_forms()  # else fields that were filled in stay empty
            page = document[index]
            return _pixels(document, page, width_px, height_px, part)
        except (pypdfium2.PdfiumError, IndexError):
            return None


def _pixels(
    document: pypdfium2.PdfDocument,
    page: pypdfium2.PdfPage,
    width_px: int,
    height_px: int,
    part: Part,
) -> Image:
    import pypdfium2
    from pypdfium2 import raw

    # Our own bitmap: pypdfium2 would round the size by itself.
    bitmap = pypdfium2.PdfBitmap.new_native(width_px, height_px, raw.FPDFBitmap_BGR)
    bitmap.fill_rect((255, 255, 255, 255), 0, 0, width_px, height_px)
    whole_width = round(width_px / (part.x1 - part.x0))
    whole_height = round(height_px / (part.y1 - part.y0))
    place = (-round(part.x0 * whole_width), -round(part.y0 * whole_height), whole_width, whole_height)
    raw.FPDF_RenderPageBitmap(bitmap, page, *place, 0, raw.FPDF_ANNOT)
    if document.formenv:
        raw.FPDF_FFLDraw(document.formenv, bitmap, page, *place, 0, raw.FPDF_ANNOT)
    image: Image = bitmap.to_pil().convert("RGB")
    return image


def _open(source: Source, passwords: Sequence[str | None]) -> pypdfium2.PdfDocument | None:
    import pypdfium2

    for password in passwords:
        try:
            return pypdfium2.PdfDocument(source, password=password)
        except (pypdfium2.PdfiumError, OSError, ValueError):
            continue
    return None
