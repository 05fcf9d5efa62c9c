"""Tell which rows the current inputs and questions ask for, under which names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.records import Cell, Document, Question, Subject
from pipeline.tables import keys
from pipeline.tables.columns import Row
from pipeline.tables.rows import SPENT

_PLACE = ("source", "question_id", "gold_answer", "gold_page")
KEYS = {
    "answers": ["answer_id", "source", "document_id", "task"],
    "requests": ["answer_id", "source", "document_id", "task"],
    "documents": ["source", "document_id"],
}
"""Columns by which `Wanted.publishes` decides."""


Place = tuple[str, str, str | None, str | None]
"""Source, question id, gold answer, gold page: what names a row of an answer."""
Key = bytes | str
"""The id of an answer or a document, in half the memory where it has the usual form."""
_Asked = tuple[str, Question]
"""Source and question, which many answers share: a place of its own each would take twice the memory."""


def packed(identity: str) -> Key:
    """Return the id of an answer or a document as a key of dictionaries that hold millions of them."""
    try:
        key = bytes.fromhex(identity)
    except ValueError:
        return identity
    # Capitals and spaces would be lost: such an id stays a text.
    return key if key.hex() == identity else identity


class Wanted:
    """The current inputs, and the cells asked of them, as far as this run has come."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._asked: dict[Key, _Asked | list[_Asked]] = {}
        self._present: dict[str, Key] = {}
        self._originals: dict[Key, str] = {}

    def want(self, cell: Cell) -> bool:
        """Note that the current inputs and questions ask for this cell; tell whether that is new."""
        asked = cell.subject.source, cell.question
        before = self._asked.setdefault(packed(cell.answer_id), asked)
        # `setdefault` gives back the very same tuple where the key is new.
        if before is asked:
            return True
        if isinstance(before, list):
            before.append(asked)
        else:
            self._asked[packed(cell.answer_id)] = [before, asked]
        return False

    def add_document(self, document: Document) -> None:
        """Note that a document is among the current inputs."""
        key = packed(document.document_id)
        self._present[document.source] = key
        self._originals.setdefault(key, document.source)

    def add_folder(self, folder: Subject) -> None:
        """Note that a folder, asked about as a whole, is among the current inputs."""
        self._present[folder.source] = packed(folder.document_id)

    @property
    def questions(self) -> int:
        """How many different questions are asked."""
        return len({question.question_id for key in self._asked for _, question in self._asked_as(key)})

    @property
    def row_count(self) -> int:
        """In how many rows of the answers."""
        return sum(count for _, count in self.cells())

    @property
    def sources(self) -> Iterator[str]:
        """The current inputs."""
        return iter(self._present)

    def original(self, document: Document) -> str:
        """Return the name under which the document's bytes were first met."""
        return self._originals.get(packed(document.document_id), document.source)

    def cells(self) -> Iterator[tuple[Key, int]]:
        """Yield the keys of the wanted answers, and in how many rows each is to appear."""
        for key, asked in self._asked.items():
            yield key, len(asked) if isinstance(asked, list) else 1

    def missing(self, has_row: Callable[[Key], bool]) -> Counter[str]:
        """Count the wanted rows that are not there, by source."""
        found = Counter[str]()
        for key in self._asked:
            if not has_row(key):
                found.update(source for source, _ in self._asked_as(key))
        return found

    def reason_to_leave(self, row: Row) -> str:
        """Say why a published row is not wanted any more."""
        if row["source"] not in self._present:
            return "of files that are not among the inputs"
        if self._present[str(row["source"])] != packed(str(row["document_id"])):
            return "of files that have changed"
        return "of questions, or settings, that are not asked with now"

    def publishes(self, name: str, row: Row, complete: bool) -> bool:
        """Tell whether a row belongs into its published table; `complete`: all current inputs are known."""
        source, document_id = str(row["source"]), packed(str(row["document_id"]))
        if "answer_id" in row and packed(str(row["answer_id"])) in self._asked:
            return True
        if source not in self._present:
            return not complete  # not known yet: leave it as it stands
        if name == "documents":
            return bool(self._present[source] == document_id)
        # Rows of other tasks stay as long as the document does; this task's are superseded.
        return bool(row["task"] != self._task and self._present[source] == document_id)

    def holds_exactly(self, name: str, batches: Iterable[pa.Table]) -> bool:
        """Tell whether a published table, of `key_columns`, is what is asked for now."""
        found = 0
        for row in (row for batch in batches for row in rows(batch)):
            if not self.publishes(name, row, complete=True):
                return False
            if name == "answers" and (places := self.places(str(row["answer_id"]))):
                # What is published holds no row twice: as many of these as are wanted are all of them.
                if _filled(_place(row)) not in map(_filled, places):
                    return False
                found += 1
        return name != "answers" or found == self.row_count

    def places(self, answer_id: str) -> list[Place]:
        """Return the places of an answer among what is asked for now."""
        asked = self._asked_as(packed(answer_id))
        return [(source, each.question_id, each.gold_answer, each.gold_page) for source, each in asked]

    def standing(self, read: Callable[[], Iterable[pa.Table]], complete: bool) -> dict[str, list[Place]]:
        """Return the places of published answers that stay as they stand, where one answer has several.

        Of an answer that stands under two names, only one row is read: the other would be lost. `read` gives
        the published table, of `key_columns("answers")`, in batches.
        """
        repeated = _repeated(read)
        found: dict[str, list[Place]] = {}
        for row in (row for batch in read() for row in rows(batch)):
            answer_id = str(row["answer_id"])
            is_met = packed(answer_id) in self._asked
            if answer_id not in repeated and (complete or not is_met):
                continue
            is_asked = is_met and (complete or row["source"] in self._present)
            if not is_asked and self.publishes("answers", row, complete):
                found.setdefault(answer_id, []).append(_place(row))
        return found

    def expand(self, table: pa.Table, schema: pa.Schema, standing: Mapping[str, Sequence[Place]]) -> pa.Table:
        """Repeat an answer under every name and question id that asks for it, with the current gold.

        `standing` are places that it keeps besides. What it took is said once, so that columns can be summed.
        """
        indices: list[int] = []
        values: list[tuple[str | None, ...]] = []
        own = zip(*(table[name].to_pylist() for name in _PLACE), strict=True)
        for index, (answer_id, place) in enumerate(zip(table["answer_id"].to_pylist(), own, strict=True)):
            places = [*self.places(answer_id), *standing.get(answer_id, [])] or [place]
            indices += [index] * len(places)
            values += places
        table = table.take(pa.array(indices, pa.int64()))
        for column, name in enumerate(_PLACE):
            array = pa.array([value[column] for value in values], pa.string())
            table = table.set_column(schema.get_field_index(name), schema.field(name), array)
        is_first = pa.array(
            [n == 0 or indices[n - 1] != index for n, index in enumerate(indices)], pa.bool_()
        )
        for name in SPENT:
            spent = pc.if_else(is_first, table[name], pa.scalar(0, schema.field(name).type))
            table = table.set_column(schema.get_field_index(name), schema.field(name), spent)
        return table

    # ---- inside ----

    def _asked_as(self, key: Key) -> Sequence[_Asked]:
        asked = self._asked.get(key, [])
        return asked if isinstance(asked, list) else [asked]


def _repeated(read: Callable[[], Iterable[pa.Table]]) -> frozenset[str]:
    """Return the answer ids that are there more than once."""
    again = keys.repeated(keys.digests(batch["answer_id"] for batch in read()))
    if not again.any():
        return frozenset()
    ids = (answer_id for batch in read() for answer_id in batch["answer_id"].to_pylist())
    return frozenset(answer_id for answer_id, is_again in zip(ids, again.tolist(), strict=True) if is_again)


def _filled(place: Place) -> tuple[str | None, ...]:
    """Return a place with its empty texts as nulls, as what was never given is read."""
    return tuple(value or None for value in place)


def _place(row: Row) -> Place:
    gold_answer, gold_page = (None if row[name] is None else str(row[name]) for name in _PLACE[2:])
    return str(row["source"]), str(row["question_id"]), gold_answer, gold_page


def key_columns(name: str) -> list[str]:
    """Return the columns that `Wanted.holds_exactly` needs of a table."""
    return [*KEYS[name], *(column for column in _PLACE if name == "answers" and column not in KEYS[name])]


def rows(table: pa.Table) -> Iterator[Row]:
    """Yield a table's rows with the columns by which they are wanted."""
    names = [name for name in dict.fromkeys((*KEYS["answers"], *_PLACE)) if name in table.column_names]
    for values in zip(*(table[name].to_pylist() for name in names), strict=True):
        yield dict(zip(names, values, strict=True))
