"""A vLLM scheduler that keeps every step full when prompts are images.

vLLM schedules a step while the one before it still runs, and frees the embeddings of an image only when the
step that read them has come back. It keeps no more embeddings than a step has tokens: two pages. So the next
step finds the cache full, can take no new image and reads a handful of tokens; stages of a pipeline wait for
each other. A step that begins and ends inside an image also needs more embeddings than it has tokens, and
vLLM computes no more than that.

Here the cache holds the images of all steps that are under way, and a step may compute one image more than it
has tokens for. Both follow from vLLM's own settings. docs/gpu-profile.md has the measurements.
"""

from __future__ import annotations

from typing import Protocol, Self

from vllm.logger import init_logger
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler

from pipeline.engines.vllm import json_form
from pipeline.engines.vllm.encoder_room import EncoderRoom, full_steps

logger = init_logger(f"vllm.{__name__}")  # vLLM shows what is logged under its own name
json_form.adopt()  # in this process vLLM compiles the schemas of replies


class _VisionConfig(Protocol):
    image_size: int
    patch_size: int


class _HfConfig(Protocol):
    vision_config: _VisionConfig


class _ModelConfig(Protocol):
    hf_config: _HfConfig


class _SchedulerConfig(Protocol):
    async_scheduling: bool | None


class VllmConfig(Protocol):
    """vLLM's `VllmConfig`, as far as it is read here."""

    model_config: _ModelConfig
    scheduler_config: _SchedulerConfig
    max_concurrent_batches: int


class FullStepScheduler(Scheduler):  # type: ignore[misc]  # vLLM's types are not there where types are checked
    """vLLM's scheduler, synchronous or not, with room for the images of every step that is under way."""

    max_num_encoder_input_tokens: int

    def __new__(cls, vllm_config: VllmConfig, *args: object, **more: object) -> Self:
        """Choose the kind that the engine's loop expects: `scheduler_cls` names one class for both."""
        if vllm_config.scheduler_config.async_scheduling and not issubclass(cls, AsyncScheduler):
            cls = type(cls.__name__, (cls, AsyncScheduler), {})
        made: Self = super().__new__(cls)
        return made

    def __init__(self, vllm_config: VllmConfig, *args: object, **more: object) -> None:
        super().__init__(vllm_config, *args, **more)
        try:
            self._widen(vllm_config)
        except AttributeError as error:  # the interface is not public: another vLLM may have another one
            logger.info("Steps are as this vLLM fills them (%s).", error)

    def _widen(self, vllm_config: VllmConfig) -> None:
        manager = self.encoder_cache_manager
        kept, in_a_step = manager.cache_size, self.max_num_encoder_input_tokens
        if not kept:  # the model, or this run, has no images
            return
        under_way = vllm_config.max_concurrent_batches
        room = full_steps(self.max_num_scheduled_tokens, under_way, largest_image(vllm_config))
        # No less than vLLM's own, of which a later version may keep enough.
        room = EncoderRoom(max(room.kept, kept), max(room.in_a_step, in_a_step))
        if room == EncoderRoom(kept, in_a_step):
            return
        manager.cache_size = room.kept
        manager.reset()  # its free room follows from its size
        self.max_num_encoder_input_tokens = room.in_a_step
        logger.info("Room for %s, in steps of %d tokens.", room, self.max_num_scheduled_tokens)


def largest_image(vllm_config: VllmConfig) -> int:
    """Return the most embeddings that one image can have. Raises AttributeError for other than Pixtral's."""
    vision = vllm_config.model_config.hf_config.vision_config
    merged = vision.patch_size * getattr(vision, "spatial_merge_size", 1)
    return int((vision.image_size // merged) ** 2)
