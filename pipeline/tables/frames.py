"""Published tables as pandas likes them: whole numbers and booleans stay so where some are missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.tables import read

if TYPE_CHECKING:
    import pandas as pd


def answers(output: Path) -> pd.DataFrame:
    """Return all answers, sorted by source, page, task, question_id. Raises OutputError without any."""
    return _frame(read.answers(output))


def documents(output: Path) -> pd.DataFrame:
    """Return all documents, sorted by source."""
    return _frame(read.documents(output))


def requests(output: Path) -> pd.DataFrame:
    """Return all requests with all that was noted of them, in the order in which they ended."""
    return _frame(read.requests(output, whole=True)).sort_values(
        ["created_at", "request_id"], ignore_index=True, kind="stable"
    )


TABLES = {"answers": answers, "documents": documents, "requests": requests}


def _frame(table: pa.Table) -> pd.DataFrame:
    import pandas as pd

    # pandas' own types: else a column of page numbers with a gap becomes one of floats.
    own = {
        pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype(),
        pa.float64(): pd.Float64Dtype(), pa.string(): pd.StringDtype(),
    }  # fmt: skip
    frame: pd.DataFrame = table.to_pandas(types_mapper=own.get)
    return frame
