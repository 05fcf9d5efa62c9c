"""Open a document with MuPDF; where that finds nothing, with the pages that PDFium finds."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.errors import Corrupt, DocumentError, Empty, Encrypted, Unreadable, Unsupported
from pipeline.reading import ebooks, pagetree, second_renderer
from pipeline.reading.job import Job, first_line

if TYPE_CHECKING:
    import pymupdf

_NAMED_FILES = 5
"""Files of a portfolio that its row names."""


class Opened(NamedTuple):
    document: pymupdf.Document
    source: second_renderer.Source
    """The path of what was opened, or its bytes where it had to be put together anew."""
    passwords: list[str]
    is_repaired: bool

    @contextlib.contextmanager
    def for_pdfium(self) -> Iterator[tuple[second_renderer.Source, list[str | None]]]:
        """Give what PDFium has to open, and the passwords to try on it."""
        if isinstance(self.source, bytes):
            # What was put together anew was written without encryption.
            yield self.source, [None]
        else:
            with plain_path(self.source) as path:
                yield path, [*self.passwords, None]


def changed_ns(job: Job) -> int:
    """Return when a document was last changed. Raises Unreadable when it is not what it was when hashed."""
    try:
        found = Path(job.path).stat()
    except OSError as error:
        raise Unreadable(f"{job.source}: cannot be read any more ({error.strerror}); run again") from None
    if not stat.S_ISREG(found.st_mode):
        raise Unreadable(f"{job.source}: is not a regular file any more; run again")
    if job.changed_ns and (found.st_size, found.st_mtime_ns) != (job.bytes, job.changed_ns):
        raise Unreadable(f"{job.source}: has changed since the run began; run again")
    return found.st_mtime_ns


@contextlib.contextmanager
def plain_path(path: str) -> Iterator[str]:
    """Give a path that C libraries take for a file whose name may be of any bytes."""
    if not _is_text(path):
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield f"/proc/self/fd/{handle}"
        finally:
            os.close(handle)
    else:
        yield path


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


@functools.lru_cache(maxsize=2)
def opened(job: Job, changed_ns: int) -> Opened:
    """Open a document; the last two stay open, since pages come one by one.

    Raises DocumentError when none of its pages can be found, or it needs a password.
    """
    try:
        found = _with_mupdf(job)
    except DocumentError as error:
        # What another program must open stays so, whoever opens it here.
        if job.kind != "pdf" or isinstance(error, Unsupported):
            raise
        return _rewritten(job, error)
    return _complete(found) if found.is_repaired and job.second else found


def _with_mupdf(job: Job) -> Opened:
    import pymupdf

    if job.kind == "epub":
        ebooks.refuse_encrypted(job)
    try:
        with plain_path(job.path) as path:
            # The kind was told by the content; by itself MuPDF would go by the name.
            document = pymupdf.open(path, filetype=job.kind)
        passwords = _unlock(job, document)
        _refuse_wrappers(job, document)
        is_repaired = bool(document.is_pdf and document.is_repaired)
        if pagetree.is_sound(document):
            return Opened(document, job.path, passwords, is_repaired)
        data = pagetree.rebuilt(document) if document.is_pdf else None
    except pymupdf.mupdf.FzErrorSystem as error:
        raise MemoryError(first_line(error)) from None
    except (pymupdf.mupdf.FzErrorBase, RuntimeError, ValueError, OSError) as error:
        said = first_line(error).replace(job.path, "the file")  # tables hold no folder of this machine
        if "encryption handler" in said:
            why = "is encrypted for certificates; remove that with its key"
            raise Encrypted(f"{job.source}: {why}") from None
        raise Corrupt(f"{job.source}: cannot be opened as {job.kind} ({said}); fetch it again") from None
    if data is not None:
        return Opened(pymupdf.open(stream=data, filetype="pdf"), data, [], True)
    if is_repaired:
        raise Corrupt(f"{job.source}: no page could be recovered; the file is damaged, fetch it again")
    raise Empty(f"{job.source}: has no pages; fetch it again")


def _unlock(job: Job, document: pymupdf.Document) -> list[str]:
    """Return the password that opens a document, if it needs one. Raises Encrypted when there is none."""
    if not document.needs_pass:
        return []
    for password in job.passwords:
        if document.authenticate(password):
            return [password]
    hint = "the password given is wrong" if job.password else "needs a password"
    raise Encrypted(f"{job.source}: {hint}; give it with raster.password=… or raster.passwords=FILE.csv")


def _refuse_wrappers(job: Job, document: pymupdf.Document) -> None:
    """Raise Unsupported for a PDF whose pages only say that another program must open it."""
    if not document.is_pdf:
        return
    catalog = document.pdf_catalog()
    # Attachments alone make no portfolio: only with /Collection does a viewer show them in place of pages.
    names = document.embfile_names() if document.xref_get_key(catalog, "Collection")[0] != "null" else []
    if names:
        inside = ", ".join(names[:_NAMED_FILES]) + (", …" if len(names) > _NAMED_FILES else "")
        raise Unsupported(
            f"{job.source}: is a PDF portfolio, a cover with {len(names)} files inside ({inside}); unpack it"
        )
    form = document.xref_get_key(catalog, "AcroForm/XFA")[0] != "null"
    # A static XFA form has its pages and fields as any PDF; only a dynamic one is a placeholder.
    fields = document.xref_get_key(catalog, "AcroForm/Fields")[1].strip("[] ")
    dynamic = document.xref_get_key(catalog, "NeedsRendering")[1] == "true"
    if form and (dynamic or fields in ("", "null")):
        raise Unsupported(
            f"{job.source}: is a dynamic XFA form, which only Adobe's programs show; print it to PDF there"
        )


def _complete(found: Opened) -> Opened:
    """Return a repaired document as it was opened, or with the pages that only PDFium finds."""
    import pymupdf

    # Counting is cheap, rewriting is not: done only where it gains pages.
    pages = found.document.page_count
    with found.for_pdfium() as (source, passwords):
        data = second_renderer.rewritten(source, passwords, more_than=pages)
    if data is None:
        return found
    other = pymupdf.open(stream=data, filetype="pdf")
    return Opened(other, data, [], True) if other.page_count > pages else found


def _rewritten(job: Job, error: DocumentError) -> Opened:
    """Return what PDFium can read of a document that MuPDF cannot open; raises `error` where it cannot."""
    import pymupdf

    with plain_path(job.path) as path:
        data = second_renderer.rewritten(path, [*job.passwords, None]) if job.second else None
    if data is None:
        raise error from None
    try:
        document = pymupdf.open(stream=data, filetype="pdf")
        if document.page_count == 0:
            raise error from None
    except (pymupdf.mupdf.FzErrorBase, RuntimeError, ValueError):
        raise error from None
    # Without a password PDFium reads what only looks locked: nothing was damaged then.
    return Opened(document, data, [], not isinstance(error, Encrypted))


def load(found: Opened, index: int) -> pymupdf.Page:
    """Load a page as viewers show it, whatever its boxes and its rotation are.

    One whose CropBox is empty or lies outside its MediaBox shows all of that; one that is turned by no right
    angle is upright.
    """
    page: pymupdf.Page = found.document.load_page(index)
    if not found.document.is_pdf:
        return page
    if _is_askew(found.document, page):
        found.document.xref_set_key(page.xref, "Rotate", "0")
        page = found.document.load_page(index)
    if _crop_is_void(page):
        box = page.mediabox
        found.document.xref_set_key(page.xref, "CropBox", f"[{box.x0} {box.y0} {box.x1} {box.y1}]")
        page = found.document.load_page(index)
    return page


def _is_askew(document: pymupdf.Document, page: pymupdf.Page) -> bool:
    kind, value = document.xref_get_key(page.xref, "Rotate")
    return kind in ("int", "float") and float(value) % 90 != 0


_DEFAULT_SIDES = (612, 792)
"""What MuPDF takes where boxes say nothing: a page of US letter size."""


def hides_by_expression(found: Opened, index: int) -> bool:
    """Tell whether what a page shows depends on expressions about layers, which MuPDF does not work out."""
    document = found.document
    if not document.is_pdf or document.xref_get_key(document.pdf_catalog(), "OCProperties")[0] == "null":
        return False
    try:
        layers = document.load_page(index).get_oc_items()
        return any(document.xref_get_key(number, "VE")[0] != "null" for _, number, _ in layers)
    except (RuntimeError, ValueError):
        return False


def _crop_is_void(page: pymupdf.Page) -> bool:
    rect = page.rect  # worked out anew each time that it is asked for
    # Boxes of another size say something: most pages need no second look.
    if sorted((round(rect.width), round(rect.height))) != list(_DEFAULT_SIDES):
        return False
    sides = sorted(map(round, (page.cropbox.width, page.cropbox.height)))
    outside = (page.cropbox & page.mediabox).is_empty
    return not page.mediabox.is_empty and (outside or sides != list(_DEFAULT_SIDES))
