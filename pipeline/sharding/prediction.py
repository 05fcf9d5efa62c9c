"""Predict what each input takes, exactly: pages, requests, prompt tokens, GPU hours, failures."""

from __future__ import annotations

import builtins
import os
from dataclasses import dataclass

from pipeline.config import ModelSettings
from pipeline.records import Chunk, Document, Failure


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
    prompt_tokens: int = 0
    computed_tokens: int = 0
    """Prompt tokens that are not already in the prefix cache when they are needed."""
    gpu_seconds: float = 0.0
    error_code: str | None = None
    error: str | None = None
    duplicate_of: str | None = None
    path: builtins.bytes = b""
    """Where the file is: its path in bytes, as names on disk are, or its URL."""
    shard: int | None = None
    """The shard that has work to do on it; None where nothing is left to do."""


def row(document: Document, pages: int, failure: Failure | None) -> PlanRow:
    """Begin the row of an input that nothing is asked of yet."""
    code, message = (failure.code, failure.message) if failure else (None, None)
    return PlanRow(
        document.source,
        document.document_id,
        document.kind,
        document.bytes,
        pages,
        error_code=code,
        error=message,
        duplicate_of=document.duplicate_of,
        path=document.url.encode() or os.fsencode(document.path),
    )


def add(entry: PlanRow, chunk: Chunk, model: ModelSettings) -> None:
    """Count a chunk's requests: the first computes the images, the others find them in the cache."""
    if chunk.subject.failure:
        failure = chunk.subject.failure
        entry.error_code, entry.error = entry.error_code or failure.code, entry.error or failure.message
        return
    for index, request in enumerate(chunk.requests):
        # The prefix gate holds the others back until the first has read the pages.
        cached = chunk.prefix_tokens if index else 0
        entry.requests += 1
        entry.merge_requests += request.siblings > 1 and request.position == 0
        entry.prompt_tokens += request.prompt_tokens
        entry.computed_tokens += request.prompt_tokens - cached
        entry.gpu_seconds += prefill_flops(request.prompt_tokens, cached, model) / (
            model.tflops_per_gpu * 1e12
        )


def prefill_flops(tokens: int, cached: int, model: ModelSettings) -> float:
    """Return the operations to read a prompt: two per weight and token, and causal attention in every layer.

    Attention takes 4 x width per pair of positions, and half of all pairs are causal (Kaplan et al., 2020,
    appendix B, with the pairs summed instead of approximated). The image encoder, under 1 %, is left out.
    """
    new = tokens - cached
    pairs = (tokens**2 - cached**2) / 2
    return 2 * model.parameters_b * 1e9 * new + 4 * model.layers * model.width * pairs
