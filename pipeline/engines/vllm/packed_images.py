"""Pixtral's vision encoder over all images of a step at once, each attending to itself alone.

Up to version 0.28 vLLM puts the images of a step into one sequence, lets every image attend to every other
one, and hides the others by a dense mask: the work grows with the square of the images. Here the same layers,
with the same weights, call vLLM's own FlashAttention, which knows where each image ends. vLLM 0.29 does so
itself, and its classes are left as they are. docs/gpu-profile.md has the measurements.

vLLM mixes `PackedImages` into the worker of every GPU (`worker.py`).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

_SHAPES = ((24, 41), (47, 16), (5, 7))
"""Rows and columns of patches in the images with which the packed attention is tried where it is to run."""
_TOLERANCE = 0.03
"""Difference to torch's attention that is allowed, as a share of its norm: bf16 makes a tenth of it, images
that see each other make it twenty times as large."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Where each image of a packed sequence ends, in place of a mask."""

    ends: torch.Tensor
    """int32, on the GPU: 0, and the patches up to the end of each image."""
    longest: int
    """Patches of the largest image."""


class _Attention(Protocol):
    """Pixtral's `Attention` of vLLM, as far as it is used here."""

    n_heads: int
    head_dim: int
    qkv_proj: Callable[[torch.Tensor], tuple[torch.Tensor, object]]
    o_proj: Callable[[torch.Tensor], tuple[torch.Tensor, object]]


class _Encoder(Protocol):
    """Pixtral's `VisionTransformer` of vLLM, as far as it is used here."""

    dtype: torch.dtype
    freqs_cis: torch.Tensor
    patch_conv: Callable[[torch.Tensor], torch.Tensor]
    ln_pre: Callable[[torch.Tensor], torch.Tensor]
    transformer: Callable[..., torch.Tensor]


class PackedImages:
    """What the worker of every GPU can be asked for besides."""

    def pack_images(self) -> str | None:
        """Encode images packed from now on; return why not, where vLLM's own way stays."""
        from vllm.model_executor.models import pixtral

        # By its arguments, not by a version: builds between releases have either.
        known = ["self", "x", "mask", "freqs_cis"]
        if list(inspect.signature(pixtral.Attention.forward).parameters) != known:
            return "this vLLM has a way of its own"
        if not torch.cuda.is_available():
            return "there is no GPU"
        model = self.get_model()  # type: ignore[attr-defined]  # the worker's
        encoder = getattr(model, "vision_encoder", None)
        if not isinstance(encoder, pixtral.VisionTransformer):
            return None  # a later stage of a pipeline, or a model without images: never called here
        try:
            attention = encoder.transformer.layers[0].attention
            far = difference(attention.n_heads, attention.head_dim, next(encoder.parameters()))
        except Exception as error:  # of any library below: vLLM's own way runs without this one
            return f"{type(error).__name__}: {error}"
        if not far <= _TOLERANCE:
            return f"it comes to other values here (by {far:.3f})"
        _install(pixtral.VisionTransformer, pixtral.Attention)
        return None


def _install(encoder_class: type, attention_class: type) -> None:
    original = attention_class.forward  # type: ignore[attr-defined]
    if hasattr(original, "packs"):  # a second engine in the same process
        return

    def attention(
        self: _Attention, x: torch.Tensor, mask: Packed | torch.Tensor, freqs_cis: torch.Tensor
    ) -> torch.Tensor:
        if isinstance(mask, Packed):
            return attend(self, x, mask, freqs_cis)
        return original(self, x, mask, freqs_cis)

    attention.packs = True  # type: ignore[attr-defined]
    attention_class.forward = attention  # type: ignore[attr-defined]
    encoder_class.forward = encode  # type: ignore[attr-defined]


def encode(self: _Encoder, images: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Return the features of each image, [patches, width], as `VisionTransformer.forward` does."""
    # One by one, since images differ in size; all that follows sees them as one sequence.
    patches = [self.patch_conv(image.unsqueeze(0).to(self.dtype)) for image in images]
    shapes = [(int(each.shape[-2]), int(each.shape[-1])) for each in patches]
    x = self.ln_pre(torch.cat([each.flatten(2).permute(0, 2, 1) for each in patches], dim=1))
    out = self.transformer(x, mask=pack(shapes, x.device), freqs_cis=_places(self.freqs_cis, shapes))
    features: tuple[torch.Tensor, ...] = out.squeeze(0).split([height * width for height, width in shapes])
    return features


def pack(shapes: Sequence[tuple[int, int]], device: torch.device) -> Packed:
    """Return where images of these (rows, columns) of patches end."""
    sizes = [height * width for height, width in shapes]
    ends = torch.tensor([0, *sizes], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    # Pinned, so that the copy does not wait until the GPU has done all that it was given before.
    return Packed(ends.pin_memory().to(device, non_blocking=True), max(sizes))


def _places(table: torch.Tensor, shapes: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Return the rotation of each patch, [patches, size of a head / 2], from that of each row and column."""
    return torch.cat(
        [table[:height, :width].reshape(height * width, table.shape[-1]) for height, width in shapes]
    )


def attend(self: _Attention, x: torch.Tensor, packed: Packed, freqs_cis: torch.Tensor) -> torch.Tensor:
    """Do what `Attention.forward` does, for `x` of [1, patches, width]."""
    from vllm.model_executor.models.pixtral import apply_rotary_emb_vit

    qkv = self.qkv_proj(x)[0].view(1, x.shape[1], 3, self.n_heads, self.head_dim)
    q, k = apply_rotary_emb_vit(qkv[:, :, 0], qkv[:, :, 1], freqs_cis=freqs_cis)
    out = flash(q[0], k[0], qkv[0, :, 2], packed)
    return self.o_proj(out.reshape(1, x.shape[1], self.n_heads * self.head_dim))[0]


def flash(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, packed: Packed) -> torch.Tensor:
    """Return the attention of every image to itself; all are [patches, heads, size of a head]."""
    from vllm.v1.attention.backends.fa_utils import flash_attn_varlen_func, get_flash_attn_version

    return flash_attn_varlen_func(
        q,
        k,
        v,
        max_seqlen_q=packed.longest,
        cu_seqlens_q=packed.ends,
        max_seqlen_k=packed.longest,
        cu_seqlens_k=packed.ends,
        softmax_scale=1 / math.sqrt(q.shape[-1]),
        causal=False,
        fa_version=get_flash_attn_version(head_size=q.shape[-1]),
    )


def difference(heads: int, size: int, like: torch.Tensor) -> float:
    """Return how far `flash` is from torch's attention over each image alone, as a share of its norm."""
    sizes = [height * width for height, width in _SHAPES]
    generator = torch.Generator(device=like.device).manual_seed(0)
    shape = (3, sum(sizes), heads, size)
    with torch.inference_mode():
        # Of random numbers attention looks at all patches, so none that it should not see stays unnoticed.
        q, k, v = torch.randn(shape, device=like.device, dtype=like.dtype, generator=generator)
        found = flash(q, k, v, pack(_SHAPES, like.device)).float()
        images = zip(*(each.float().transpose(0, 1).split(sizes, dim=1) for each in (q, k, v)), strict=True)
        alone = [torch.nn.functional.scaled_dot_product_attention(*image) for image in images]
        expected = torch.cat(alone, dim=1).transpose(0, 1)
        return float((found - expected).norm() / expected.norm())
