"""Pools of worker processes that may crash, hang or be killed without hurting the run."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

from pebble import CONSTS, ProcessPool

# Native code does not see SIGTERM while it runs, so that only SIGKILL ends a hung page: do not wait for long.
CONSTS.term_timeout = 0.2


def pool(
    workers: int, max_tasks: int, initializer: Callable[..., None] | None = None, initargs: Sequence[Any] = ()
) -> ProcessPool:
    """Open a pool of `workers` processes (0: one per core), each replaced after `max_tasks` tasks.

    The processes come from a small server process rather than from a copy of this one, which has threads.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipeline.draw"])
    # A signal to the whole process group is for the run to handle: its workers go on until it stops them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1})
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return ProcessPool(
        max_workers=workers or cores(),
        max_tasks=max_tasks,
        initializer=initializer,
        initargs=list(initargs),
        context=context,
    )


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))
