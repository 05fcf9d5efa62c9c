"""Predict what each input takes: pages, requests and prompt tokens exactly, time and money by a model."""

from __future__ import annotations

import builtins
import os
from dataclasses import dataclass

from pipeline.flow.expected import Predictor
from pipeline.flow.meter import Rate
from pipeline.records import Chunk, Document, Outline

_HUGE_PAGES, _HUGE_BYTES = 500, 200_000_000


@dataclass(slots=True)
class PlanRow:
    """What one input will take: a row of plan.parquet."""

    source: str
    document_id: str
    kind: str
    bytes: int
    pages: int
    requests: int = 0
    merge_requests: int = 0
    follow_ups: int = 0
    """Of the requests: those that are made only where an earlier answer says so."""
    prompt_tokens: int = 0
    computed_tokens: int = 0
    """Prompt tokens that are not already in the prefix cache when they are needed."""
    output_tokens: int = 0
    """Assumed: replies are of the length that earlier ones had."""
    engine_seconds: float = 0.0
    """Of one GPU, or of one core where no GPU answers."""
    gpu_seconds: float = 0.0
    cost: float = 0.0
    language: str | None = None
    """Of the text on its first page; None where there is no text."""
    risk: str | None = None
    """Why it may fail, or take long."""
    error_code: str | None = None
    error: str | None = None
    duplicate_of: str | None = None
    path: builtins.bytes = b""
    """Where the file is: its path in bytes, as names on disk are, or its URL."""
    shard: int | None = None
    """The shard that has work to do on it; None where nothing is left to do."""


def row(outline: Outline, language: str | None = None) -> PlanRow:
    """Begin the row of an input that nothing is asked of yet."""
    document, failure = outline.document, outline.failure
    code, message = (failure.code, failure.message) if failure else (None, None)
    return PlanRow(
        document.source,
        document.document_id,
        document.kind,
        document.bytes,
        len(outline.pages),
        language=language,
        risk=None if failure else _risk(outline, document),
        error_code=code,
        error=message,
        duplicate_of=document.duplicate_of,
        path=document.url.encode() or os.fsencode(document.path),
    )


def _risk(outline: Outline, document: Document) -> str | None:
    if outline.is_repaired:
        return "damaged: its structure had to be rebuilt, pages may be missing"
    if len(outline.pages) > _HUGE_PAGES:
        return f"huge: {len(outline.pages):,} pages"
    if document.bytes > _HUGE_BYTES:
        return f"huge: {document.bytes / 1e6:,.0f} MB"
    return None


def add(entry: PlanRow, chunk: Chunk, predictor: Predictor, rate: Rate, is_scan: bool) -> None:
    """Count a chunk's requests; the first computes the images."""
    if chunk.subject.failure:
        failure = chunk.subject.failure
        # What was wrong with the file itself comes before what is wrong with a question about it.
        entry.error_code, entry.error = entry.error_code or failure.code, entry.error or failure.message
        return
    for index, request in enumerate(chunk.requests):
        entry.requests += 1
        entry.follow_ups += request.cell.question.when is not None
        entry.merge_requests += request.siblings > 1 and request.position == 0
        entry.prompt_tokens += request.prompt_tokens
        entry.computed_tokens += request.prompt_tokens - predictor.cached(chunk, index)
        entry.output_tokens += round(predictor.reply_tokens)
    entry.engine_seconds += predictor.seconds(chunk, is_scan)
    entry.gpu_seconds, entry.cost = rate.charge(entry.engine_seconds)
