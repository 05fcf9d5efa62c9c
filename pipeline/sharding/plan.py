"""Predict a run exactly, without an engine: inputs, pages, requests, prompt tokens, GPU hours, failures."""

from __future__ import annotations

import builtins
import os
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from pipeline.config import ModelSettings
from pipeline.records import Chunk, Document, Failure
from pipeline.sharding.balance import balance

_FILE_COST_S = 0.01
"""What a file costs besides its tokens: it keeps files that only fail from all landing on one shard."""


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
    """Where the file is, in bytes, as names on disk are."""
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
        path=os.fsencode(document.path),
    )


def assign(rows: Mapping[str, PlanRow], todo: Container[str], scope: str, count: int) -> None:
    """Give the inputs with something left to do to shards of equal cost.

    The same bytes under two names are answered once, and a folder asked about as a whole in one request, so
    these go to one shard. `todo` has the sources that something is left to do on.
    """
    groups: dict[str, list[PlanRow]] = {}
    for source, entry in rows.items():
        group = source.rpartition("/")[0] if scope == "folder" else entry.document_id or source
        groups.setdefault(group, []).append(entry)
    work = []
    for entries in groups.values():
        busy = [entry for entry in entries if entry.source in todo]
        if busy:
            work.append(entries if scope == "folder" else busy)
    costs = [sum(entry.gpu_seconds + _FILE_COST_S for entry in entries) for entries in work]
    for entries, shard in zip(work, balance(costs, count), strict=True):
        for entry in entries:
            entry.shard = shard


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


def describe(rows: Iterable[PlanRow], task: str, model: ModelSettings, kept: int, count: int) -> str:
    """Return the plan as a short table; `count`: into how many shards it is divided."""
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
    if count > 1:
        loads = [0.0] * count
        for entry in rows:
            if entry.shard is not None:
                loads[entry.shard] += entry.gpu_seconds
        lines.append(
            f"shards          {count}: {min(loads) / 3600:.2f} to {max(loads) / 3600:.2f} GPU hours each"
        )
    lines += [f"  {entry.error_code:14}{entry.error}" for entry in rows if entry.error_code]
    return "\n".join(lines)
