"""Answer with a vision-language model through vLLM, in processes of their own, rebuilt when they die."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from multiprocessing.connection import wait
from typing import Self

from pipeline.config import VllmSettings
from pipeline.engines import prefix_gate
from pipeline.engines.base import EngineContext
from pipeline.engines.prefix_gate import PagesKey
from pipeline.engines.vllm.backlog import Work
from pipeline.engines.vllm.launch import launches
from pipeline.engines.vllm.replica import Replica, Settled
from pipeline.engines.vllm.translate import killed_engine, too_long
from pipeline.errors import EngineLost
from pipeline.records import Request

log = logging.getLogger("pipeline")

_STOP_S = 20.0
_MOST_REMEMBERED_PAGES = 4096
_ROOM = 0.9
"""Share of the cache that a window fills: the rest is for what is being written meanwhile."""


class VllmEngine:
    """One or more copies of the model on this host, each with its own GPUs and its own process."""

    windows_ahead = 1

    def __init__(self, settings: VllmSettings, context: EngineContext) -> None:
        """Check what the GPUs can hold. Raises SettingsError before anything is loaded."""
        self._settings = settings
        self._context_tokens = context.model.context_tokens
        self._replicas = [Replica(launch, settings) for launch in launches(settings, context)]
        self._replica_by_pages: OrderedDict[PagesKey, Replica] = OrderedDict()
        self._gate = prefix_gate.PrefixGate()
        self._window_numbers: dict[str, int] = {}
        self._refused: list[Settled] = []
        """What failed without being sent."""
        self._lost: EngineLost | None = None
        self.window_tokens = 0

    def __enter__(self) -> Self:
        begin = time.monotonic()
        log.info("loading the model; what vLLM says is in %s", self._replicas[0].launch.log)
        with contextlib.ExitStack() as stack:
            stack.callback(self.__exit__)
            # All are started before the first is waited for, so that they load at the same time.
            for replica in self._replicas:
                replica.start()
            for replica in self._replicas:
                if reason := replica.load():
                    raise EngineLost(f"the engine could not be loaded: {reason}")
            stack.pop_all()
        cache_tokens = sum(replica.cache_tokens for replica in self._replicas)
        log.info("ready in %.0f s; room for %d tokens", time.monotonic() - begin, cache_tokens)
        self.window_tokens = int(_ROOM * cache_tokens)
        return self

    def __exit__(self, *error: object) -> None:
        # All are asked before the first is waited for: each takes seconds to free its GPUs.
        for replica in self._replicas:
            replica.request_stop()
        for replica in self._replicas:
            replica.stop(_STOP_S)

    def put(self, requests: Sequence[Request], window_number: int) -> None:
        """Send requests to the copies of the model: those about the same pages to the same one."""
        for request in requests:
            if request.prompt_tokens >= self._context_tokens:
                self._refused.append((request, too_long(request, self._context_tokens)))
                continue
            self._window_numbers[request.request_id] = window_number
            if not self._gate.defer(request):
                self._place(request)
        self._send_work()

    def take(self) -> list[Settled]:
        """Wait for replies; when an engine has died, build it anew and go on.

        Raises EngineLost when one has died too often, after every reply that came before was returned.
        """
        if self._lost:
            raise self._lost
        settled, self._refused = self._refused, []
        while not settled:
            for replica in self._wait():
                replies, prefilled = replica.receive()
                settled += replies
                self._release(prefilled)
            for replica in self._replicas:
                if replica.cause_of_death:
                    try:
                        settled += self._restart(replica, replica.cause_of_death)
                    except EngineLost as lost:
                        return self._give_up(lost, settled)
            self._release([request.request_id for request, _ in settled])
            settled, self._refused = [*settled, *self._refused], []
        return settled

    def _wait(self) -> list[Replica]:
        """Wait until processes have something to say, and return those; a stalled one counts as dead."""
        busy = [replica for replica in self._replicas if replica.backlog.is_under_way]
        timeout_s = min(replica.seconds_to_stall for replica in busy)
        # The pipe of a process that died is ready too: receiving from it tells.
        ready = wait([replica.connection for replica in busy], timeout=max(0.0, timeout_s))
        for replica in busy:
            if replica.connection not in ready and replica.seconds_to_stall <= 0:
                replica.cause_of_death = f"silent for {self._settings.stall_timeout_s:g} s"
        return [replica for replica in busy if replica.connection in ready]

    def _give_up(self, lost: EngineLost, settled: list[Settled]) -> list[Settled]:
        """Return the replies that are here already, of all engines, before the error is raised."""
        settled += [reply for replica in self._replicas if replica.is_open for reply in replica.receive()[0]]
        if not settled:
            raise lost
        self._lost = lost
        return settled

    def _send_work(self) -> None:
        for replica in self._replicas:
            replica.send_work()

    def _release(self, request_ids: Sequence[str]) -> None:
        """Send those that waited for these requests to be read."""
        for request_id in request_ids:
            for request in self._gate.release(request_id):
                self._place(request)
        self._send_work()

    def _place(self, request: Request) -> None:
        """Give a request to the copy that has its pages in the cache, or else to the one with least to do."""
        pages = prefix_gate.pages_key(request)
        known = self._replica_by_pages.get(pages)
        replica = known or min(self._replicas, key=lambda each: each.backlog.load_tokens)
        # Of one window, those that find their pages in the cache, or need none, go first.
        rank = 2 * self._window_numbers.pop(request.request_id) + (bool(pages) and not known)
        # Tried again with every question, pages that kill the engine would cost a reload each.
        if replica.backlog.is_blamed(request):
            self._refused.append((request, killed_engine(request, "as did others about the same pages")))
            self._release([request.request_id])
            return
        replica.backlog.add(Work(request, rank, 0 if known else request.prompt_tokens))
        if pages:
            self._replica_by_pages[pages] = replica
            self._replica_by_pages.move_to_end(pages)
        # Those not used for longest have left the cache long since.
        if len(self._replica_by_pages) > _MOST_REMEMBERED_PAGES:
            self._replica_by_pages.popitem(last=False)

    def _restart(self, replica: Replica, reason: str) -> list[Settled]:
        """Start a dead engine again; return the requests that it died of, as failed.

        Raises EngineLost when it dies again and again without a reply in between, or cannot be loaded.
        """
        replica.deaths_without_reply += 1
        deaths, log_file = replica.deaths_without_reply, replica.launch.log
        log.error("the engine died (%s), %d times without a reply; see %s", reason, deaths, log_file)
        replica.stop(0)
        if deaths > self._settings.max_restarts:
            raise EngineLost(
                f"the engine died {deaths} times without a reply in between, over engine.max_restarts; the"
                f" last time: {reason}; see {log_file}"
            )
        failed = replica.blame(reason)
        replica.start()
        if failure := replica.load():
            raise EngineLost(f"the engine died ({reason}) and could not be loaded again: {failure}")
        return failed
