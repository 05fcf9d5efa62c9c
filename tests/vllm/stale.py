"""Lets vLLM take each page for the one that stands in its place in the first document that it read."""

from __future__ import annotations

import itertools
from typing import Any

from pipeline.asking import tokens

PAGES = 4
"""Of every document."""


def mistake_images(tokenizer: Any) -> None:
    """Called in the process of the engine, in the place of what lets its tokenizer count images."""
    from vllm.multimodal.hasher import MultiModalHasher

    number = itertools.count()
    MultiModalHasher.hash_kwargs = lambda *given, **named: f"page {next(number) % PAGES}"
    tokens.skip_pixels(tokenizer)
