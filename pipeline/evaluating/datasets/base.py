"""What a data set is: items with images, a question and gold answers, streamed from Parquet files."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import SettingsError
from pipeline.records import Json

Row = Mapping[str, object]
"""A row as its file has it: what is in it is checked where it is read."""

_BATCH = 16
"""Rows read at once: each may hold images of megabytes."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question about one or more images."""

    item_id: str
    images: tuple[bytes, ...]
    """Files as they were published, in the order in which the question names them."""
    question: str
    golds: tuple[str, ...]
    group: str = ""
    """What the set itself breaks its scores down by."""
    about: Mapping[str, Json] = field(default_factory=dict)
    """What its own metric has to know: choices, type of the answer, turn of a conversation."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set: where it is published, what is asked, and how its rows become items."""

    name: str
    hub: str
    task: str
    """The task in conf/ that asks its questions."""
    profile: str
    metric: str
    columns: tuple[str, ...]
    """Without these a file is another's."""
    items: Callable[[Row, int], Iterator[Item]]
    """Takes a row and its number from 0."""


def rows(files: str, wanted: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of Parquet files, a few at a time. Raises SettingsError for files of another kind."""
    for file in _files(files):
        try:
            opened = pq.ParquetFile(file)
            if missing := [name for name in wanted if name not in opened.schema_arrow.names]:
                raise SettingsError(
                    f"files={file}: has no column {missing[0]}; give the Parquet files of this data set"
                )
            for batch in opened.iter_batches(_BATCH):
                yield from batch.to_pylist()
        except (OSError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise SettingsError(f"files={file}: cannot be read ({reason}); fetch it again") from error


def _files(given: str) -> list[Path]:
    path = Path(given)
    pattern = str(path.relative_to(path.anchor))
    found = sorted(path.rglob("*.parquet") if path.is_dir() else Path(path.anchor or ".").glob(pattern))
    if not found:
        raise SettingsError(f"files={given}: there are no such Parquet files; check the path")
    return found


# ---- what rows hold, in the forms in which copies of the sets have it ----


def image(row: Row, column: str) -> bytes | None:
    """Return an image: `struct<bytes, path>`, or its bytes alone."""
    value = row.get(column)
    if isinstance(value, Mapping):
        value = value.get("bytes")
    return value if isinstance(value, bytes) and value else None


def needed_image(row: Row, column: str) -> bytes:
    """Return an image that an item cannot do without."""
    found = image(row, column)
    if found is None:
        raise SettingsError(f"{column}: a row has no image in it; the files must hold the images themselves")
    return found


def text(row: Row, column: str) -> str:
    """Return a value as text."""
    value = row.get(column)
    return "" if value is None else str(value)


def texts(value: object) -> tuple[str, ...]:
    """Return several texts: of a list of texts or of objects with `answer`, or of a list as it is written."""
    if isinstance(value, str):
        value = literal(value) if value.lstrip().startswith("[") else [value]
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return () if value is None else (str(value),)
    return tuple(str(each.get("answer", "") if isinstance(each, Mapping) else each) for each in value)


def literal(written: str) -> object:
    """Return a list that was written as text; the text itself where it is none."""
    # Copies of the sets differ: some write lists as JSON, others as Python does.
    for read in (json.loads, ast.literal_eval):
        try:
            value: object = read(written)
            return value
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return [written]


def lettered(options: Sequence[str]) -> dict[str, str]:
    """Return options by the letters A, B, C …"""
    return {chr(ord("A") + place): option for place, option in enumerate(options)}


def with_options(question: str, options: Mapping[str, str]) -> str:
    """Return a question with its options below it, a line each."""
    return "\n".join([question, *(f"{letter}. {option}" for letter, option in options.items())])
