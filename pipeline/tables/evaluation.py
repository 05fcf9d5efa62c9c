"""Read answers to be scored, a batch at a time, and keep how each was judged: OUTPUT/evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import store
from pipeline.errors import OutputError
from pipeline.tables import columns, journal

JUDGED = pa.schema(
    [
        ("answer_id", pa.string()), ("source", pa.string()), ("page", pa.int32()),
        ("question_id", pa.string()), ("question", pa.string()), ("answer", pa.string()),
        ("status", pa.string()), ("gold_answers", pa.list_(pa.string())),
        ("gold_pages", pa.list_(pa.int32())), ("is_unanswerable", pa.bool_()),
        ("judged_by", pa.string()), ("is_right", pa.bool_()), ("is_abstention", pa.bool_()),
        ("confidence", pa.float64()), ("page_quality", pa.string()),
    ]
)  # fmt: skip
"""With one column more for each metric, named profile_metric."""
SCORES = pa.schema(
    [
        ("profile", pa.string()), ("metric", pa.string()), ("group", pa.string()), ("value", pa.string()),
        ("answers", pa.int64()), ("score", pa.float64()), ("low", pa.float64()), ("high", pa.float64()),
    ]
)  # fmt: skip
HISTORY = pa.schema(
    [
        ("scored_at", pa.timestamp("us", tz="UTC")), ("run_id", pa.string()), ("profile", pa.string()),
        ("metric", pa.string()), ("answers", pa.int64()), ("score", pa.float64()), ("low", pa.float64()),
        ("high", pa.float64()), ("min_score", pa.float64()), ("is_published", pa.bool_()),
    ]
)  # fmt: skip
_BATCH = 1_000
"""Answers that are read and judged at a time."""
_WRITTEN = 20_000
"""Rows of a row group."""
_REPEATED = ("source", "page", "status", "judged_by", "is_right", "page_quality")
"""Columns whose values are worth a dictionary: of others it takes time, and room too."""


class AnswerRow(NamedTuple):
    """What of a row of `answers` is looked at to score it: a tuple, for there are millions."""

    answer_id: str
    source: str
    page: int | None
    question_id: str
    question: str
    status: str
    error_code: str | None
    answer: str | None
    fields: str | None
    evidence_pages: list[int] | None
    evidence_boxes: list[dict[str, float]] | None
    finish_reason: str | None
    confidence: float | None
    engine_confidence: float | None
    page_quality: str | None
    task: str | None
    gold_answer: str | None
    gold_page: str | None


_READ = AnswerRow._fields


def files(output: Path) -> list[Path]:
    """Return the published files of answers. Raises OutputError without any."""
    found = sorted((output / "answers").glob("shard-*.parquet"))
    if not found:
        raise OutputError(f"output={output}: has no published answers; run or publish first")
    return found


def answers(files: Sequence[Path], boxes: bool = False) -> Iterator[list[AnswerRow]]:
    """Yield the answers of files, some at a time; their boxes only where these are wanted."""
    names = [name for name in _READ if boxes or name != "evidence_boxes"]
    for file in files:
        try:
            opened = pq.ParquetFile(file)
            # Outputs of earlier versions lack columns: these are read as nulls.
            there = [name for name in names if name in opened.schema_arrow.names]
            for batch in opened.iter_batches(_BATCH, columns=there):
                lists = dict(zip(there, (column.to_pylist() for column in batch.columns), strict=True))
                nothing = [None] * batch.num_rows
                columns_read = (lists.get(name, nothing) for name in _READ)
                yield list(map(AnswerRow._make, zip(*columns_read, strict=True)))
        except (OSError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise OutputError(f"{file}: cannot be read ({reason}); publish again, or restore it") from error


def documents(output: Path) -> dict[str, str]:
    """Return the kind of each input of a run, by its source."""
    return kinds(sorted((output / "documents").glob("shard-*.parquet")))


def kinds(files: Sequence[Path]) -> dict[str, str]:
    """Return the kind of each input that files of documents list."""
    found: dict[str, str] = {}
    for file in files:
        table = columns.conform(journal.read(file, ["source", "kind"]), _KINDS)
        found.update(zip(table["source"].to_pylist(), table["kind"].to_pylist(), strict=True))
    return found


_KINDS = pa.schema([("source", pa.string()), ("kind", pa.string())])


class Judgements:
    """Writes how answers were judged, some rows at a time."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        """Write to an open file with these columns."""
        self._writer, self._schema = writer, schema
        self._tables: list[pa.Table] = []

    def add(self, values: Iterable[Sequence[object]]) -> None:
        """Add rows: the values of each column, in their order."""
        arrays = [pa.array(column, field.type) for column, field in zip(values, self._schema, strict=True)]
        self._tables.append(pa.Table.from_arrays(arrays, schema=self._schema))
        if sum(table.num_rows for table in self._tables) >= _WRITTEN:
            self.flush()

    def flush(self) -> None:
        """Write what was added."""
        if self._tables:
            self._writer.write_table(pa.concat_tables(self._tables))
        self._tables = []


@contextlib.contextmanager
def judging(output: Path, metrics: Sequence[str]) -> Iterator[Judgements]:
    """Open OUTPUT/evaluation/answers.parquet, which takes its place whole when the block ends."""
    schema = pa.schema([*JUDGED, *(pa.field(name, pa.float32()) for name in metrics)])
    target = folder(output) / "answers.parquet"
    with store.disk_errors(output):
        store.make_folder(target.parent)
        with (
            store.writing(store.aside(target)) as file,
            pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=_REPEATED) as writer,
        ):
            judgements = Judgements(writer, schema)
            yield judgements
            judgements.flush()
        store.settle(store.aside(target), target)


class Verdict(NamedTuple):
    """How an answer was judged."""

    is_right: bool
    gold: str
    """What would be right."""
    pages: tuple[int, ...]
    """Where it stands."""


def verdicts(output: Path) -> dict[tuple[str, str, str | None], Verdict]:
    """Return how answers were judged, by answer_id, source and what they said; none without an evaluation."""
    file = folder(output) / "answers.parquet"
    store.fetch(file)
    if not file.exists():
        return {}
    names = ["answer_id", "source", "answer", "is_right", "is_unanswerable", "gold_answers", "gold_pages"]
    try:
        lists = [column.to_pylist() for column in pq.read_table(file, columns=names).columns]
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise OutputError(f"{file}: cannot be read ({reason}); evaluate again, or delete it") from error
    return {
        (answer_id, source, answer): Verdict(
            right,
            _UNANSWERABLE if unanswerable else " | ".join(golds or ()) or _NOT_THIS,
            tuple(pages or ()),
        )
        for answer_id, source, answer, right, unanswerable, golds, pages in zip(*lists, strict=True)
    }


_UNANSWERABLE, _NOT_THIS = "(the document does not say)", "(another answer)"


def write(target: Path, rows: Sequence[columns.Row], schema: pa.Schema) -> None:
    """Replace a small table by another, whole."""
    store.make_folder(target.parent)
    journal.write_parquet(store.aside(target), pa.Table.from_pylist(list(rows), schema=schema))
    store.settle(store.aside(target), target)


def history(output: Path) -> list[columns.Row]:
    """Return the scores of earlier publishings, oldest first."""
    file = folder(output) / "history.parquet"
    store.fetch(file)
    if not file.exists():
        return []
    try:
        rows: list[columns.Row] = columns.conform(pq.read_table(file), HISTORY).to_pylist()
        return rows
    except (OSError, pa.ArrowException) as error:
        raise OutputError(
            f"{file}: cannot be read ({str(error).splitlines()[0]}); restore it, or move it away"
        ) from error


def folder(output: Path) -> Path:
    """Return where an evaluation of an output lies."""
    return output / "evaluation"
