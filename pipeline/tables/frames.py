"""Read published tables as pandas likes them: whole numbers and booleans stay so where some are missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import OutputError

if TYPE_CHECKING:
    import pandas as pd

_ORDER = {
    "answers": ["source", "page", "task", "question_id"],
    "documents": ["source"],
    "requests": ["created_at", "request_id"],
}


def read(output: Path, name: str) -> pd.DataFrame:
    """Return the table `answers`, `documents` or `requests` of an output directory, in a lasting order.

    Answers are sorted by source, page, task and question_id. Raises OutputError where there is no such table.
    """
    import pandas as pd

    folder = output / name
    if not any(folder.glob("*.parquet")):
        raise OutputError(f"{output}: holds no table of {name}; is it the output of a run?")
    # pandas' own types: else a column of page numbers with a gap becomes one of floats.
    table = pd.read_parquet(folder, dtype_backend="numpy_nullable")
    order = [column for column in _ORDER[name] if column in table.columns]
    return table.sort_values(order, ignore_index=True, kind="stable")
