"""A scheduler that kills its engine when it sees a prompt of one length: a real death of the real process."""

from __future__ import annotations

import os
from typing import Any

from vllm.v1.core.sched.scheduler import Scheduler


class PoisonedScheduler(Scheduler):  # type: ignore[misc]  # its types are not there where types are checked
    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        deadly = int(os.environ["POISON_TOKENS"])
        if any(request.num_prompt_tokens == deadly for request in self.requests.values()):
            os._exit(1)
        return super().schedule(*args, **kwargs)
