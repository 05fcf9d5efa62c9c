"""How many tokens the largest request that a task can make takes, prompt and answer together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipeline.asking import prompt
from pipeline.config import ModelSettings, RunSettings
from pipeline.records import Json, Question

_FORMAT_TOKENS = 256
"""The chat format, a page's label, and the words that a second attempt adds."""


def model_for(
    settings: RunSettings, asked: Sequence[Question], envelope: Mapping[str, Json] | None, system_prompt: str
) -> ModelSettings:
    """Return the model with no more context than the task needs, so that it fits on fewer GPUs.

    In page scope a request has one image. Else documents of any length come, and their parts are merged: it
    may be as long as the context.
    """
    model = settings.model
    if settings.task.scope != "page":
        return model
    longest = max(asked, key=lambda question: len(question.text.encode()))
    # No token is shorter than a byte: the tokenizer would have to be loaded to know it more exactly.
    words = len((prompt.ask(longest, settings.task, envelope) + system_prompt).encode())
    attempts = 1 + settings.engine.repair_attempts
    needed = _image_tokens(model) + words + attempts * _FORMAT_TOKENS + settings.task.max_output_tokens
    return replace(model, context_tokens=min(model.context_tokens, needed), max_images=1)


def _image_tokens(model: ModelSettings) -> int:
    side = -(-model.image_max_px // model.image_patch_px)
    return side * (side + 1)
