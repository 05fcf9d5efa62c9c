"""Pools of worker processes that may crash, hang or be killed without hurting the run."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import context, popen_forkserver
from multiprocessing.process import BaseProcess
from typing import Any

from pebble import CONSTS, ProcessFuture, ProcessPool

from pipeline.errors import WorkersLost

# Native code does not see SIGTERM while it runs, so that only SIGKILL ends a hung page: do not wait for long.
CONSTS.term_timeout = 0.2
# A worker killed just while it takes a task or hands in a result leaves a lock behind, for which the others
# wait this long; then they give up and are replaced.
CONSTS.channel_lock_timeout = 20

_LIVES = 5
"""Pools in a row that may break before a task of theirs is done."""
_LOOK_S = 1.0
"""Seconds between looks at whether the pool that holds a task still lives."""


class Pool:
    """`workers` processes (0: one per core), each replaced when it dies and after `max_tasks` tasks.

    The processes come from a small server process rather than from a copy of this one, which has threads.
    A pebble pool takes the death of a worker that had nothing to do for a sign that no worker can start, and
    gives up with every task it holds: then this one opens another, and hands it each task whose result is
    asked for. Not for use from several threads.
    """

    def __init__(
        self,
        workers: int,
        max_tasks: int,
        initializer: Callable[..., None] | None = None,
        initargs: Sequence[Any] = (),
    ) -> None:
        self._given = {
            "max_workers": workers or cores(),
            "max_tasks": max_tasks,
            "initializer": initializer,
            "initargs": list(initargs),
        }
        self._lives = _LIVES
        self._pool = self._open()

    def schedule(self, function: Callable[..., Any], args: Sequence[Any], timeout: float) -> Task:
        """Start `function(*args)` in a worker, which has `timeout` seconds for it once it begins."""
        return Task(self, function, args, timeout)

    def close(self) -> None:
        """End the workers, whatever they do."""
        self._pool.stop()
        self._pool.join()

    def _begin(
        self, function: Callable[..., Any], args: Sequence[Any], timeout: float
    ) -> tuple[ProcessPool, ProcessFuture[Any]]:
        while True:
            try:
                return self._pool, self._pool.schedule(function, args=args, timeout=timeout)
            except RuntimeError:  # that pool is broken
                self._reopen()

    def _reopen(self) -> None:
        self._lives -= 1
        if self._lives < 0:
            raise WorkersLost(
                "worker processes die before they have done anything, several times in a row: what they"
                " printed says why, or the system's log (out of memory? fewer of them need less:"
                " raster.workers, engine.workers)"
            )
        self.close()
        self._pool = self._open()

    def _open(self) -> ProcessPool:
        context = _Context()
        context.set_forkserver_preload(["pipeline.workers", "pipeline.reading.draw"])
        # A signal to the process group is for the run to handle: its workers go on until it stops them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1})
        try:
            multiprocessing.forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return _Pool(context=context, **self._given)


_HIDING = threading.Lock()


@contextlib.contextmanager
def without_main_module() -> Iterator[None]:
    """Start processes that do not import the main module, as multiprocessing would have them do.

    Nothing of it is called there. A script without a guard would begin again in each of them.
    """
    main = sys.modules["__main__"]
    names = vars(main)
    # Both are what multiprocessing finds the module by; other threads hardly look at them.
    with _HIDING:
        file, spec = names.pop("__file__", None), main.__spec__
        main.__spec__ = None
        try:
            yield
        finally:
            main.__spec__ = spec
            if file is not None:
                names["__file__"] = file


class _Popen(popen_forkserver.Popen):
    def _launch(self, process_obj: BaseProcess) -> None:
        with without_main_module():
            super()._launch(process_obj)  # type: ignore[misc]  # not in typeshed


class _Process(context.ForkServerProcess):
    @staticmethod
    def _Popen(process_obj: BaseProcess) -> popen_forkserver.Popen:
        return _Popen(process_obj)


class _Context(context.ForkServerContext):
    Process = _Process


class _Pool(ProcessPool):  # type: ignore[misc]  # not annotated
    def _stop_pool(self) -> None:
        # pebble unlinks the semaphores before it ends the workers, one after the other: one that is just
        # starting then prints a traceback, because it misses them.
        if self._pool_manager_loop is not None:
            self._pool_manager_loop.join()  # it starts workers
        living = list(self._pool_manager.worker_manager.workers.values())
        for worker in living:
            worker.kill()
        for worker in living:
            worker.join()
        super()._stop_pool()


class Task:
    """A call that a worker makes or will make."""

    def __init__(self, pool: Pool, *call: Any) -> None:
        self._owner, self._call = pool, call
        self._pool, self._future = pool._begin(*call)

    def result(self) -> Any:
        """Return what the call returned, or raise what it raised.

        Raises TimeoutError when it took longer than its time, ProcessExpired when its worker died, and
        WorkersLost when no worker lives long enough to make any call.
        """
        while True:
            # A pool that breaks forgets the tasks that it had not looked at yet.
            while not self._future.done() and self._pool.active:
                wait([self._future], _LOOK_S)
            if self._future.done() and not isinstance(self._future.exception(), BrokenProcessPool):
                self._owner._lives = _LIVES
                return self._future.result()
            self._pool, self._future = self._owner._begin(*self._call)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))
