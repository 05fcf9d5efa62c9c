"""Gather what was seen of each document until its row in `documents` is complete."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from pipeline.records import Document, DocumentRow, Outline, Page

_SAMPLE_PAGES = 40
_SAMPLE_CHARS = 600


@dataclass(slots=True)
class _Open:
    row: DocumentRow
    pages_to_come: int
    languages: Counter[str] = field(default_factory=Counter)


class Ledger:
    """Turn outlines and rendered pages into rows of `documents`, one per input, duplicates included."""

    def __init__(self, detect_language: Callable[[str], str | None]) -> None:
        self._detect_language = detect_language
        self._open: dict[str, _Open] = {}
        self._duplicates: dict[str, list[Document]] = {}

    def begin(self, outline: Outline, looked_at: bool) -> DocumentRow | None:
        """Open a document's row; return it at once when none of its pages will be looked at."""
        row = DocumentRow.of(outline)
        if outline.failure or not looked_at:
            return row
        # By bytes: under whatever names, pages are drawn once.
        self._open[row.document_id] = _Open(
            replace(row, text_layer_pages=0, blank_pages=0, damaged_pages=0), len(outline.pages)
        )
        return None

    def repeat(self, document: Document) -> bool:
        """Note a duplicate of a document that is still open; its row follows the original's."""
        if document.document_id not in self._open:
            return False
        self._duplicates.setdefault(document.document_id, []).append(document)
        return True

    def add_pages(self, pages: Iterable[Page]) -> Iterator[DocumentRow]:
        """Take rendered pages; yield the rows of the documents that they complete."""
        for page in pages:
            document_id = page.document.document_id
            # Pages of a document that was opened before, asked about again for a new question.
            if (entry := self._open.get(document_id)) is None:
                continue
            entry.row = _count(entry.row, page)
            entry.pages_to_come -= 1
            # A sample is enough to tell: detection takes longer than drawing a plain page.
            if entry.languages.total() < _SAMPLE_PAGES and (
                name := self._detect_language(page.text[:_SAMPLE_CHARS])
            ):
                entry.languages[name] += 1
            if entry.pages_to_come == 0:
                del self._open[document_id]
                row = replace(entry.row, languages=_frequent(entry.languages))
                yield row
                for document in self._duplicates.pop(document_id, []):
                    yield row.under(document)

    def unseen(self) -> Iterator[DocumentRow]:
        """Yield rows of documents that were opened but had no page to be seen."""
        for document_id in [key for key, entry in self._open.items() if entry.pages_to_come == 0]:
            yield self._open.pop(document_id).row


def _count(row: DocumentRow, page: Page) -> DocumentRow:
    counted = replace(
        row,
        text_layer_pages=(row.text_layer_pages or 0) + bool(page.text.strip()),
        blank_pages=(row.blank_pages or 0) + page.blank,
        damaged_pages=(row.damaged_pages or 0) + page.damaged,
        raster_seconds=row.raster_seconds + page.raster_seconds,
    )
    return counted.failed(page.failure)


def _frequent(languages: Counter[str]) -> tuple[str, ...]:
    """Keep the languages of at least a fifth of the pages, the most frequent first."""
    return tuple(name for name, pages in languages.most_common() if 5 * pages >= languages.total())
