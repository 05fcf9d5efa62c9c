"""Batch document understanding: documents to pages to requests to answers to Parquet.

import pipeline

run = pipeline.answer("pdfs/", questions=["What is the total?"])
run.answers  # a DataFrame: one row per document and question
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.api import Run, answer, ask, load

__all__ = ["Run", "answer", "ask", "load"]


def __getattr__(name: str) -> object:
    """Import the functions when they are first used: every command imports this module first."""
    if name not in __all__:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    from pipeline import api

    return getattr(api, name)
