"""Make the tables that analysts read of published files and journal parts, holding no row twice."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import store
from pipeline.tables import columns, journal, keys, wanted
from pipeline.tables.wanted import Wanted

_KEYS = {"answers": "answer_id", "documents": "source", "requests": "request_id"}
_BATCH_ROWS = 8192


@dataclass(slots=True)
class LeftOut:
    """Rows that are not published, for the journal to keep."""

    rows: list[pa.Table] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    """Of answers that were published until now: how many leave the table, and why."""


def write_aside(
    name: str,
    target: Path,
    files: Sequence[Path],
    field_kinds: Mapping[str, str],
    asked: Wanted,
    complete: bool,
) -> LeftOut:
    """Write one table beside its place; return the rows left out.

    `files` hold its rows, the oldest first; of rows with the same key the newest counts. `complete` says that
    every current input is known: what was not asked for by now is not asked for at all.
    """
    latest = _latest_rows(files, _KEYS[name], target)
    # Other tasks have columns of their own, which stay.
    written = [journal.read_schema(file) for file in files]
    # Columns come in the order of this version; those of other tasks stand behind them.
    schema = pa.unify_schemas([columns.schema(name, field_kinds), *written]).remove_metadata()
    out = LeftOut()
    standing: dict[str, list[wanted.Place]] = {}
    if name == "answers" and target.exists():
        standing = asked.standing(lambda: _batches(target, wanted.key_columns(name)), complete)
    with (
        store.writing(store.aside(target)) as opened,
        pq.ParquetWriter(opened, schema, compression="zstd") as writer,
    ):
        for file, mask in zip(files, latest, strict=True):
            for table, chosen in _sorted_out(name, file, mask, asked, complete, standing):
                table = columns.conform(table, schema)
                published, rest = table.filter(chosen), table.filter(pc.invert(chosen))
                # Answers and replies are kept for whoever asks again; a document's row is made anew.
                if name != "documents" and rest.num_rows:
                    out.rows.append(rest)
                if name == "answers":
                    published = asked.expand(published, schema, standing)
                    if file == target:  # rows of the journal were in no table that they could leave
                        out.reasons.update(map(asked.reason_to_leave, wanted.rows(rest)))
                if published.num_rows:
                    writer.write_table(published, row_group_size=_BATCH_ROWS)
    return out


def is_current(
    name: str, target: Path, journaled: Sequence[Path], field_kinds: Mapping[str, str], asked: Wanted
) -> bool:
    """Tell whether publishing again would change nothing: no row is wanted of those in the journal."""
    if not target.exists():
        return False
    own = columns.schema(name, field_kinds)
    if not set(own.names) <= set(journal.read_schema(target).names):
        return False
    for file in journaled:
        journal_rows = (row for batch in _batches(file, wanted.KEYS[name]) for row in wanted.rows(batch))
        if any(asked.publishes(name, row, complete=True) for row in journal_rows):
            return False
    return asked.holds_exactly(name, _batches(target, wanted.key_columns(name)))


def count(file: Path) -> int:
    """Return the number of rows of a Parquet file; 0 when there is none."""
    return int(pq.read_metadata(file).num_rows) if file.exists() else 0


def _sorted_out(
    name: str,
    file: Path,
    latest: pa.BooleanArray,
    asked: Wanted,
    complete: bool,
    standing: Container[str],
) -> Iterator[tuple[pa.Table, pa.Array]]:
    """Yield a file's newest rows in batches, with which of them are to be published."""
    start = 0
    for table in _batches(file):
        mask = latest.slice(start, table.num_rows)
        start += table.num_rows
        table = table.filter(mask)
        chosen = (
            row.get("answer_id") in standing or asked.publishes(name, row, complete)
            for row in wanted.rows(table)
        )
        yield table, pa.array(list(chosen), pa.bool_())


def _batches(file: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield a file's rows, a few thousand at a time: a table of a million need not fit into memory."""
    with journal.damage_named(file), pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
            yield pa.Table.from_batches([batch])


def _latest_rows(files: Sequence[Path], key: str, target: Path) -> list[pa.BooleanArray]:
    """Return, per file, which rows are the newest with their key; files are given oldest first.

    Of the published one, the first: an answer under several names says there what it cost, and only there.
    """
    read = [keys.digests(batch[key] for batch in _batches(file, [key])) for file in files]
    ordered = [each[::-1] if file == target else each for file, each in zip(files, read, strict=True)]
    newest = keys.newest(np.concatenate(ordered)) if ordered else np.empty(0, bool)
    ends = itertools.accumulate(map(len, ordered))
    masks = [newest[end - len(each) : end] for end, each in zip(ends, ordered, strict=True)]
    return [pa.array(mask[::-1] if file == target else mask) for file, mask in zip(files, masks, strict=True)]
