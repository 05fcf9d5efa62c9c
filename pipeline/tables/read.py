"""Read the published tables of an output, in however many files they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import store
from pipeline.errors import OutputError
from pipeline.tables import columns
from pipeline.tables.columns import Row

Table = pa.Table

_HEAVY = ("token_ends", "token_probabilities", "boxes")
"""Columns of `requests` that nobody reads on a page."""


def answers(output: Path) -> pa.Table:
    """Return all answers, sorted by source, page, task, question. Raises OutputError without any."""
    found = _read(output, "answers", columns.ANSWERS)
    order = pc.sort_indices(found, [(key, "ascending") for key in ("source", "page", "task", "question_id")])
    # One chunk per column: taking rows of many chunks copies them all, each time.
    return found.take(order).combine_chunks()


def documents(output: Path) -> pa.Table:
    """Return all documents, sorted by source."""
    return _read(output, "documents", columns.DOCUMENTS).sort_by("source").combine_chunks()


def requests(output: Path, whole: bool = False) -> pa.Table:
    """Return all requests, without what was noted of each token unless the `whole` of it is wanted."""
    light = pa.schema([field for field in columns.REQUESTS if field.name not in _HEAVY])
    return _read(output, "requests", columns.REQUESTS if whole else light).combine_chunks()


def rows(table: pa.Table, indices: Sequence[int]) -> list[Row]:
    """Return some rows as plain values."""
    taken: list[Row] = table.take(pa.array(indices, pa.int64())).to_pylist()
    return taken


def joined(table: pa.Table, other: pa.Table, indices: Sequence[int], order: Sequence[str]) -> pa.Table:
    """Return a table with some rows of another, sorted by the columns of `order`."""
    both = pa.concat_tables([table, other.take(pa.array(indices, pa.int64()))], promote_options="permissive")
    return (both.sort_by([(name, "ascending") for name in order]) if order else both).combine_chunks()


def _read(output: Path, name: str, schema: pa.Schema) -> pa.Table:
    store.fetch(output / name)
    files = sorted((output / name).glob("shard-*.parquet"))
    if not files:
        raise OutputError(f"output={output}: has no published {name}; run or publish first")
    tables = [_conform(file, name, schema) for file in files]
    # Shards may have tasks with other fields: what one lacks is null.
    return pa.concat_tables(tables, promote_options="default")


def _conform(file: Path, name: str, schema: pa.Schema) -> pa.Table:
    """Read one file; of answers, also the columns that its tasks have beside the fixed ones."""
    try:
        written = pq.read_schema(file)
        own = [f for f in written if f.name.startswith("field_")] if name == "answers" else []
        wanted = [f.name for f in [*schema, *own] if f.name in written.names]
        return columns.conform(pq.read_table(file, columns=wanted), pa.schema([*schema, *own]))
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise OutputError(f"{file}: cannot be read ({reason}); publish again, or restore it") from error
