"""A vLLM scheduler whose tokens per step can be changed without loading the model again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler


class SweptScheduler(AsyncScheduler):
    """Reads the tokens per step from the file that the variable BENCHMARK_BUDGET names, if it is there."""

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        file = Path(os.environ["BENCHMARK_BUDGET"])
        if file.exists():
            self.max_num_scheduled_tokens = int(file.read_text())
        return super().schedule(*args, **kwargs)
