"""How many image embeddings vLLM needs room for, so that every step of it is full."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config import ModelSettings, VllmSettings

_GIB = 2**30
_ENCODER_GIB = 1.0
"""What the vision encoder allocates for the images of a step, at most: 8,192 tokens a step, on H100s."""


@dataclass(frozen=True, slots=True)
class EncoderRoom:
    """Limits of vLLM's scheduler, in embeddings of images."""

    kept: int
    """Those that are kept until the step that reads them has come back."""
    in_a_step: int
    """Those that one step may compute."""


def full_steps(step_tokens: int, steps_under_way: int, largest_image: int) -> EncoderRoom:
    """Return the room with which no step has to wait for another's images.

    A step reads at most `step_tokens`; the images at its beginning and its end may reach beyond it.
    """
    kept = steps_under_way * step_tokens + 2 * largest_image
    return EncoderRoom(kept=kept, in_a_step=step_tokens + largest_image)


def uncounted_gib(engine: VllmSettings, model: ModelSettings, stages: int) -> float:
    """Return the memory of images, in GiB per GPU, that vLLM does not count when it sizes its KV cache."""
    largest_image = (model.image_max_px // model.image_patch_px) ** 2
    # vLLM schedules one step more than there are pipeline stages: it prepares the next while one runs.
    room = full_steps(engine.max_batched_tokens, stages + 1, largest_image)
    return _ENCODER_GIB + 2 * room.kept * model.width / _GIB
