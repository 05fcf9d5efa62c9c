"""Pools of worker processes that may crash, hang or be killed without hurting the run."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import multiprocessing.forkserver
import os
import pickle
import resource
import signal
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import context, popen_forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Generic, ParamSpec, TypeVar

import pebble.pool.base_pool
import pebble.pool.process
from pebble import CONSTS, ProcessFuture, ProcessPool
from pebble import ProcessExpired as ProcessExpired

from pipeline.errors import WorkersLost

P = ParamSpec("P")
T = TypeVar("T")

# Native code does not see SIGTERM while it runs, so that only SIGKILL ends a hung page: do not wait for long.
CONSTS.term_timeout = 0.2
# A worker killed just while it takes a task or hands in a result leaves a lock behind, for which the others
# wait this long; then they give up and are replaced.
CONSTS.channel_lock_timeout = 20
# pebble measures the time of a task by the wall clock, which people and time servers set: a jump forward
# would end every page that is being drawn, one back would let a hung page go on.
for _module in (pebble.pool.process, pebble.pool.base_pool):
    _module.time = types.SimpleNamespace(time=time.monotonic, sleep=time.sleep)

_LIVES = 6
"""Pools in a row that may break before a task of theirs is done."""
_LOST = (
    "worker processes die before they have done anything, several times in a row: what they printed says why,"
    " or the system's log (out of memory? fewer of them need less: raster.workers, engine.workers)"
)
_START_S = 60.0
_LOOK_S = 1.0
"""Seconds between looks at whether the pool that holds a task still lives."""
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP}
_PR_SET_PDEATHSIG = 1
_FILE_MB = 256


class Pool:
    """`workers` processes (0: one per core), each replaced when it dies and after `max_tasks` tasks.

    The processes come from a small server process rather than from a copy of this one, which has threads.
    A pebble pool takes the death of a worker that had nothing to do for a sign that no worker can start, and
    gives up with every task it holds: then this one opens another, and hands it each task whose result is
    asked for. Not for use from several threads.

    `memory_mb` limits the address space that a worker takes beyond what it has after `initializer`; no file
    that it writes grows over 256 MB, and no task takes more processor time than all cores give in its time.
    """

    def __init__(
        self,
        workers: int,
        max_tasks: int,
        initializer: Callable[[], None] | None = None,
        memory_mb: int | None = None,
    ) -> None:
        self._workers, self._max_tasks = workers or cores(), max_tasks
        self._initargs = [initializer, memory_mb]
        self._lives = _LIVES
        self._pool = self._open()

    def schedule(self, function: Callable[P, T], args: Sequence[object], timeout: float) -> Task[T]:
        """Start `function(*args)` in a worker, which has `timeout` seconds for it once it begins."""
        return Task(self, function, args, timeout)

    def check(self) -> None:
        """Raise WorkersLost unless a new pool can do the simplest of tasks."""
        self._reopen()
        try:
            self._pool.schedule(_within, args=[_START_S, int], timeout=_START_S).result()
        except (BrokenProcessPool, RuntimeError, ProcessExpired, TimeoutError) as error:
            raise WorkersLost(_LOST) from error
        self._lives = _LIVES

    def close(self) -> None:
        """End the workers, whatever they do."""
        self._pool.stop()
        self._pool.join()

    def _begin(
        self, function: Callable[..., object], args: Sequence[object], timeout: float
    ) -> tuple[ProcessPool, ProcessFuture[bytes]]:
        bounded = [timeout, function, *args]
        while True:
            try:
                return self._pool, self._pool.schedule(_within, args=bounded, timeout=timeout)
            except RuntimeError:  # that pool is broken
                self._reopen()

    def _reopen(self) -> None:
        self._lives -= 1
        if self._lives < 0:
            raise WorkersLost(_LOST)
        self.close()
        self._pool = self._open()

    def _open(self) -> ProcessPool:
        try:
            forked = _Context()
            # Loaded once, in the server that workers are forked from: each would have to load it anew.
            forked.set_forkserver_preload(["pipeline.workers", "pipeline.reading.draw"])
            # A signal to the process group is for the run to handle: its workers go on until it stops them.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            try:
                multiprocessing.forkserver.ensure_running()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return _Pool(
                max_workers=self._workers,
                max_tasks=self._max_tasks,
                initializer=_prepare,
                initargs=self._initargs,
                context=forked,
            )
        except OSError as error:
            raise WorkersLost(
                f"worker processes cannot be started ({error.strerror or error}); look at the limits of this"
                " shell (ulimit -a), at the memory, and at the room in /dev/shm"
            ) from error


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


class Task(Generic[T]):
    """A call that a worker makes or will make."""

    def __init__(
        self, pool: Pool, function: Callable[..., T], args: Sequence[object], timeout: float
    ) -> None:
        self._owner = pool
        self._call = function, args, timeout
        self._future: Future[bytes]
        self._pool, self._future = pool._begin(*self._call)

    def result(self) -> T:
        """Return what the call returned, or raise what it raised, once.

        Raises TimeoutError when it took longer than its time, ProcessExpired when its worker died, or the
        whole pool each time, and WorkersLost when no worker lives long enough to make any call.
        """
        for _ in range(_LIVES - 1):
            # A pool that breaks forgets the tasks that it had not looked at yet.
            while not self._future.done() and self._pool.active:
                wait([self._future], _LOOK_S)
            if self._future.done() and not isinstance(self._future.exception(), BrokenProcessPool):
                self._owner._lives = _LIVES
                return self._returned()
            self._pool, self._future = self._owner._begin(*self._call)
        self._owner.check()
        raise ProcessExpired("takes the whole pool of workers with it", 1)

    def _returned(self) -> T:
        try:
            returned: T = pickle.loads(self._future.result())
            return returned
        except BaseException:
            # The trace of an error refers to frames that refer to this task. Did it keep the error, then all
            # of a run would be in a circle, and stay in memory after it.
            self._future = Future()
            self._future.cancel()
            raise


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


# ---- in the workers ----


def lower_limit(which: int, value: int) -> None:
    """Set a limit of this process for good, unless a lower one is there already."""
    _, hard = resource.getrlimit(which)
    if hard == resource.RLIM_INFINITY or value < hard:  # root could raise it, against who set it
        resource.setrlimit(which, (value, value))


def _prepare(initializer: Callable[[], None] | None, memory_mb: int | None) -> None:
    _die_with_the_run()
    warnings.simplefilter("ignore")  # of libraries about documents, which have rows to say what is wrong
    if initializer is not None:
        initializer()
    if memory_mb is not None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        lower_limit(resource.RLIMIT_AS, used + (memory_mb << 20))
    lower_limit(resource.RLIMIT_FSIZE, _FILE_MB << 20)
    lower_limit(resource.RLIMIT_CORE, 0)  # a core holds pages of documents, and fills the disk


def _die_with_the_run() -> None:
    """Let the system end this worker, hung or not, when the run is killed and cannot do so itself.

    The server that started it ends with the run, unless a worker keeps the pipe open by which it can tell.
    """
    held = vars(multiprocessing.forkserver._forkserver)  # has no public name
    if (pipe := held.get("_forkserver_alive_fd")) is not None:
        os.close(pipe)
        held["_forkserver_alive_fd"] = None
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _within(timeout: float, function: Callable[..., object], *args: object) -> bytes:
    """Make a call with a limit on its processor time, which holds where nobody is left to end it.

    What it returns or raises crosses the processes as it is only when it can: what the run cannot take out of
    its pipe would end the pool, and many libraries raise errors that cannot be made of their arguments again.
    """
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    allowed = int(used + timeout * cores()) + 10
    with contextlib.suppress(ValueError, OSError):  # over a lower limit that is there already: that one holds
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, hard))
    try:
        return pickle.dumps(function(*args))
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            raise RuntimeError(f"{type(error).__name__}: {error}") from None
        raise
