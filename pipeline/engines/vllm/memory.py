"""How much memory a model takes of each GPU, and how many tokens its cache then has room for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import ModelSettings, VllmSettings

_GIB = 2**30
_RESERVE_GIB = 4.0
"""Kept for activations and graphs: on an H200, 16,384 tokens a step took less."""
_BESIDE_LAYERS = 0.03
"""Share of the weights that are embeddings and vision encoder, in Pixtral-Large."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that this process may use."""

    index: str
    name: str
    total_gib: float
    free_gib: float


@dataclass(frozen=True, slots=True)
class Layout:
    """Which GPUs share what."""

    tensor_parallel: int
    """GPUs that share every layer."""
    stages: int
    """Such groups, one after the other, with a part of the layers each."""
    replicas: int
    """Copies of the model."""

    @property
    def gpus_per_copy(self) -> int:
        return self.tensor_parallel * self.stages

    @property
    def gpus(self) -> int:
        return self.gpus_per_copy * self.replicas


@dataclass(frozen=True, slots=True)
class Fit:
    """Memory use per GPU, in GiB, and the tokens that the cache of a copy has room for."""

    weights_gib: float
    usable_gib: float
    cache_tokens: int


def fit(
    engine: VllmSettings, model: ModelSettings, gpu_gib: float, folder: Path | None, chosen: Layout
) -> Fit:
    """Work out what a copy of the model takes of each of its GPUs, of which the smallest has `gpu_gib`."""
    usable = gpu_gib * engine.gpu_memory_utilization
    # The first stage has the embeddings and the vision encoder besides its part of the layers.
    part = 1.0 if chosen.stages == 1 else _BESIDE_LAYERS + (1 - _BESIDE_LAYERS) / chosen.stages
    weights = _loaded_gib(model, folder, engine.quantization) * part / chosen.tensor_parallel
    shards = min(chosen.tensor_parallel, model.kv_heads)  # beyond that, heads are kept more than once
    layers = math.ceil(model.layers / chosen.stages)
    token = kv_bytes_per_token(model, engine.args.get("kv_cache_dtype")) / shards * layers / model.layers
    room = (usable - weights - _RESERVE_GIB) * _GIB / token
    return Fit(weights, usable, max(0, int(room)))


def _loaded_gib(model: ModelSettings, folder: Path | None, quantization: str | None) -> float:
    """Return the size of the weights as they are loaded: quantized, unless the files are so already."""
    stored = weights_gib(model, folder)
    return min(stored, in_bf16_gib(model, folder) * _share(quantization)) if quantization else stored


def weights_gib(model: ModelSettings, folder: Path | None) -> float:
    """Return the size of the weights as they are stored, or, where they are not here, in bf16."""
    # Quantized files are smaller than the shape says, so they come first.
    if folder and (files := weight_files(folder)):
        return sum(file.stat().st_size for file in files) / _GIB
    return in_bf16_gib(model, folder)


def in_bf16_gib(model: ModelSettings, folder: Path | None) -> float:
    """Return the size of the weights in bf16, by params.json, or as published."""
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


def _share(quantization: str | None) -> float:
    if quantization is None:
        return 1.0
    return 0.27 if any(mark in quantization for mark in ("4", "awq", "gptq", "bitsandbytes")) else 0.52


def weight_files(folder: Path) -> list[Path]:
    """List the files with weights, in Mistral's own format where there are both."""
    return sorted(folder.glob("consolidated*.safetensors")) or sorted(folder.glob("*.safetensors"))
