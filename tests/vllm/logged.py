"""The pipeline's scheduler, which also writes down what each of its steps does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.engines.vllm.scheduler import FullStepScheduler

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput


class LoggedScheduler(FullStepScheduler):
    def schedule(self, *args: object, **more: object) -> SchedulerOutput:
        unread = sum(request.num_tokens - request.num_computed_tokens for request in self.requests.values())
        output = super().schedule(*args, **more)
        step = {
            "unread": unread,
            "read": output.num_scheduled_tokens,
            "images": {name: len(found) for name, found in output.scheduled_encoder_inputs.items()},
        }
        with Path(os.environ["STEPS"]).open("a") as file:
            file.write(json.dumps(step) + "\n")
        return output
