"""Predict a run exactly, without an engine: inputs, pages, requests, prompt tokens, GPU hours, failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
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
    )


def add(entry: PlanRow, chunk: Chunk, model: ModelSettings) -> None:
    """Count a chunk's requests: the first computes the images, the others find them in the cache."""
    if chunk.subject.failure:
        failure = chunk.subject.failure
        entry.error_code, entry.error = entry.error_code or failure.code, entry.error or failure.message
        return
    for index, request in enumerate(chunk.requests):
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


def describe(rows: Iterable[PlanRow], task: str, model: ModelSettings, kept: int) -> str:
    """Return the plan as a short table."""
    rows = list(rows)
    bad = Counter(entry.error_code for entry in rows if entry.error_code)
    total = {
        name: sum(getattr(entry, name) for entry in rows)
        for name in ("pages", "requests", "merge_requests", "prompt_tokens", "computed_tokens", "gpu_seconds")
    }
    share = 1 - total["computed_tokens"] / total["prompt_tokens"] if total["prompt_tokens"] else 0.0
    lines = [
        f"task            {task}",
        f"model           {model.name}",
        f"inputs          {len(rows)} = {len(rows) - bad.total()} readable + {bad.total()} that will fail",
        f"pages           {total['pages']}",
        f"requests        {total['requests']} (and {total['merge_requests']} merges of long documents)",
        f"prompt tokens   {total['prompt_tokens']:,} ({share:.0%} from the prefix cache)",
        f"answers kept    {kept}",
        f"GPU hours       {total['gpu_seconds'] / 3600:.2f} to read the prompts"
        f" ({total['gpu_seconds'] / 3600 / model.gpus:.2f} h on {model.gpus} GPUs)",
    ]
    lines += [f"  {entry.error_code:14}{entry.error}" for entry in rows if entry.error_code]
    return "\n".join(lines)
