"""A vLLM scheduler whose tokens per step can be changed without loading the model again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler


class SweptScheduler(AsyncScheduler):
    """Reads the tokens per step from the file that the variable BENCHMARK_BUDGET names, if it is there.

    The tokens of images that may be encoded in a step, and kept until they are read, go with it: vLLM sets
    all three from `max_num_batched_tokens`, and no lower than one whole image.
    """

    _LARGEST_IMAGE = 64 * 65

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        file = Path(os.environ["BENCHMARK_BUDGET"])
        tokens = int(file.read_text()) if file.exists() else self.max_num_scheduled_tokens
        if tokens != self.max_num_scheduled_tokens and not self.running:
            self.max_num_scheduled_tokens = tokens
            self.max_num_encoder_input_tokens = max(tokens, self._LARGEST_IMAGE)
            self.encoder_cache_manager.cache_size = max(tokens, self._LARGEST_IMAGE)
            self.encoder_cache_manager.reset()
        return super().schedule(*args, **kwargs)
