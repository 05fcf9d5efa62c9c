"""Check before a model is loaded that its weights are here and that the GPUs can hold them."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.config import ModelSettings, VllmSettings
from pipeline.errors import SettingsError

WEIGHTS = (
    "consolidated*.safetensors",
    "params.json",
    "tekken.json",
    "tokenizer.model.v*",
    "SYSTEM_PROMPT.txt",
)
"""The files of a published model that vLLM reads in Mistral's own format, and the system prompt."""

_GIB = 2**30
_RESERVE_GIB = 4.0
"""Kept for activations and graphs: on an H200, 16,384 tokens a step took less."""


_DRIVER_S = 60.0
"""Time that nvidia-smi has: it loads the driver where nothing else holds it, which takes seconds per GPU."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that this process may use."""

    index: str
    name: str
    total_gib: float
    free_gib: float


@dataclass(frozen=True, slots=True)
class Fit:
    """How a model lies on each GPU, in GiB, and the tokens that its cache has room for."""

    weights_gib: float
    usable_gib: float
    cache_tokens: int


def visible_gpus() -> list[Gpu]:
    """List the GPUs that CUDA_VISIBLE_DEVICES leaves, in its order; none where there is no driver.

    Raises SettingsError when the driver does not answer.
    """
    fields = "index,uuid,name,memory.total,memory.free"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        listed = _answer_of(command)
    except OSError:
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in listed.splitlines() if line.strip()]
    gpus = [(row[1], Gpu(row[0], row[2], float(row[3]) / 1024, float(row[4]) / 1024)) for row in rows]
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return [gpu for _, gpu in gpus]
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    return [gpu for name in names for uuid, gpu in gpus if name == gpu.index or uuid.startswith(name)]


def _answer_of(command: Sequence[str]) -> str:
    """Return what a command prints; nothing when it fails. Raises SettingsError when it hangs."""
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(command, stdout=printed, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            status = process.wait(_DRIVER_S)
        except subprocess.TimeoutExpired:
            process.kill()
            # No longer than this: a process that hangs in the driver does not even end when it is killed.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
            raise SettingsError(
                f"{command[0]} has not answered for {_DRIVER_S:g} s: the driver hangs; restart this node, run"
                " on another, or use engine=embedded"
            ) from None
        printed.seek(0)
        return printed.read() if status == 0 else ""


def check(engine: VllmSettings, model: ModelSettings, gpus: Sequence[Gpu], folder: Path | None) -> str:
    """Return in a line how the model will lie on the GPUs. Raises SettingsError saying what would fit."""
    if not gpus:
        raise SettingsError(
            "engine=vllm: no GPU is visible; use engine=embedded, or run where there are GPUs"
        )
    tensor_parallel, replicas = layout(engine, model, len(gpus))
    used = gpus[: tensor_parallel * replicas]
    found = fit(engine, model, used, folder)
    kind = engine.quantization or "bf16"
    if found.cache_tokens < model.context_tokens:
        total = weights_gib(model, folder)
        raise SettingsError(
            f"{model.name} needs {total:.0f} GiB in bf16; {tensor_parallel} x {used[0].total_gib:.1f} GiB"
            f" ({used[0].name}, {kind}) leave no room for {model.context_tokens:,} tokens of context:"
            f" {_what_fits(engine, model, gpus, folder)}"
        )
    for gpu in used:
        wanted = gpu.total_gib * engine.gpu_memory_utilization
        if gpu.free_gib < wanted:
            raise SettingsError(
                f"GPU {gpu.index} has {gpu.free_gib:.0f} of {wanted:.0f} GiB free: end what runs on it, or"
                " lower engine.gpu_memory_utilization"
            )
    copies = f"{replicas} x " if replicas > 1 else ""
    gpus_used = f"{copies}{tensor_parallel} x {used[0].name}, {used[0].total_gib:.1f} GiB each"
    return (
        f"{gpus_used}: {model.name} in {kind}"
        f" takes {found.weights_gib:.0f} GiB per GPU and leaves room for about {found.cache_tokens:,} tokens"
    )


def layout(engine: VllmSettings, model: ModelSettings, gpus: int) -> tuple[int, int]:
    """Return (GPUs per copy of the model, copies). Raises SettingsError for more than there are."""
    most = 2 ** int(math.log2(gpus)) if gpus else 0
    tensor_parallel = engine.tensor_parallel if engine.tensor_parallel is not None else min(model.gpus, most)
    if not 1 <= tensor_parallel <= gpus:
        raise SettingsError(
            f"engine.tensor_parallel={tensor_parallel}: must be 1 to {gpus}, the visible GPUs"
        )
    replicas = engine.replicas if engine.replicas is not None else gpus // tensor_parallel
    if not 1 <= replicas * tensor_parallel <= gpus:
        raise SettingsError(
            f"engine.replicas={replicas}: with engine.tensor_parallel={tensor_parallel} takes"
            f" {replicas * tensor_parallel} GPUs, and {gpus} are visible"
        )
    return tensor_parallel, replicas


def fit(engine: VllmSettings, model: ModelSettings, gpus: Sequence[Gpu], folder: Path | None) -> Fit:
    """Work out what a copy of the model takes of each of its GPUs."""
    tensor_parallel, _ = layout(engine, model, len(gpus))
    usable = min(gpu.total_gib for gpu in gpus) * engine.gpu_memory_utilization
    weights = weights_gib(model, folder) * _share(engine.quantization) / tensor_parallel
    shards = min(tensor_parallel, model.kv_heads)  # beyond that, heads are kept more than once
    token = kv_bytes_per_token(model, engine.args.get("kv_cache_dtype")) / shards
    room = (usable - weights - _RESERVE_GIB) * _GIB / token
    return Fit(weights, usable, max(0, int(room)))


def weights_gib(model: ModelSettings, folder: Path | None) -> float:
    """Return the size of the weights in bf16: of the files, or by params.json, or as published."""
    if folder and (files := _weight_files(folder)):
        return sum(file.stat().st_size for file in files) / _GIB
    if folder and (folder / "params.json").is_file():
        return 2 * parameters(json.loads((folder / "params.json").read_text(encoding="utf-8"))) / _GIB
    return 2e9 * model.parameters_b / _GIB


def parameters(shape: Mapping[str, Any]) -> int:
    """Count the parameters of a model from its params.json, in Mistral's format."""
    width, heads, size = shape["dim"], shape["n_heads"], shape["head_dim"]
    attention = width * size * (2 * heads + 2 * shape["n_kv_heads"])
    layer = attention + 3 * width * shape["hidden_dim"] + 2 * width
    tables = 1 if shape.get("tied_embeddings") else 2
    total: int = shape["n_layers"] * layer + tables * width * shape["vocab_size"] + width
    if eye := shape.get("vision_encoder"):
        inner = eye["hidden_size"]
        block = 4 * inner**2 + 3 * inner * eye["intermediate_size"] + 2 * inner
        patches = eye.get("num_channels", 3) * eye.get("patch_size", 16) ** 2 * inner
        total += eye["num_hidden_layers"] * block + patches + inner + inner * width + width**2
    return total


def kv_bytes_per_token(model: ModelSettings, dtype: object) -> int:
    """Return the bytes that keys and values of a token take in all layers: 2 each, or 1 in fp8."""
    each = 1 if str(dtype or "").startswith("fp8") else 2
    return 2 * model.layers * model.kv_heads * model.head_dim * each


def find_weights(model: ModelSettings, dummy: bool) -> Path:
    """Return the folder of the model on this machine. Raises SettingsError saying how to get it.

    `dummy`: the weights are to be random, and only the shape is looked for.
    """
    if model.path is None:
        return _from_cache(model)
    folder = Path(model.path)
    if not (folder / "params.json").is_file():
        raise SettingsError(f"model.path={folder}: holds no params.json, as models in Mistral's format have")
    if not dummy and not _weight_files(folder):
        wanted = "weights (consolidated*.safetensors)"
        raise SettingsError(f"model.path={folder}: holds no {wanted}; {_how_to_get(model)}")
    return folder


def check_context(model: ModelSettings, folder: Path) -> None:
    """Raise SettingsError when the model was not made for the context that is asked for."""
    shape = json.loads((folder / "params.json").read_text(encoding="utf-8"))
    most = shape.get("max_position_embeddings") or shape.get("max_seq_len")
    if most and most < model.context_tokens:
        raise SettingsError(f"model.context_tokens={model.context_tokens}: {folder} was made for {most}")


def _what_fits(engine: VllmSettings, model: ModelSettings, gpus: Sequence[Gpu], folder: Path | None) -> str:
    """Name the least change that makes one full request fit."""
    most = 2 ** int(math.log2(len(gpus)))
    changes: list[tuple[str, VllmSettings]] = []
    for count in dict.fromkeys((layout(engine, model, len(gpus))[0], most)):
        spread = replace(engine, tensor_parallel=count, replicas=1)
        prefix = [f"engine.tensor_parallel={count}"] if count != layout(engine, model, len(gpus))[0] else []
        halved = replace(spread, quantization=engine.quantization or "fp8")
        changes.append((" ".join(prefix), spread))
        changes.append((" ".join([*prefix, "engine.quantization=fp8"]), halved))
        small = replace(halved, args={**engine.args, "kv_cache_dtype": "fp8"})
        also = " ".join([*prefix, "engine.quantization=fp8", "+engine.args.kv_cache_dtype=fp8"])
        changes.append((also, small))
    for words, settings in changes:
        if words and _room(settings, model, gpus, folder) >= model.context_tokens:
            return f"set {words}"
    for words, settings in changes:
        if (room := _room(settings, model, gpus, folder) // 1024 * 1024) >= 8192:
            return f"set {words} model.context_tokens={room}".replace("set  ", "set ")
    count = len(gpus)
    while count < 64:
        count *= 2
        wider = replace(engine, tensor_parallel=count, replicas=1)
        if _room(wider, model, [gpus[0]] * count, folder) >= model.context_tokens:
            return f"it takes at least {count} such GPUs"
    return "choose a smaller model"


def _room(engine: VllmSettings, model: ModelSettings, gpus: Sequence[Gpu], folder: Path | None) -> int:
    return fit(engine, model, gpus[: engine.tensor_parallel or 1], folder).cache_tokens


def _share(quantization: str | None) -> float:
    if quantization is None:
        return 1.0
    return 0.27 if any(mark in quantization for mark in ("4", "awq", "gptq", "bitsandbytes")) else 0.52


def _weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("consolidated*.safetensors")) or sorted(folder.glob("*.safetensors"))


def _from_cache(model: ModelSettings) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError as error:
        raise SettingsError(f"model.path: is not set; {_how_to_get(model)}") from error
    try:
        folder = Path(
            snapshot_download(model.repository, allow_patterns=list(WEIGHTS), local_files_only=True)
        )
    except LocalEntryNotFoundError as error:
        raise SettingsError(f"{model.repository} is not on this machine; {_how_to_get(model)}") from error
    if not _weight_files(folder):
        raise SettingsError(
            f"{model.repository} is on this machine without its weights; {_how_to_get(model)}"
        )
    return folder


def _how_to_get(model: ModelSettings) -> str:
    return (
        f"accept the licence on https://huggingface.co/{model.repository}, put a token into HF_TOKEN, and run"
        " `python -m pipeline.fetch` with the same model=… where there is a network; then set model.path"
    )
