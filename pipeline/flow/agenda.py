"""Which questions are still to be asked of which pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.asking import pack
from pipeline.asking.writer import Writer
from pipeline.config import RunSettings
from pipeline.flow.follow_ups import FollowUps
from pipeline.flow.identity import Identity
from pipeline.flow.progress import Progress
from pipeline.reading.raster import Rasterizer
from pipeline.records import Cell, Chunk, Document, Outline, Page, Question, Subject
from pipeline.tables.ledger import Ledger
from pipeline.tables.sink import Tables


@dataclass(slots=True)
class Agenda:
    """Goes over the inputs in order; notes which rows are wanted, and packs what has no answer yet."""

    settings: RunSettings
    documents: Iterator[Document]
    questions_of: Callable[[str], Sequence[Question]]
    """Gives the questions that are asked of a source."""
    identity: Identity
    writer: Writer
    tables: Tables
    rasterizer: Rasterizer
    ledger: Ledger
    progress: Progress
    follow_ups: FollowUps
    scans: set[str] = field(default_factory=set)
    """Sources whose first page has no text, where outlines come with a sample of it."""

    def outlines(self) -> Iterator[Outline]:
        """Yield the outline of every input, in order."""
        for outline in self.rasterizer.outlines(self.documents, self._known_outline):
            self.progress.summary.inputs += 1
            self.tables.wanted.add_document(outline.document)
            if outline.sample is not None and not outline.sample.strip():
                self.scans.add(outline.document.source)
            yield outline

    def chunks(self, outlines: Iterable[Outline]) -> Iterator[Chunk]:
        """Yield what is to be rendered, with the requests still to be made about it."""
        for members, subjects in pack.subjects(outlines, self.settings.task.scope):
            # Finished cells are looked at too: publishing keeps the rows of those that are noted as wanted.
            asked = [(subject, self._cells(subject)) for subject in subjects]
            new = [(subject, [cell for cell in cells if self._is_new(cell)]) for subject, cells in asked]
            has_questions = any(cells for _, cells in asked)
            # A document that no question is about is not drawn for the sake of its page counts.
            incomplete = has_questions and any(self._lacks_row(outline.document) for outline in members)
            self._begin_rows(members, looked_at=incomplete)
            if self.settings.task.scope == "folder":
                self.tables.wanted.add_folder(subjects[0])
            if not incomplete and not any(cells for _, cells in new):
                self.progress.skip(len(members))
            for subject, cells in new:
                if cells or incomplete:
                    yield from self._pack(subject, cells)

    # ---- what is known already ----

    def _known_outline(self, document: Document) -> Outline | None:
        """Spare opening a document of which every answer is there."""
        row = self.tables.known.document(document)
        # A folder's answers depend on all its files: each must be opened to know what it is now.
        if row is None or self.settings.task.scope == "folder":
            return None
        if row.failure:
            return None if self.settings.retry_errors else Outline(document, failure=row.failure)
        total = row.pages or 0
        # Without sizes: such an outline is never packed, it only gives the ids of answers.
        pages = tuple(Page(document, number, total, 0, 0, number) for number in range(1, total + 1))
        outline = Outline(document, pages)
        subjects = [s for _, found in pack.subjects([outline], self.settings.task.scope) for s in found]
        cells = [cell for subject in subjects for cell in self._cells(subject)]
        finished = all(self._is_finished(cell) for cell in cells)
        # Page counts that no run has taken yet need the pages drawn, once.
        return outline if finished and not (cells and row.text_layer_pages is None) else None

    def _cells(self, subject: Subject) -> list[Cell]:
        return [
            Cell(self.identity.answer_id(subject, question), subject, question)
            for question in self.questions_of(subject.source)
        ]

    def _is_new(self, cell: Cell) -> bool:
        """Note that a cell is wanted, and tell whether it must be asked: once, whatever asks for it."""
        return self.tables.wanted.want(cell) and not self._is_finished(cell)

    def _is_finished(self, cell: Cell) -> bool:
        if self.tables.known.was_not_asked(cell):
            return self.follow_ups.holds(cell) is False
        return self.tables.known.is_finished(cell, self.settings.retry_errors)

    # ---- rows of documents ----

    def _lacks_row(self, document: Document) -> bool:
        if document.failure or document.duplicate_of:
            return False
        row = self.tables.known.document(document)
        return row is None or row.text_layer_pages is None or row.failure is not None

    def _begin_rows(self, members: Sequence[Outline], looked_at: bool) -> None:
        """Open the rows of documents; one that is a copy of another has the other's."""
        for outline in members:
            document = outline.document
            if document.duplicate_of and self.ledger.repeat(document):
                continue
            original = self.tables.known.document_named(self.tables.wanted.original(document))
            if original is not None and original.document_id != document.document_id:
                # That name now has other bytes: its row tells nothing of these.
                original = None
            if document.duplicate_of and original:
                self.tables.sink.add_document(original.under(document))
            elif (outline.failure or looked_at or original is None) and (
                row := self.ledger.begin(outline, looked_at)
            ):
                self.tables.sink.add_document(row)

    # ---- packing ----

    def _pack(self, subject: Subject, cells: Sequence[Cell]) -> Iterator[Chunk]:
        settings = self.settings
        most_pages = min(settings.pack.max_images, settings.model.max_images)
        yield from pack.chunks(
            subject, cells, self.writer.page_cost, self.writer.ask, most_pages, prompt_room(settings)
        )


def prompt_room(settings: RunSettings) -> int:
    """Return the most tokens that a prompt may have: the context less the longest answer."""
    return settings.model.context_tokens - settings.task.max_output_tokens
