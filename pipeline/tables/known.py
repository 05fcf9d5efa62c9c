"""What the files of an output say already: finished answers, errors, documents and replies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.records import Answer, Cell, Completion, Document, DocumentRow, Failure, Request
from pipeline.tables import columns, journal, rows
from pipeline.tables.layout import Layout
from pipeline.tables.wanted import Key, packed


class Said(NamedTuple):
    """What an answer says; None where it says nothing, or its question was not asked."""

    text: str | None


class _Failed(NamedTuple):
    """What the row of an error says of how it came about."""

    failure: Failure
    pages_read: int | None
    settings_hash: str


class Known:
    """Which answers are there, made by which settings; learnt from the Parquet files alone."""

    def __init__(self, layout: Layout, settings_hash: str, task: str) -> None:
        """Read the files, oldest first; answers of another `settings_hash` have to be derived again."""
        self._settings_hash, self._task = settings_hash, task
        self.earlier = 0
        """Answers of this task that were there before this run."""
        self._settings_of: dict[Key, str] = {}
        self._failures: dict[Key, _Failed] = {}
        self._not_asked: set[Key] = set()
        self._said: dict[Key, str | None] | None = None
        self._documents: dict[str, DocumentRow] = {}
        self._added: set[Key] = set()
        self._of_shards: set[Key] = set()
        self.journal_rows = 0
        """Answers that are in the journal and not published yet."""
        # Listed once: the same parts decide what is known of answers, documents and replies.
        parts = layout.parts()
        for file in layout.files("answers", parts):
            ids = self._read_answers(file)
            self.journal_rows += len(ids) if file.parent in parts else 0
            if file.parent in parts and file.parent.parent != layout.journal:
                self._of_shards.update(ids)
        for file in layout.files("documents", parts):
            self._read_documents(file)
        self._layout = layout
        self.replies = Replies(
            layout.files("requests", parts), lambda answer_id: self._is_final(packed(answer_id))
        )

    def is_finished(self, cell: Cell, retry_errors: bool) -> bool:
        """Tell whether a cell has the answer that these settings give, or an error that is left alone."""
        key = packed(cell.answer_id)
        return self._is_final(key) or (not retry_errors and key in self._failures)

    @property
    def finished(self) -> int:
        """Answers that are there, whatever they are about."""
        return len(self._settings_of)

    def has_row(self, key: Key) -> bool:
        """Tell whether there is an answer or an error."""
        return self._is_final(key) or key in self._failures or key in self._not_asked

    def was_not_asked(self, cell: Cell) -> bool:
        """Tell whether the last run did not ask a cell, for want of an earlier answer that says so."""
        return packed(cell.answer_id) in self._not_asked

    def count_not_asked(self, cells: Iterator[tuple[Key, int]]) -> int:
        """Count the rows of (key, rows) pairs that were not asked."""
        return sum(count for key, count in cells if key in self._not_asked)

    def said(self, answer_id: str, questions: Collection[str], retry_errors: bool) -> Said | None:
        """Return the stored answer to one of these questions, if there is one that these settings give."""
        key = packed(answer_id)
        if key in self._failures and not retry_errors:
            return Said(None)
        if not self._is_final(key):
            return None
        # Read when first asked for: in most tasks no question waits for another.
        if self._said is None:
            self._said = self._read_said(questions)
        return Said(self._said.get(key))

    def failure(self, cell: Cell) -> Failure | None:
        """Return why a cell has no answer, as the last attempt said."""
        failed = self._failures.get(packed(cell.answer_id))
        return failed and failed.failure

    def repeats(self, answer: Answer) -> bool:
        """Tell whether an error, or a question that was not asked, is what its row says already."""
        key = packed(answer.cell.answer_id)
        if answer.status == "not_asked":
            return key in self._not_asked
        return answer.failure is not None and self._failures.get(key) == self._failed(answer, answer.failure)

    def add_answer(self, answer: Answer) -> None:
        """Take note of an answer that this run has come to."""
        key = packed(answer.cell.answer_id)
        self._forget(key)
        if answer.status == "not_asked":
            self._not_asked.add(key)
        elif answer.failure is None:
            self._settings_of[key] = self._settings_hash
            self._added.add(key)
        else:
            self._failures[key] = self._failed(answer, answer.failure)

    def count(self, cells: Iterator[tuple[Key, int]]) -> tuple[int, int, Counter[str]]:
        """Count the rows of (key, rows) pairs: kept from before, answered now, and errors by code."""
        kept, answered, failed = 0, 0, Counter[str]()
        for key, count in cells:
            if self._is_final(key):
                answered += count * (key in self._added)
                kept += count * (key not in self._added)
            elif found := self._failures.get(key):
                failed[found.failure.code] += count
        return kept, answered, failed

    def count_shards_as_new(self) -> None:
        """Count what shards have journaled since the last publishing as answered now."""
        self._added |= self._of_shards

    def mean_reply(self, task: str) -> float | None:
        """Return the mean length in tokens of a task's replies that are stored; None without any."""
        written = []
        for file in self._layout.files("requests", self._layout.parts()):
            table = journal.read(file, ["task", "status", "output_tokens"])
            is_one = pc.and_(pc.equal(table["task"], task), pc.equal(table["status"], "ok"))
            written.append(table.filter(is_one)["output_tokens"])
        mean = pc.mean(pa.chunked_array([c for each in written for c in each.chunks], pa.int64())).as_py()
        return None if mean is None else float(mean)

    # ---- documents ----

    def document(self, document: Document) -> DocumentRow | None:
        """Return the row of a readable document with these bytes, under this name."""
        row = self._documents.get(document.source)
        return row if row is not None and row.document_id == document.document_id else None

    def document_named(self, source: str) -> DocumentRow | None:
        """Return the row of a source, whatever its bytes were."""
        return self._documents.get(source)

    def add_document(self, row: DocumentRow) -> bool:
        """Take note of a document's row; tell whether it says anything new."""
        old = self._documents.get(row.source)
        self._documents[row.source] = row
        # The time that drawing took differs each time: a run that learns nothing new writes nothing.
        return old is None or any(
            getattr(old, name) != getattr(row, name)
            for name in DocumentRow.__slots__
            if name != "raster_seconds"
        )

    # ---- inside ----

    def _is_final(self, key: Key) -> bool:
        return self._settings_of.get(key) == self._settings_hash

    def _forget(self, key: Key) -> None:
        """Take back what an earlier row said of an answer: it is one of answered, failed and not asked."""
        self._settings_of.pop(key, None)
        self._failures.pop(key, None)
        self._not_asked.discard(key)

    def _failed(self, answer: Answer, failure: Failure) -> _Failed:
        # With another page read, or other settings, an error with the same message keeps another answer.
        return _Failed(failure, answer.pages_read, self._settings_hash)

    def _read_answers(self, file: Path) -> list[Key]:
        names = ["answer_id", "status", "error_code", "error", "pages_read", "settings_hash", "task"]
        table = journal.read(file, names)
        keys = [packed(answer_id) for batch in table["answer_id"].chunks for answer_id in batch.to_pylist()]
        hashes = table["settings_hash"].dictionary_encode()  # one string for all rows of a run, not one each
        is_ok = pc.fill_null(pc.equal(table["status"], "ok"), False)
        # An output may hold several tasks: answers of others are not expected to fit what this one asks.
        is_own = pc.equal(table["task"], self._task).to_pylist()
        others = iter(table.filter(pc.invert(is_ok)).to_pylist())
        # Row by row: of a killed run that answered anew, an older row of the same answer is still there.
        found = zip(keys, _shared(hashes), is_ok.to_pylist(), is_own, strict=True)
        for key, settings_hash, ok, own in found:
            self.earlier += bool(ok and own and key not in self._settings_of)
            self._forget(key)
            if ok:
                self._settings_of[key] = settings_hash
            elif (row := next(others))["status"] == "not_asked":
                self._not_asked.add(key)
            else:
                failure = Failure(row["error_code"], row["error"])
                self._failures[key] = _Failed(failure, row["pages_read"], settings_hash)
        return keys

    def _read_said(self, questions: Collection[str]) -> dict[Key, str | None]:
        found: dict[Key, str | None] = {}
        for file in self._layout.files("answers", self._layout.parts()):
            table = journal.read(file, ["answer_id", "question_id", "answer"])
            table = table.filter(
                pc.is_in(table["question_id"], value_set=pa.array(sorted(questions), pa.string()))
            )
            ids, answers = (table[name].to_pylist() for name in ("answer_id", "answer"))
            found.update(zip(map(packed, ids), answers, strict=True))
        return found

    def _read_documents(self, file: Path) -> None:
        table = columns.conform(journal.read(file), columns.DOCUMENTS)
        for row in table.to_pylist():
            row["languages"] = tuple(row["languages"] or ())
            self._documents[row["source"]] = DocumentRow(**row)


class Replies:
    """What engines said before to requests whose answers are still to be made, by the request's identity."""

    def __init__(self, files: list[Path], is_final: Callable[[str], bool]) -> None:
        self._tables: list[pa.Table] = []
        self._places: dict[str, tuple[int, int]] = {}
        for file in files:
            self._index(file, is_final)

    def get(self, request: Request) -> Completion | None:
        """Return the reply to exactly this request, if there is one."""
        place = self._places.get(request.request_id)
        if place is None:
            return None
        # One row at a time: as Python's objects the tokens of all replies would not fit into memory.
        (row,) = self._tables[place[0]].slice(place[1], 1).to_pylist()
        return rows.to_completion(row)

    def _index(self, file: Path, is_final: Callable[[str], bool]) -> None:
        # Ids first: of most files no reply is wanted any more, and their texts need not be read.
        ids = journal.read(file, ["answer_id"])["answer_id"]
        wanted = [not is_final(answer_id) for chunk in ids.chunks for answer_id in chunk.to_pylist()]
        if not any(wanted):
            return
        table = columns.conform(journal.read(file).filter(pa.array(wanted)), columns.REQUESTS)
        # A request that failed is made again: what it came to is no reply.
        table = table.filter(pc.equal(table["status"], "ok"))
        for index, request_id in enumerate(table["request_id"].to_pylist()):
            self._places[request_id] = (len(self._tables), index)
        self._tables.append(table)


def _shared(encoded: pa.ChunkedArray) -> Iterator[str]:
    """Yield the values of a dictionary-encoded column, equal ones as one object."""
    for chunk in encoded.chunks:
        values = chunk.dictionary.to_pylist()
        yield from (values[index] for index in chunk.indices.to_pylist())
