"""Say which GPUs hold the model and how fast it is there; where none is visible, those it was made for."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

from pipeline import workers
from pipeline.config import ModelSettings, VllmSettings
from pipeline.engines.speed import Speed
from pipeline.engines.vllm import layout, preflight
from pipeline.engines.vllm.launch import is_on_cpu
from pipeline.engines.vllm.memory import Gpu, Layout, fit
from pipeline.engines.vllm.speed import CpuSpeed, VllmSpeed

_ASSUMED = Gpu("", "a GPU of 80 GB", 79.6, 79.6)


def speed(engine: VllmSettings, model: ModelSettings) -> Speed:
    """Return the cost model of the copies that would be started. Raises SettingsError where none can be."""
    if _runs_on_cpu(engine):
        made = VllmSpeed(model, engine, Layout(1, 1, 1), 0.0, model.context_tokens, "cores")
        return CpuSpeed(made, workers.cores())
    gpus, folder = preflight.visible_gpus(), Path(model.path) if model.path else None
    here = bool(gpus)
    # Plans are made on login nodes, too, which have no GPU.
    gpus = gpus or [_ASSUMED] * model.gpus
    chosen = layout.layout(engine, model, gpus, folder)
    found = fit(engine, model, min(gpu.total_gib for gpu in gpus), folder, chosen)
    where = f"{chosen.gpus} x {gpus[0].name}" + ("" if here else " (none is visible here)")
    return VllmSpeed(model, engine, chosen, found.weights_gib, max(1, found.cache_tokens), where)


def explain(engine: VllmSettings, model: ModelSettings) -> str:
    """Say which GPUs share a copy of the model, and why, in words for the user."""
    if _runs_on_cpu(engine):
        return "vLLM on the cores of this machine"
    folder = Path(model.path) if model.path else None
    gpus = preflight.visible_gpus() or [_ASSUMED] * model.gpus
    chosen = layout.layout(engine, model, gpus, folder)
    number = f"{chosen.replicas} {'copy' if chosen.replicas == 1 else 'copies'}"
    copies = f"{number} of {chosen.gpus_per_copy} x {gpus[0].name}"
    return f"{copies}: {_why(engine, model, gpus[0], folder, chosen)}"


def _why(engine: VllmSettings, model: ModelSettings, gpu: Gpu, folder: Path | None, chosen: Layout) -> str:
    room = fit(engine, model, gpu.total_gib, folder, chosen).cache_tokens
    largest = f"the largest request of this task takes {model.context_tokens:,}"
    has = f"a copy has room for {room:,} tokens, and {largest}"
    if engine.tensor_parallel is not None:
        return f"as set; {has}"
    if chosen.tensor_parallel == 1:
        return f"{has}; copies read faster than GPUs that share one"
    fewer = replace(chosen, tensor_parallel=chosen.tensor_parallel // 2)
    less = fit(engine, model, gpu.total_gib, folder, fewer).cache_tokens
    return f"{has}; {fewer.gpus_per_copy} would have room for {less:,}"


def _runs_on_cpu(engine: VllmSettings) -> bool:
    # Where vLLM is not installed, the plan is for a machine where it is.
    return is_installed() and is_on_cpu(engine)


def is_installed() -> bool:
    """Tell whether vLLM is installed, without importing it: that takes seconds and touches the GPU."""
    found = importlib.util.find_spec("vllm")
    return found is not None and found.origin is not None  # a mere folder of that name has none
