"""Tell which rows the current inputs and questions ask for, under which names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.records import Cell, Document, Subject
from pipeline.tables.columns import Row

_PLACE = ("source", "question_id", "gold_answer", "gold_page")
KEYS = {
    "answers": ["answer_id", "source", "document_id", "task"],
    "requests": ["answer_id", "source", "document_id", "task"],
    "documents": ["source", "document_id"],
}
"""Columns by which `Wanted.publishes` decides."""


Place = tuple[str, str, str | None, str | None]
"""Source, question id, gold answer, gold page: what names a row of an answer."""


class Wanted:
    """The current inputs, and the cells asked of them, as far as this run has come."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._places: dict[str, list[Place]] = {}
        self._present: dict[str, str] = {}
        self._originals: dict[str, str] = {}

    def want(self, cell: Cell) -> None:
        """Note that the current inputs and questions ask for this cell."""
        question = cell.question
        place: Place = (cell.subject.source, question.question_id, question.gold_answer, question.gold_page)
        self._places.setdefault(cell.answer_id, []).append(place)

    def add_document(self, document: Document) -> None:
        """Note that a document is among the current inputs."""
        self._present[document.source] = document.document_id
        self._originals.setdefault(document.document_id, document.source)

    def add_folder(self, folder: Subject) -> None:
        """Note that a folder, asked about as a whole, is among the current inputs."""
        self._present[folder.source] = folder.document_id

    @property
    def questions(self) -> int:
        """How many different questions are asked."""
        return len({place[1] for places in self._places.values() for place in places})

    @property
    def row_count(self) -> int:
        """In how many rows of the answers."""
        return sum(map(len, self._places.values()))

    @property
    def sources(self) -> Iterator[str]:
        """The current inputs."""
        return iter(self._present)

    def original(self, document: Document) -> str:
        """Return the name under which the document's bytes were first met."""
        return self._originals.get(document.document_id, document.source)

    def cells(self) -> Iterator[tuple[str, int]]:
        """Yield the wanted answer ids, and in how many rows each is to appear."""
        for answer_id, places in self._places.items():
            yield answer_id, len(places)

    def missing(self, has_row: Callable[[str], bool]) -> Counter[str]:
        """Count the wanted rows that are not there, by source."""
        found = Counter[str]()
        for answer_id, places in self._places.items():
            if not has_row(answer_id):
                found.update(place[0] for place in places)
        return found

    def reason_to_leave(self, row: Row) -> str:
        """Say why a published row is not wanted any more."""
        if row["source"] not in self._present:
            return "of files that are not among the inputs"
        if self._present[str(row["source"])] != row["document_id"]:
            return "of files that have changed"
        return "of questions, or settings, that are not asked with now"

    def publishes(self, name: str, row: Row, complete: bool) -> bool:
        """Tell whether a row belongs into its published table; `complete`: all current inputs are known."""
        source, document_id = str(row["source"]), row["document_id"]
        if row.get("answer_id") in self._places:
            return True
        if source not in self._present:
            return not complete  # not known yet: leave it as it stands
        if name == "documents":
            return bool(self._present[source] == document_id)
        # Rows of other tasks stay as long as the document does; this task's are superseded.
        return bool(row["task"] != self._task and self._present[source] == document_id)

    def holds_exactly(self, name: str, table: pa.Table) -> bool:
        """Tell whether a published table, of `KEYS` and the columns of `expand`, is what is asked for now."""
        listed = list(rows(table))
        if not all(self.publishes(name, row, complete=True) for row in listed):
            return False
        if name != "answers":
            return True
        have = sorted(
            (row["answer_id"], *(row[column] or "" for column in _PLACE))
            for row in listed
            if row["answer_id"] in self._places
        )
        want = sorted(
            (answer_id, *(value or "" for value in place))
            for answer_id, places in self._places.items()
            for place in places
        )
        return have == want

    def standing(self, table: pa.Table, complete: bool) -> dict[str, list[Place]]:
        """Return the places of published answers that stay as they stand, where one answer has several.

        Of an answer that stands under two names, only one row is read: the other would be lost. `table` has
        the columns of `key_columns("answers")`.
        """
        counts = table["answer_id"].value_counts()
        repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
        is_met = pa.array([each in self._places for each in table["answer_id"].to_pylist()], pa.bool_())
        shared = table.filter(pc.or_(pc.is_in(table["answer_id"], repeated), is_met))
        found: dict[str, list[Place]] = {}
        places = zip(*(shared[name].to_pylist() for name in _PLACE), strict=True)
        for row, place in zip(rows(shared), places, strict=True):
            answer_id = str(row["answer_id"])
            is_asked = answer_id in self._places and (complete or row["source"] in self._present)
            if not is_asked and self.publishes("answers", row, complete):
                found.setdefault(answer_id, []).append(place)
        return found

    def expand(self, table: pa.Table, schema: pa.Schema, standing: Mapping[str, Sequence[Place]]) -> pa.Table:
        """Repeat an answer under every name and question id that asks for it, with the current gold.

        `standing` are places that it keeps besides.
        """
        indices: list[int] = []
        values: list[tuple[str | None, ...]] = []
        own = zip(*(table[name].to_pylist() for name in _PLACE), strict=True)
        for index, (answer_id, place) in enumerate(zip(table["answer_id"].to_pylist(), own, strict=True)):
            for wanted in [*self._places.get(answer_id, []), *standing.get(answer_id, [])] or [place]:
                indices.append(index)
                values.append(wanted)
        table = table.take(pa.array(indices, pa.int64()))
        for column, name in enumerate(_PLACE):
            array = pa.array([value[column] for value in values], pa.string())
            table = table.set_column(schema.get_field_index(name), schema.field(name), array)
        return table


def key_columns(name: str) -> list[str]:
    """Return the columns that `Wanted.holds_exactly` needs of a table."""
    return [*KEYS[name], *(column for column in _PLACE if name == "answers" and column not in KEYS[name])]


def rows(table: pa.Table) -> Iterator[Row]:
    """Yield a table's rows with the columns by which they are wanted."""
    names = [name for name in dict.fromkeys((*KEYS["answers"], *_PLACE)) if name in table.column_names]
    for values in zip(*(table[name].to_pylist() for name in names), strict=True):
        yield dict(zip(names, values, strict=True))
