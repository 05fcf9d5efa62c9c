"""Which GPUs share a copy of the model, and how many copies there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.config import ModelSettings, VllmSettings
from pipeline.engines.vllm.memory import Gpu, Layout, fit
from pipeline.errors import SettingsError

_LEAST_TOKENS = 65_536
"""While a reply of 300 tokens is written beside 31 others, 14 s, an H200 reads 17 pages of 3,600 tokens."""


def layout(engine: VllmSettings, model: ModelSettings, gpus: Sequence[Gpu], folder: Path | None) -> Layout:
    """Return which of these GPUs share a copy of the model. Raises SettingsError for more than there are.

    Left to itself, a copy takes the fewest GPUs that hold it, and copies fill the host: two copies on a GPU
    each read 1.2 times as many pages as one copy on both, where GPUs wait for each other's part of a layer.
    """
    stages = int(engine.args.get("pipeline_parallel_size") or 1)
    if not 1 <= stages <= max(1, len(gpus)):
        raise SettingsError(f"pipeline_parallel_size={stages}: must be 1 to {len(gpus)}, the visible GPUs")
    most = len(gpus) // stages
    tensor_parallel = engine.tensor_parallel
    if tensor_parallel is None:
        tensor_parallel = _fewest(engine, model, gpus, folder, stages)
    if not 1 <= tensor_parallel <= most:
        of_stages = f", shared by {stages} stages" if stages > 1 else ""
        raise SettingsError(
            f"engine.tensor_parallel={tensor_parallel}: must be 1 to {most}, the visible GPUs{of_stages}"
        )
    copy = tensor_parallel * stages
    found = Layout(tensor_parallel, stages, len(gpus) // copy if engine.replicas is None else engine.replicas)
    if found.replicas < 1 or found.gpus > len(gpus):
        raise SettingsError(
            f"engine.replicas={found.replicas}: of {copy} GPUs each takes {found.gpus};"
            f" {len(gpus)} are visible"
        )
    return found


def _fewest(
    engine: VllmSettings, model: ModelSettings, gpus: Sequence[Gpu], folder: Path | None, stages: int
) -> int:
    """Return the fewest GPUs that hold a part of each layer, or all, where fewer hold none."""
    most = len(gpus) // (stages * max(1, engine.replicas or 1))
    counts = [count for count in (1, 2, 4, 8, 16, 32) if count <= most]
    if not counts or engine.replicas:  # so many copies, and no GPU that is left over
        return max(counts, default=1)
    gpu_gib = min(gpu.total_gib for gpu in gpus)
    rooms = {c: fit(engine, model, gpu_gib, folder, Layout(c, stages, 1)).cache_tokens for c in counts}
    # Two full requests, because while the reply to one is written the next is read.
    for wanted in (max(2 * model.context_tokens, _LEAST_TOKENS), model.context_tokens):
        for count, room in rooms.items():
            if room >= wanted:
                return count
    return counts[-1]
