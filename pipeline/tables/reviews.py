"""What people have said about answers: OUTPUT/reviews, which no run reads or writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import store
from pipeline.errors import OutputError
from pipeline.tables import journal
from pipeline.tables.columns import Row

REVIEWS = pa.schema(
    [
        ("answer_id", pa.string()), ("source", pa.string()), ("page", pa.int32()),
        ("question_id", pa.string()), ("question", pa.string()), ("task", pa.string()),
        ("answer", pa.string()), ("verdict", pa.string()), ("correction", pa.string()),
        ("marked_at", pa.timestamp("us", tz="UTC")), ("run_id", pa.string()),
    ]
)  # fmt: skip


def load(output: Path) -> list[Row]:
    """Return all reviews; none where nobody has reviewed anything."""
    file = _file(output)
    store.fetch(file)
    if not file.exists():
        return []
    try:
        rows: list[Row] = pq.read_table(file, schema=REVIEWS).to_pylist()
        return rows
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise OutputError(f"{file}: cannot be read ({reason}); restore it, or move it away") from error


def save(output: Path, rows: Sequence[Row]) -> Path:
    """Replace the reviews by others, whole."""
    file = _file(output)
    with store.disk_errors(output):
        store.make_folder(file.parent)
        journal.write_parquet(store.aside(file), pa.Table.from_pylist(list(rows), schema=REVIEWS))
        store.settle(store.aside(file), file)
    return file


def _file(output: Path) -> Path:
    return output / "reviews" / "reviews.parquet"
