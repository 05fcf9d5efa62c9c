"""Find the pages of a PDF whose page tree lies: a wrong count, kids that are missing or lead in a circle."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pymupdf

_INHERITED = ("MediaBox", "CropBox", "Rotate", "Resources")
_MOST_NODES = 1_000_000
_DECRYPTED = 1
"""pymupdf.PDF_ENCRYPT_NONE, of which type checkers know nothing."""


def is_sound(document: pymupdf.Document) -> bool:
    """Tell, without walking it, whether a document's page tree gives as many pages as it says."""
    import pymupdf

    try:
        count = int(document.page_count)
        if count == 0 or not document.is_pdf:
            return count > 0
        document.load_page(count - 1)
        # The count says how many pages there are: with more kids than that at the top, it hides some.
        return len(_kids(document, _number(document, document.pdf_catalog(), "Pages"))) <= count
    except pymupdf.mupdf.FzErrorSystem:
        raise  # no memory
    except (pymupdf.mupdf.FzErrorBase, RuntimeError, ValueError):
        return False


def rebuilt(document: pymupdf.Document) -> bytes | None:
    """Return the PDF with a flat tree of the pages that are there; None when there is none."""
    import pymupdf

    try:
        catalog = document.pdf_catalog()
        pages = _pages(document, _number(document, catalog, "Pages"))
        if not pages:
            return None
        parent = document.get_new_xref()
        kids = " ".join(f"{page} 0 R" for page, _ in pages)
        document.update_object(parent, f"<</Type/Pages/Count {len(pages)}/Kids[{kids}]>>")
        for page, inherited in pages:
            for key, value in inherited.items():
                # What a page says itself comes before what it inherits.
                if document.xref_get_key(page, key)[0] == "null":
                    document.xref_set_key(page, key, value)
            document.xref_set_key(page, "Parent", f"{parent} 0 R")
        document.xref_set_key(catalog, "Pages", f"{parent} 0 R")
        # Decrypted: the copy is opened as bytes, with no password at hand.
        whole: bytes = document.tobytes(encryption=_DECRYPTED)
        return whole
    except pymupdf.mupdf.FzErrorSystem:
        raise
    except (pymupdf.mupdf.FzErrorBase, RuntimeError, ValueError):
        return None


def _pages(document: pymupdf.Document, top: int) -> list[tuple[int, dict[str, str]]]:
    """Return the number of each page's object, in order, with what it inherits."""
    found: list[tuple[int, dict[str, str]]] = []
    seen: set[int] = set()
    waiting: list[tuple[int, dict[str, str]]] = [(top, {})]
    while waiting and len(seen) < _MOST_NODES:
        node, inherited = waiting.pop()
        if node in seen or not _is_dictionary(document, node):
            continue
        seen.add(node)
        if document.xref_get_key(node, "Kids")[0] != "array":
            found.append((node, inherited))
            continue
        own = {key: document.xref_get_key(node, key) for key in _INHERITED}
        passed = inherited | {key: value for key, (kind, value) in own.items() if kind != "null"}
        # Reversed, since the last is taken first: pages keep their order.
        waiting += [(kid, passed) for kid in reversed(_kids(document, node))]
    return found


def _is_dictionary(document: pymupdf.Document, node: int) -> bool:
    return 0 < node < document.xref_length() and str(document.xref_object(node)).startswith("<<")


def _number(document: pymupdf.Document, node: int, key: str) -> int:
    """Return the number of the object that a key refers to, or 0."""
    kind, value = document.xref_get_key(node, key)
    return int(value.split()[0]) if kind == "xref" else 0


def _kids(document: pymupdf.Document, node: int) -> list[int]:
    kind, value = document.xref_get_key(node, "Kids") if node > 0 else ("null", "")
    return [int(number) for number in re.findall(r"(\d+) \d+ R", value)] if kind == "array" else []
