"""Other ways through Pixtral's vision encoder of vLLM before 0.29, and through its FP8 products.

vLLM's own way puts all images of a step into one sequence and lets every image attend to every other one
through a dense mask that then hides them: the work grows with the square of the images. Here the same layers,
with the same weights, run over one image after the other, or over all at once with attention that knows
where each image ends. `choose` switches between them in the worker's process while the engine runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl


@dataclass(slots=True)
class Choice:
    """The way that the next step takes."""

    images: str = "plain"
    """plain: vLLM's dense mask. one: image by image. xformers: vLLM's path for xformers. packed: vLLM's own
    FlashAttention, over images of different lengths."""
    rope: str = "complex"
    """complex: vLLM's complex numbers in float32. fused: one kernel (with images=packed alone)."""
    product: str = "cutlass"
    """Large FP8 products. cutlass: vLLM's kernel. split: that one over 8,192 tokens at a time. torch: torch's
    row-wise scaled product (cuBLASLt), with the same operands and scales."""


CHOICE = Choice()
_LARGE, _PART = 1024, 8192
"""Tokens from which a product is large; tokens of a part."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Where each image of a packed batch ends, in place of a mask."""

    ends: torch.Tensor
    longest: int
    cos: torch.Tensor
    sin: torch.Tensor


def choose(worker: Any, images: str, rope: str, product: str) -> None:
    """Use these ways from the next step on: for `LLM.collective_rpc`."""
    from vllm.model_executor.models import pixtral

    _patch(pixtral)
    pixtral.USE_XFORMERS_OPS = images == "xformers"
    CHOICE.images, CHOICE.rope, CHOICE.product = images, rope, product


def _patch(pixtral: Any) -> None:
    """Put the switches into vLLM's classes, once."""
    if hasattr(pixtral, "docbatch_original"):
        return
    transformer, attention = pixtral.VisionTransformer.forward, pixtral.Attention.forward
    pixtral.docbatch_original = transformer

    def encode(self: Any, images: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        if CHOICE.images == "one":
            return tuple(_encode(self, [image], packed=False)[0] for image in images)
        if CHOICE.images == "mixed":  # a wrong way, for the test of the test: images see each other
            return _encode(self, images, packed=False)
        if CHOICE.images == "packed":
            return _encode(self, images, packed=True)
        return transformer(self, images)

    def attend(self: Any, x: torch.Tensor, mask: Any, freqs_cis: torch.Tensor) -> torch.Tensor:
        if not isinstance(mask, Packed):
            return attention(self, x, mask, freqs_cis)
        return _attend(self, x, mask, freqs_cis)

    pixtral.VisionTransformer.forward, pixtral.Attention.forward = encode, attend
    _patch_products()


def _encode(self: Any, images: list[torch.Tensor], packed: bool) -> tuple[torch.Tensor, ...]:
    """Do what `VisionTransformer.forward` does, without a mask, and without waiting for the GPU."""
    patches = [self.patch_conv(image.unsqueeze(0).to(self.dtype)) for image in images]
    sizes = [each.shape[-2] * each.shape[-1] for each in patches]
    x = self.ln_pre(torch.cat([each.flatten(2).permute(0, 2, 1) for each in patches], dim=1))
    table = self.freqs_cis
    freqs = torch.cat([table[: p.shape[-2], : p.shape[-1]].reshape(-1, table.shape[-1]) for p in patches])
    mask = None
    if packed:
        ends = torch.tensor([0, *sizes], dtype=torch.int32).cumsum(0, dtype=torch.int32)
        device_ends = ends.pin_memory().to(x.device, non_blocking=True)
        mask = Packed(device_ends, max(sizes), freqs.real.contiguous(), freqs.imag.contiguous())
    out = self.transformer(x, mask=mask, freqs_cis=freqs)
    return torch.split(out.squeeze(0), sizes)


def _attend(self: Any, x: torch.Tensor, mask: Packed, freqs_cis: torch.Tensor) -> torch.Tensor:
    from vllm.model_executor.models.pixtral import apply_rotary_emb_vit
    from vllm.v1.attention.backends.fa_utils import flash_attn_varlen_func, get_flash_attn_version

    tokens = x.shape[1]
    qkv, _ = self.qkv_proj(x)
    qkv = qkv.view(tokens, 3, self.n_heads, self.head_dim)
    if CHOICE.rope == "fused":
        rotate(qkv, mask.cos, mask.sin)
        q, k = qkv[:, 0], qkv[:, 1]
    else:
        q, k = apply_rotary_emb_vit(qkv[None, :, 0], qkv[None, :, 1], freqs_cis=freqs_cis)
        q, k = q[0], k[0]
    out = flash_attn_varlen_func(
        q,
        k,
        qkv[:, 2],
        max_seqlen_q=mask.longest,
        cu_seqlens_q=mask.ends,
        max_seqlen_k=mask.longest,
        cu_seqlens_k=mask.ends,
        softmax_scale=1 / math.sqrt(self.head_dim),
        causal=False,
        fa_version=get_flash_attn_version(head_size=self.head_dim),
    )
    out, _ = self.o_proj(out.reshape(1, tokens, self.n_heads * self.head_dim))
    return out


def rotate(qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    """Rotate queries and keys in place; `qkv` is [tokens, 3, heads, size], `cos` [tokens, size / 2]."""
    tokens, _, heads, size = qkv.shape
    pairs = heads * size  # half of the numbers of the queries and the keys
    block = triton.next_power_of_2(pairs)
    _rotate[(tokens,)](qkv, cos, sin, qkv.stride(0), pairs, size // 2, block, num_warps=8)


@triton.jit
def _rotate(x, cos, sin, stride, pairs, half, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    token = tl.program_id(0).to(tl.int64)
    pair = tl.arange(0, BLOCK)
    inside = pair < pairs
    place = x + token * stride + 2 * pair
    even = tl.load(place, mask=inside).to(tl.float32)
    odd = tl.load(place + 1, mask=inside).to(tl.float32)
    c = tl.load(cos + token * half + pair % half, mask=inside)
    s = tl.load(sin + token * half + pair % half, mask=inside)
    tl.store(place, even * c - odd * s, mask=inside)
    tl.store(place + 1, even * s + odd * c, mask=inside)


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


def check(worker: Any, paths: list[tuple[str, str]]) -> dict[str, float]:
    """Return how far each way is from the dense mask, as a share of its norm, on images of three sizes.

    The encoder's random weights are made as large as trained ones first: with vLLM's dummy weights, attention
    changes nothing. `mixed` shows what a wrong way looks like. Also the fused rotation against float64.
    """
    encoder = worker.get_model().vision_encoder
    generator = torch.Generator(device="cuda").manual_seed(0)
    with torch.inference_mode():
        for weight in encoder.parameters():
            if weight.dim() == 1:
                weight.fill_(1.0)
            else:
                weight.normal_(std=1 / math.sqrt(weight[0].numel()), generator=generator)
        shapes = [(1024, 720), (480, 640), (768, 1024)]
        images = [
            torch.randn(3, *shape, device="cuda", dtype=torch.bfloat16, generator=generator)
            for shape in shapes
        ]
        choose(worker, "plain", "complex", CHOICE.product)
        expected = torch.cat(encoder(images)).float()
        found = {"rotation": _check_rotation(generator)}
        for way, rope in [*paths, ("mixed", "complex")]:
            try:
                choose(worker, way, rope, CHOICE.product)
                got = torch.cat(encoder(images)).float()
                found[f"{way}, {rope}"] = float((got - expected).norm() / expected.norm())
            except Exception as error:  # a way that does not run here is a finding, not the end
                found[f"{way}, {rope}: {type(error).__name__}: {str(error)[:200]}"] = math.nan
        choose(worker, "plain", "complex", CHOICE.product)
    return found


def _check_rotation(generator: torch.Generator) -> float:
    qkv = torch.randn(999, 3, 16, 104, device="cuda", generator=generator).bfloat16()
    angle = torch.randn(999, 52, device="cuda", generator=generator)
    turned = torch.view_as_complex(qkv[:, :2].double().reshape(999, 2, 16, 52, 2))
    turned = torch.view_as_real(
        turned * torch.polar(torch.ones_like(angle), angle).to(torch.complex128)[:, None, None]
    )
    value = qkv[:, 2].clone()
    rotate(qkv, angle.cos(), angle.sin())
    assert torch.equal(value, qkv[:, 2])
    return float((qkv[:, :2].double() - turned.flatten(-2)).norm() / turned.norm())
