"""Other ways through Pixtral's vision encoder of vLLM before 0.29, and through its FP8 products.

`choose` switches between them in the worker's process while the engine runs. The packed images are the
pipeline's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.engines.vllm import fp8_products, packed_images


@dataclass(slots=True)
class Choice:
    """The way that the next step takes."""

    images: str = "plain"
    """plain: vLLM's dense mask. one: image by image. packed: as the pipeline does. mixed: images see each
    other, a wrong way, for the test of the test."""
    product: str = "cutlass"
    """Long FP8 products. cutlass: vLLM's kernel. torch: torch's, as the pipeline uses it."""


CHOICE = Choice()


def choose(worker: Any, images: str, product: str) -> None:
    """Use these ways from the next step on: for `LLM.collective_rpc`."""
    from vllm.model_executor.models import pixtral

    if not hasattr(pixtral, "docbatch_original"):
        pixtral.docbatch_original = pixtral.VisionTransformer.forward, pixtral.Attention.forward
    encode, attend = pixtral.docbatch_original
    pixtral.VisionTransformer.forward, pixtral.Attention.forward = encode, attend
    if images == "packed" and (reason := packed_images.PackedImages.pack_images(worker)):
        raise RuntimeError(reason)
    if images == "one":
        pixtral.VisionTransformer.forward = lambda self, given: tuple(encode(self, [one])[0] for one in given)
    if images == "mixed":
        pixtral.Attention.forward = lambda self, x, mask, freqs_cis: attend(self, x, None, freqs_cis)
    _use_product(product)
    CHOICE.images, CHOICE.product = images, product


def _use_product(name: str) -> None:
    from vllm import _custom_ops as operations

    fp8_products.install()
    if not hasattr(operations, "docbatch_product"):
        operations.docbatch_product = operations.cutlass_scaled_mm
    ours = operations.docbatch_product
    operations.cutlass_scaled_mm = ours if name == "torch" else ours.original


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
