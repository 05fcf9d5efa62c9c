"""Other ways through Pixtral's vision encoder of vLLM before 0.29, and through its FP8 products.

`choose` switches between them in the worker's process while the engine runs. The packed images are the
pipeline's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.engines.vllm import packed_images


@dataclass(slots=True)
class Choice:
    """The way that the next step takes."""

    images: str = "plain"
    """plain: vLLM's dense mask. one: image by image. packed: as the pipeline does. mixed: images see each
    other, a wrong way, for the test of the test."""
    product: str = "cutlass"
    """Large FP8 products. cutlass: vLLM's kernel. split: that one over 8,192 tokens at a time. torch: torch's
    row-wise scaled product (cuBLASLt), with the same operands and scales."""


CHOICE = Choice()
_LARGE, _PART = 1024, 8192
"""Tokens from which a product is large; tokens of a part."""


def choose(worker: Any, images: str, product: str) -> None:
    """Use these ways from the next step on: for `LLM.collective_rpc`."""
    from vllm.model_executor.models import pixtral

    if not hasattr(pixtral, "docbatch_original"):
        pixtral.docbatch_original = pixtral.VisionTransformer.forward, pixtral.Attention.forward
        _patch_products()
    encode, attend = pixtral.docbatch_original
    pixtral.VisionTransformer.forward, pixtral.Attention.forward = encode, attend
    if images == "packed" and (reason := packed_images.PackedImages.pack_images(worker)):
        raise RuntimeError(reason)
    if images == "one":
        pixtral.VisionTransformer.forward = lambda self, given: tuple(encode(self, [one])[0] for one in given)
    if images == "mixed":
        pixtral.Attention.forward = lambda self, x, mask, freqs_cis: attend(self, x, None, freqs_cis)
    CHOICE.images, CHOICE.product = images, product


def _patch_products() -> None:
    from vllm.model_executor.kernels.linear.scaled_mm.cutlass import CutlassFP8ScaledMMLinearKernel as Kernel

    original = Kernel.apply_scaled_mm

    def product(self: Any, *, A: Any, B: Any, As: Any, Bs: Any, **more: Any) -> torch.Tensor:
        if CHOICE.product == "cutlass" or A.shape[0] < _LARGE or more["bias"] is not None:
            return original(self, A=A, B=B, As=As, Bs=Bs, **more)
        if CHOICE.product == "split":
            shape = more.pop("output_shape")
            parts = [
                original(self, A=a, B=B, As=scale, Bs=Bs, output_shape=[a.shape[0], B.shape[1]], **more)
                for a, scale in zip(A.split(_PART), As.split(_PART), strict=True)
            ]
            return torch.cat(parts).view(*shape)
        columns = Bs.view(1, -1).expand(1, B.shape[1]).contiguous()
        out = torch._scaled_mm(
            A, B, scale_a=As, scale_b=columns, out_dtype=more["out_dtype"], use_fast_accum=True
        )
        return out.view(*more["output_shape"])

    Kernel.apply_scaled_mm = product


def randomise(worker: Any) -> None:
    """Give all weights the size of trained ones: with vLLM's dummy weights, attention changes nothing."""
    model = worker.get_model()
    generator = torch.Generator(device="cuda").manual_seed(0)
    with torch.inference_mode():
        for weight in model.parameters():
            if weight.dim() == 1:
                weight.fill_(1.0)
            else:
                weight.normal_(std=1 / math.sqrt(weight[0].numel()), generator=generator)


def check(worker: Any) -> dict[str, dict[str, float]]:
    """Return how far each way is from the dense mask, on images of three sizes: after `randomise`.

    `norm`: the difference as a share of the norm; `most`: the largest of any number, where their standard
    deviation is `deviation`; `cosine`: the lowest of any patch.
    """
    encoder = worker.get_model().vision_encoder
    generator = torch.Generator(device="cuda").manual_seed(1)
    shapes = [(1024, 720), (480, 640), (768, 1024)]
    found = {}
    with torch.inference_mode():
        images = [
            torch.randn(3, *shape, device="cuda", dtype=torch.bfloat16, generator=generator)
            for shape in shapes
        ]
        for way in ("plain", "plain", "one", "packed", "mixed"):
            choose(worker, way, CHOICE.product)
            got = torch.cat(encoder(images)).float()
            if not found:
                expected = got
            found[way if way not in found else f"{way} again"] = {
                "norm": float((got - expected).norm() / expected.norm()),
                "most": float((got - expected).abs().max()),
                "deviation": float(expected.std()),
                "cosine": float(torch.nn.functional.cosine_similarity(got, expected, dim=-1).min()),
            }
        choose(worker, "plain", CHOICE.product)
    return found
