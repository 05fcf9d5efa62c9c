"""What has changed between two outputs, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from pipeline.tables import journal
from pipeline.tables.columns import Row

CHANGES = pa.schema(
    [
        ("task", pa.string()), ("source", pa.string()), ("page", pa.int32()), ("question_id", pa.string()),
        ("question", pa.string()), ("change", pa.string()), ("flips", pa.list_(pa.string())),
        ("old_answer", pa.string()), ("new_answer", pa.string()), ("old_status", pa.string()),
        ("new_status", pa.string()), ("old_needs_review", pa.bool_()), ("new_needs_review", pa.bool_()),
        ("old_confidence", pa.float64()), ("new_confidence", pa.float64()), ("gold_answer", pa.string()),
        ("old_answer_id", pa.string()), ("new_answer_id", pa.string()),
    ]
)  # fmt: skip


def save(file: Path, rows: Sequence[Row]) -> None:
    """Write the changes."""
    journal.write_parquet(file, pa.Table.from_pylist(list(rows), schema=CHANGES))
