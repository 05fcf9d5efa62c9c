"""vLLM's scheduler and worker whose ways can be changed without loading the model again."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Any

from benchmarks import gpu_time
from benchmarks.steps import Step, note
from pipeline.engines.vllm.encoder_room import EncoderRoom, full_steps
from pipeline.engines.vllm.scheduler import FullStepScheduler, largest_image
from pipeline.engines.vllm.worker import WorkerAdditions


class SweptScheduler(FullStepScheduler):
    """Reads tokens per step and way from the file that BENCHMARK_BUDGET names, if it is there."""

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        file = Path(os.environ["BENCHMARK_BUDGET"])
        wanted = file.read_text() if file.exists() else ""
        if wanted and wanted != getattr(self, "_used", "") and not self.running:
            self._used = wanted
            tokens, way = wanted.split()
            self.use(int(tokens), way)
        output = super().schedule(*args, **kwargs)
        images = sum(map(len, output.scheduled_encoder_inputs.values()))
        # When it is scheduled, not when it has ended: as far from the next as their ends are.
        step = Step(time.monotonic(), output.total_num_scheduled_tokens, images)
        note(Path(f"{os.environ['BENCHMARK_STEPS']}-{os.getppid()}"), step)  # of the host of this engine
        return output

    def use(self, tokens: int, way: str) -> None:
        """Read so many tokens a step, with vLLM's room for images or the pipeline's."""
        image = largest_image(self.vllm_config)
        room = EncoderRoom(max(tokens, image), max(tokens, image))
        if way != "plain":
            room = full_steps(tokens, self.vllm_config.max_concurrent_batches, image)
        self.max_num_scheduled_tokens = tokens
        self.max_num_encoder_input_tokens = room.in_a_step
        self.encoder_cache_manager.cache_size = room.kept
        self.encoder_cache_manager.reset()


class SweptWorker(WorkerAdditions):
    """Encodes images and multiplies as vLLM does, or as the pipeline does."""

    def encode_images(self, way: str) -> str | None:
        from vllm import _custom_ops as operations
        from vllm.model_executor.models import pixtral

        if not hasattr(pixtral, "docbatch_own"):
            pixtral.docbatch_own = (pixtral.VisionTransformer.forward, pixtral.Attention.forward)
        pixtral.VisionTransformer.forward, pixtral.Attention.forward = pixtral.docbatch_own
        if not hasattr(operations, "docbatch_product"):
            operations.docbatch_product = operations.cutlass_scaled_mm
        ours = operations.docbatch_product
        operations.cutlass_scaled_mm = ours if way == "product" else getattr(ours, "original", ours)
        return self.pack_images() if way in ("product", "cutlass") else None

    def profile_steps(self, after: int, count: int, file: str) -> None:
        """Write a trace of `count` steps of the first GPU, after so many from now: for `gpu_time`."""
        if self.rank:  # the others wait for the first at every layer, so that its steps are theirs
            return
        from torch import profiler

        runner = self.model_runner
        if not hasattr(runner, "docbatch_step"):
            gpu_time.mark(self)
            runner.docbatch_step = runner.execute_model
            with profiler.profile():  # the first one takes seconds to start
                pass
        steps, tracing = itertools.count(), profiler.profile()

        def step(*arguments: Any, **named: Any) -> Any:
            number = next(steps)
            if number == after:
                tracing.start()
            if number == after + count:
                tracing.stop()
                tracing.export_chrome_trace(file)
                runner.execute_model = runner.docbatch_step
            return runner.docbatch_step(*arguments, **named)

        runner.execute_model = step
