"""Run a module, as `python -m` does, with an embedded engine that takes PACE_S seconds for each request.

A task then lasts as long on a fast machine as on a slow one, and what a test does to it comes while it runs.
"""

from __future__ import annotations

import os
import runpy
import sys
import time

from pipeline.engines.embedded.engine import EmbeddedEngine
from pipeline.records import Completion, Request

answer_one = EmbeddedEngine.take


def take(self: EmbeddedEngine) -> list[tuple[Request, Completion]]:
    time.sleep(float(os.environ["PACE_S"]))
    return answer_one(self)


if __name__ == "__main__":
    EmbeddedEngine.take = take  # type: ignore[method-assign]
    _, _, module, *arguments = sys.argv
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
