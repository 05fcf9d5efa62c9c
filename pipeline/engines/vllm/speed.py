"""What a vision-language model takes of its GPUs: a cost model fitted on measured rates.

Fitted by `benchmarks/fit_cost.py` on the pages per second of docs/figures.md: one and two H200 and H100,
22 to 88 layers, bf16 and FP8. H100 and H200 read at the same rate. tests/engines/test_speed.py holds it to
within 20 % of each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.config import ModelSettings, VllmSettings
from pipeline.engines.vllm.additions import ADDITIONS
from pipeline.engines.vllm.memory import Layout
from pipeline.records import Completion, Request, Usage

_BF16_FLOPS, _FP8_FLOPS = 750e12, 1200e12
"""Products with the weights, with norms, activations and quantising, of one GPU."""
_ATTENTION_FLOPS = 580e12
_ENCODER_S, _PLAIN_ENCODER_S = 15e-6, 49e-6
"""The image encoder for a token of an image, as the product runs it and as vLLM does, at this width:"""
_ENCODER_WIDTH = 12288
_PER_DOUBLING = 1.31
"""GPUs that share each layer wait for each other: measured for two, and assumed for each doubling."""
_STAGES = 1.39
"""Stages of a pipeline wait for each other, too."""
_READ_GIB_S = 0.38e-3
"""A step that writes one token of each reply reads all weights: seconds for a GiB."""
_EAGER_LAYER_S = 0.86e-3
"""Without CUDA graphs it takes at least this for each layer."""


class Operations(NamedTuple):
    """Of a language model that reads a prompt; the image encoder, under 1 %, is left out."""

    products: float
    attention: float


def operations(tokens: int, cached: int, model: ModelSettings) -> Operations:
    """Return what reading a prompt takes: two operations per weight and token, and causal attention.

    Attention takes 4 x width per layer and pair of positions, and half of all pairs are causal (Kaplan et
    al., 2020, appendix B, with the pairs summed instead of approximated).
    """
    pairs = (tokens**2 - cached**2) / 2
    return Operations(2e9 * model.parameters_b * (tokens - cached), 4 * model.layers * model.width * pairs)


@dataclass(frozen=True, slots=True)
class VllmSpeed:
    """A model on the GPUs that a layout gives it."""

    model: ModelSettings
    engine: VllmSettings
    layout: Layout
    weights_gib: float
    """Per GPU, as they are loaded."""
    cache_tokens: int
    where: str
    """On which GPUs, in words."""
    cores: int = 0
    is_model: bool = True

    @property
    def gpus(self) -> int:
        return self.layout.gpus

    @property
    def assumed(self) -> str:
        return f"{self.where}; rates measured on H100 and H200"

    def seconds(self, usage: Usage) -> float:
        """Predict the seconds of one GPU for a request: reading its prompt, then writing its reply."""
        return self._reading_s(usage) + self._writing_s(usage)

    def weigh(self, request: Request, completion: Completion) -> float:
        """Return the seconds that its tokens are predicted to take; none for what was not sent."""
        # A request that was refused, or failed before it was read, has taken nothing of a GPU.
        if completion.failure and not completion.prompt_tokens:
            return 0.0
        return self.seconds(
            Usage(
                completion.prompt_tokens,
                completion.cached_tokens,
                completion.output_tokens,
                pages=len(request.pages),
            )
        )

    def _reading_s(self, usage: Usage) -> float:
        """Count products with the weights, attention to all tokens before, and the encoder."""
        model, new = self.model, usage.prompt_tokens - usage.cached_tokens
        done = operations(usage.prompt_tokens, usage.cached_tokens, model)
        products = done.products / (_FP8_FLOPS if self._is_fp8 else _BF16_FLOPS)
        attention = done.attention / _ATTENTION_FLOPS
        encoder_s = _ENCODER_S if self._is_packed else _PLAIN_ENCODER_S
        # All new tokens are taken for those of images, which nearly all are.
        encoder = encoder_s * new * model.width / _ENCODER_WIDTH if usage.pages else 0.0
        return (products + attention + encoder) * self._waiting

    def _writing_s(self, usage: Usage) -> float:
        """Replies are written side by side, as many as the cache holds with their prompts."""
        held = usage.prompt_tokens - usage.cached_tokens + usage.output_tokens
        together = min(self.engine.max_sequences, max(1.0, self.cache_tokens / max(held, 1.0)), _TOGETHER)
        step = _READ_GIB_S * self.weights_gib
        if self.engine.eager:
            step = max(step, _EAGER_LAYER_S * self.model.layers)
        # All GPUs of a copy are busy with a step, and seconds are those of one GPU.
        return self.layout.gpus_per_copy * usage.output_tokens * step / together

    @property
    def _waiting(self) -> float:
        shared = math.pow(_PER_DOUBLING, math.log2(self.layout.tensor_parallel))
        return shared * (_STAGES if self.layout.stages > 1 else 1.0)

    @property
    def _is_fp8(self) -> bool:
        return "fp8" in (self.engine.quantization or "")

    @property
    def _is_packed(self) -> bool:
        # Whoever names one of them turns it off, or puts another class in its place.
        return not set(ADDITIONS) & set(self.engine.args)


_TOGETHER = 32
"""Most replies that the measured rates of writing say anything about."""
_CORE_IS_SLOWER = 25_000
"""One core against one GPU: a guess, for tiny models on CPU builds of vLLM."""


@dataclass(frozen=True, slots=True)
class CpuSpeed:
    """The same on the cores of this machine, for tiny models."""

    on_gpu: VllmSpeed
    cores: int
    gpus: int = 0
    is_model: bool = True

    @property
    def assumed(self) -> str:
        return f"vLLM on {self.cores} cores, whose rate was never measured"

    def seconds(self, usage: Usage) -> float:
        """Predict the seconds of one core."""
        return _CORE_IS_SLOWER * self.on_gpu.seconds(usage)

    def weigh(self, request: Request, completion: Completion) -> float:
        """Return what its tokens would take on a GPU."""
        return self.on_gpu.weigh(request, completion)
