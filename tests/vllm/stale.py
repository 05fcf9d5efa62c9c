"""Lets vLLM take every image for the first that it was shown, so that prefixes of other pages are reused."""

from __future__ import annotations

from typing import Any

from pipeline.asking import tokens


def mistake_images(tokenizer: Any) -> None:
    """Called in the process of the engine, in the place of what lets its tokenizer count images."""
    from vllm.multimodal.hasher import MultiModalHasher

    MultiModalHasher.hash_kwargs = lambda *given, **named: "the same image"
    tokens.skip_pixels(tokenizer)
