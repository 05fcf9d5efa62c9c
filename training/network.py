"""Pixtral in plain PyTorch, with the names and the arithmetic of the weights that vLLM loads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""Of red, green and blue, as mistral_common prepares images."""
IMAGE, ROW_END, IMAGE_END = 10, 14, 15
"""Tokens of a patch, of the end of a row of patches, and of the end of the last row."""


@dataclass(frozen=True)
class Shape:
    """The size of a model."""

    dim: int = 256
    n_layers: int = 6
    n_heads: int = 8
    n_kv_heads: int = 4
    head_dim: int = 32
    hidden_dim: int = 768
    vocab_size: int = 32768
    rope_theta: float = 1e6
    vision_dim: int = 256
    vision_layers: int = 6
    vision_heads: int = 8
    vision_hidden: int = 640
    vision_rope_theta: float = 1e4
    patch_px: int = 16
    image_px: int = 1024

    def parameters(self) -> dict[str, object]:
        """Return what `params.json` says of it."""
        return {
            "dim": self.dim, "n_layers": self.n_layers, "head_dim": self.head_dim,
            "hidden_dim": self.hidden_dim, "n_heads": self.n_heads, "n_kv_heads": self.n_kv_heads,
            "rope_theta": self.rope_theta,
            "norm_eps": 1e-5, "vocab_size": self.vocab_size, "tied_embeddings": True, "max_seq_len": 131072,
            "max_position_embeddings": 131072,
            "vision_encoder": {
                "hidden_size": self.vision_dim, "num_channels": 3, "image_size": self.image_px,
                "patch_size": self.patch_px, "rope_theta": self.vision_rope_theta,
                "intermediate_size": self.vision_hidden, "num_hidden_layers": self.vision_layers,
                "num_attention_heads": self.vision_heads, "image_token_id": IMAGE,
                "image_break_token_id": ROW_END, "image_end_token_id": IMAGE_END, "adapter_bias": True,
            },
        }  # fmt: skip


class Norm(nn.Module):
    """Root mean square norm, in the type of what it is given: torch has one fused kernel for each type."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), 1e-5)


class Attention(nn.Module):
    """Attention with rotary positions, over all that came before, or over all (`causal`)."""

    def __init__(self, dim: int, heads: int, kv_heads: int, head_dim: int, causal: bool) -> None:
        super().__init__()
        self.head_dim, self.causal = head_dim, causal
        self.wq = nn.Linear(dim, heads * head_dim, bias=False)
        self.wk = nn.Linear(dim, kv_heads * head_dim, bias=False)
        self.wv = nn.Linear(dim, kv_heads * head_dim, bias=False)
        self.wo = nn.Linear(heads * head_dim, dim, bias=False)

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        """x: (batch, tokens, dim); turns: complex (tokens, head_dim / 2)."""
        parts = (linear(x).unflatten(-1, (-1, self.head_dim)) for linear in (self.wq, self.wk, self.wv))
        q, k, v = (part.transpose(1, 2) for part in parts)
        q, k = rotated(q, turns), rotated(k, turns)
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal, enable_gqa=True)
        return cast(Tensor, self.wo(out.transpose(1, 2).flatten(2)))


def rotated(x: Tensor, turns: Tensor) -> Tensor:
    """Turn neighbouring pairs, as complex numbers. x: (batch, heads, tokens, head_dim)."""
    turned = torch.view_as_complex(x.float().unflatten(-1, (-1, 2))) * turns
    return torch.view_as_real(turned).flatten(-2).type_as(x)


class FeedForward(nn.Module):
    """The gated layer of Llama and Mistral."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, hidden, bias=False)
        self.w2 = nn.Linear(hidden, dim, bias=False)
        self.w3 = nn.Linear(dim, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.w2(functional.silu(self.w1(x)) * self.w3(x)))


class Block(nn.Module):
    """A layer of either transformer."""

    def __init__(self, dim: int, attention: Attention, hidden: int) -> None:
        super().__init__()
        self.attention, self.feed_forward = attention, FeedForward(dim, hidden)
        self.attention_norm, self.ffn_norm = Norm(dim), Norm(dim)

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), turns)
        return cast(Tensor, x + self.feed_forward(self.ffn_norm(x)))


class Layers(nn.Module):
    """A stack of layers, under the name that the weights have."""

    def __init__(self, blocks: list[Block]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(blocks)

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, turns)
        return x


class VisionEncoder(nn.Module):
    """Pixtral's encoder, over images of one size."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        dim, heads, self.shape = shape.vision_dim, shape.vision_heads, shape
        self.patch_conv = nn.Conv2d(3, dim, shape.patch_px, shape.patch_px, bias=False)
        self.ln_pre = Norm(dim)
        self.transformer = Layers(
            [
                Block(dim, Attention(dim, heads, heads, dim // heads, causal=False), shape.vision_hidden)
                for _ in range(shape.vision_layers)
            ]
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return (images, patches, dim) of normalized images (images, 3, height, width)."""
        patches = self.patch_conv(images)
        turns = turns_2d(self.shape, patches.shape[2], patches.shape[3], images.device)
        return cast(Tensor, self.transformer(self.ln_pre(patches.flatten(2).transpose(1, 2)), turns))


def turns_2d(shape: Shape, rows: int, columns: int, device: torch.device) -> Tensor:
    """Return the turns of patches, row by row: even frequencies turn with the row, odd with the column."""
    head_dim = shape.vision_dim // shape.vision_heads
    speeds = 1 / shape.vision_rope_theta ** (torch.arange(0, head_dim, 2, device=device) / head_dim)
    down = torch.outer(torch.arange(rows, device=device), speeds[::2])
    along = torch.outer(torch.arange(columns, device=device), speeds[1::2])
    angles = torch.cat(
        [down[:, None].expand(-1, columns, -1), along[None].expand(rows, -1, -1)], dim=-1
    ).flatten(0, 1)
    return torch.polar(torch.ones_like(angles), angles)


class Adapter(nn.Module):
    """From the encoder's width to the decoder's."""

    def __init__(self, vision_dim: int, dim: int) -> None:
        super().__init__()
        self.w_in, self.w_out = nn.Linear(vision_dim, dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.w_out(functional.gelu(self.w_in(x))))


class Pixtral(nn.Module):
    """The whole model. Its `state_dict` has the names of `consolidated.safetensors`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.vision_encoder = VisionEncoder(shape)
        self.vision_language_adapter = Adapter(shape.vision_dim, shape.dim)
        self.tok_embeddings = nn.Embedding(shape.vocab_size, shape.dim)
        self.layers = nn.ModuleList(
            Block(
                shape.dim,
                Attention(shape.dim, shape.n_heads, shape.n_kv_heads, shape.head_dim, causal=True),
                shape.hidden_dim,
            )
            for _ in range(shape.n_layers)
        )
        self.norm = Norm(shape.dim)
        nn.init.normal_(self.tok_embeddings.weight, std=0.02)

    def patches(self, images: Tensor) -> Tensor:
        """Return what the decoder sees, (images, patches, dim), of grey images (images, height, width)."""
        mean, deviation = (
            torch.tensor(each, device=images.device)[:, None, None] for each in (MEAN, DEVIATION)
        )
        normalized = (images[:, None] / 255 - mean) / deviation
        return cast(Tensor, self.vision_language_adapter(self.vision_encoder(normalized)))

    def states(self, tokens: Tensor, patches: Tensor | None) -> list[Tensor]:
        """Return what each layer is given, and what the last one gives, of tokens (batch, tokens).

        `patches` come in the order of their tokens.
        """
        x = self.tok_embeddings(tokens)
        if patches is not None:
            x = x.masked_scatter((tokens == IMAGE)[..., None], patches.to(x.dtype))
        turns = turns_1d(self.shape, tokens.shape[1], tokens.device)
        states = [x]
        for layer in self.layers:
            states.append(layer(states[-1], turns))
        return states

    def hidden(self, tokens: Tensor, patches: Tensor | None) -> Tensor:
        """Return the last state of tokens, as their scores are taken of it."""
        return cast(Tensor, self.norm(self.states(tokens, patches)[-1]))

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the scores of the vocabulary: the embeddings serve for both."""
        return functional.linear(hidden, self.tok_embeddings.weight)


def turns_1d(shape: Shape, tokens: int, device: torch.device) -> Tensor:
    """Return the turns of positions 0, 1, 2 …"""
    speeds = 1 / shape.rope_theta ** (torch.arange(0, shape.head_dim, 2, device=device) / shape.head_dim)
    angles = torch.outer(torch.arange(tokens, device=device), speeds)
    return torch.polar(torch.ones_like(angles), angles)
