"""The columns of every table: the contract with those who read them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import pyarrow as pa

from pipeline.records import Json
from pipeline.texts import clean_text

Value: TypeAlias = Json | dt.datetime | Sequence[object]
Row = dict[str, Value]
"""Column → value, between a record and Parquet."""

_BOXES = pa.list_(
    pa.struct(
        [("page", pa.int32()), ("x0", pa.float32()), ("y0", pa.float32()), ("x1", pa.float32()),
         ("y1", pa.float32())]
    )
)  # fmt: skip
ANSWERS = pa.schema(
    [
        ("answer_id", pa.string()), ("document_id", pa.string()), ("source", pa.string()),
        ("scope", pa.string()), ("page", pa.int32()), ("question_id", pa.string()), ("question", pa.string()),
        ("status", pa.string()), ("error_code", pa.string()), ("error", pa.string()), ("answer", pa.string()),
        ("fields", pa.string()), ("evidence_pages", pa.list_(pa.int32())), ("evidence_found", pa.bool_()),
        ("evidence_quote", pa.string()), ("evidence_boxes", _BOXES),
        ("pages_total", pa.int32()), ("pages_read", pa.int32()), ("requests", pa.int32()),
        ("finish_reason", pa.string()), ("confidence", pa.float64()),
        ("engine_confidence", pa.float64()), ("page_quality", pa.string()), ("needs_review", pa.bool_()),
        ("prompt_tokens", pa.int64()), ("cached_tokens", pa.int64()), ("output_tokens", pa.int64()),
        ("engine_seconds", pa.float64()), ("gpu_seconds", pa.float64()), ("cost", pa.float64()),
        ("model", pa.string()), ("engine", pa.string()),
        ("task", pa.string()), ("run_id", pa.string()), ("settings_hash", pa.string()),
        ("created_at", pa.timestamp("us", tz="UTC")), ("gold_answer", pa.string()),
        ("gold_page", pa.string()),
    ]
)  # fmt: skip
DOCUMENTS = pa.schema(
    [
        ("document_id", pa.string()), ("source", pa.string()), ("kind", pa.string()), ("bytes", pa.int64()),
        ("pages", pa.int32()), ("text_layer_pages", pa.int32()), ("blank_pages", pa.int32()),
        ("languages", pa.list_(pa.string())), ("status", pa.string()), ("error_code", pa.string()),
        ("error", pa.string()), ("duplicate_of", pa.string()), ("raster_seconds", pa.float64()),
        ("is_repaired", pa.bool_()), ("damaged_pages", pa.int32()),
    ]
)  # fmt: skip
REQUESTS = pa.schema(
    [
        ("request_id", pa.string()), ("answer_id", pa.string()), ("document_id", pa.string()),
        ("source", pa.string()), ("question_id", pa.string()), ("kind", pa.string()), ("attempt", pa.int32()),
        ("pages", pa.list_(pa.int32())), ("text", pa.string()), ("status", pa.string()),
        ("error_code", pa.string()), ("error", pa.string()), ("finish_reason", pa.string()),
        ("counted_tokens", pa.int64()), ("prompt_tokens", pa.int64()), ("cached_tokens", pa.int64()),
        ("output_tokens", pa.int64()), ("confidence", pa.float64()),
        ("token_ends", pa.list_(pa.int32())), ("token_probabilities", pa.list_(pa.float32())),
        ("boxes", _BOXES), ("engine_seconds", pa.float64()), ("gpu_seconds", pa.float64()),
        ("cost", pa.float64()), ("model", pa.string()),
        ("engine", pa.string()), ("task", pa.string()), ("run_id", pa.string()),
        ("created_at", pa.timestamp("us", tz="UTC")),
    ]
)  # fmt: skip
PLAN = pa.schema(
    [
        ("source", pa.string()), ("document_id", pa.string()), ("kind", pa.string()), ("bytes", pa.int64()),
        ("duplicate_of", pa.string()), ("path", pa.binary()), ("shard", pa.int32()),
        ("task", pa.string()), ("pages", pa.int32()), ("requests", pa.int64()),
        ("merge_requests", pa.int64()),
        ("prompt_tokens", pa.int64()), ("computed_tokens", pa.int64()),
        ("output_tokens", pa.int64()), ("follow_ups", pa.int64()), ("engine_seconds", pa.float64()),
        ("gpu_seconds", pa.float64()), ("cost", pa.float64()), ("language", pa.string()),
        ("risk", pa.string()),
        ("error_code", pa.string()), ("error", pa.string()),
    ]
)  # fmt: skip
KINDS = {
    "string": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_(),
    "strings": pa.list_(pa.string()), "numbers": pa.list_(pa.float64()),
}  # fmt: skip


def schema(table: str, field_kinds: Mapping[str, str]) -> pa.Schema:
    """Return a table's columns; `answers` has one more for each field of its task."""
    if table != "answers":
        return {"documents": DOCUMENTS, "requests": REQUESTS}[table]
    typed = [pa.field(f"field_{name}", KINDS[kind]) for name, kind in field_kinds.items()]
    return pa.schema([*ANSWERS, *typed])


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give a table all the columns of `schema`, in its order; what it lacks is null."""
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def value(given: Json, kind: str) -> Json:
    """Return a field's value as its column takes it; what has no flat kind is JSON text."""
    if given is None or kind not in ("string", "number", "numbers"):
        return given
    if kind == "number":
        # As a float: Arrow refuses an integer over 2**53 for such a column, rather than round it.
        return float(given)  # type: ignore[arg-type]  # the reply was checked against the column's kind
    if kind == "numbers":
        return [None if item is None else float(item) for item in given]  # type: ignore[union-attr,arg-type]
    return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)


def to_table(rows: Sequence[Row], schema: pa.Schema, refuse: Callable[[Row, str], Row]) -> pa.Table:
    """Return rows as a table; a row that its columns cannot hold is replaced by what `refuse` makes of it.

    One value that Arrow does not take would otherwise cost all rows that are written with it.
    """
    try:
        return pa.Table.from_pylist(list(rows), schema=schema)
    except _UNFIT:
        return pa.concat_tables([_one(row, schema, refuse) for row in rows])


_UNFIT = (pa.ArrowException, OverflowError, UnicodeError, TypeError, ValueError)


def _one(row: Row, schema: pa.Schema, refuse: Callable[[Row, str], Row]) -> pa.Table:
    # Cleaned first: half of a surrogate pair, which Arrow refuses, costs its character and not the row.
    cleaned = {name: _clean(given) for name, given in row.items()}
    try:
        return pa.Table.from_pylist([cleaned], schema=schema)
    except _UNFIT as error:
        refused = refuse(cleaned, str(error))
        # What it took may be what does not fit: a server can say that a prompt had 10**30 tokens.
        kept = {field.name: refused[field.name] for field in schema if _fits(refused, field)}
        return pa.Table.from_pylist([kept], schema=schema)


def _fits(row: Row, field: pa.Field) -> bool:
    try:
        pa.array([row.get(field.name)], field.type)
    except _UNFIT:
        return False
    return field.name in row


def _clean(given: Value) -> Value:
    if isinstance(given, str):
        return clean_text(given)
    return (
        [clean_text(item) if isinstance(item, str) else item for item in given]
        if isinstance(given, list)
        else given
    )
