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
from pipeline.engines.vllm.launch import launches
from pipeline.engines.vllm.replica import Replica, Settled, Work, describe
from pipeline.errors import EngineLost
from pipeline.records import Completion, Failure, Request

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
        self._replica_by_pages: OrderedDict[tuple[str, ...], Replica] = OrderedDict()
        self._gate = prefix_gate.PrefixGate()
        self._window_numbers: dict[str, int] = {}
        self._refused: list[Settled] = []
        self._restarts = 0
        self._lost: EngineLost | None = None
        self.window_tokens = 0

    def __enter__(self) -> Self:
        begin = time.monotonic()
        log.info("loading the model; what vLLM says is in %s", self._replicas[0].launch.log)
        with contextlib.ExitStack() as stack:
            stack.callback(self.__exit__)
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
        for replica in self._replicas:
            replica.tell_to_stop()
        for replica in self._replicas:
            replica.stop(_STOP_S)

    def put(self, requests: Sequence[Request], window_number: int) -> None:
        """Send requests to the copies of the model: those about the same pages to the same one."""
        for request in requests:
            if request.prompt_tokens >= self._context_tokens:
                self._refused.append((request, _too_long(request, self._context_tokens)))
                continue
            self._window_numbers[request.request_id] = window_number
            if not self._gate.defer(request):
                self._place(request)
        self._feed()

    def take(self) -> list[Settled]:
        """Wait for replies; when an engine has died, build it anew and go on.

        Raises EngineLost when one has died too often, after every reply that came before was returned.
        """
        if self._lost:
            raise self._lost
        settled, self._refused = self._refused, []
        while not settled:
            busy = [replica for replica in self._replicas if replica.is_busy]
            patience = min(replica.patience_s for replica in busy)
            ready = wait([replica.connection for replica in busy], timeout=max(0.0, patience))
            for replica in busy:
                if replica.connection in ready:
                    replies, read = replica.receive()
                    settled += replies
                    self._release(read)
                elif replica.patience_s <= 0:
                    replica.death = f"silent for {self._settings.stall_timeout_s:g} s"
                if replica.death:
                    try:
                        settled += self._revive(replica, replica.death)
                    except EngineLost as lost:
                        return self._give_up(lost, settled)
            self._release([request.request_id for request, _ in settled])
        return settled

    def _give_up(self, lost: EngineLost, settled: list[Settled]) -> list[Settled]:
        """Return the replies that are here already, of all engines, before the error is raised."""
        settled += [reply for replica in self._replicas if replica.is_open for reply in replica.receive()[0]]
        if not settled:
            raise lost
        self._lost = lost
        return settled

    def _feed(self) -> None:
        for replica in self._replicas:
            replica.feed()

    def _release(self, request_ids: Sequence[str]) -> None:
        """Send those that waited for these requests to be read."""
        for request_id in request_ids:
            for request in self._gate.release(request_id):
                self._place(request)
        self._feed()

    def _place(self, request: Request) -> None:
        """Give a request to the copy that has its pages in the cache, or else to the one with least to do."""
        pages = prefix_gate.pages_key(request)
        known = self._replica_by_pages.get(pages)
        replica = known or min(self._replicas, key=lambda each: each.load_tokens)
        # Of one window, those that find their pages in the cache, or need none, go first.
        rank = 2 * self._window_numbers.pop(request.request_id) + (bool(pages) and not known)
        replica.put(Work(request, rank, 0 if known else request.prompt_tokens))
        if pages:
            self._replica_by_pages[pages] = replica
            self._replica_by_pages.move_to_end(pages)
        if len(self._replica_by_pages) > _MOST_REMEMBERED_PAGES:
            self._replica_by_pages.popitem(last=False)

    def _revive(self, replica: Replica, reason: str) -> list[Settled]:
        """Build a dead engine anew, with what it had under way on probation."""
        self._restarts += 1
        log.error("the engine died (%s), restart %d; see %s", reason, self._restarts, replica.launch.log)
        replica.stop(0)
        if self._restarts > self._settings.max_restarts:
            raise EngineLost(
                f"the engine died {self._restarts} times, over engine.max_restarts; the last time: {reason};"
                f" see {replica.launch.log}"
            )
        failed = replica.suspect(reason)
        replica.start()
        if failure := replica.load():
            raise EngineLost(f"the engine died ({reason}) and could not be loaded again: {failure}")
        return failed


def _too_long(request: Request, context_tokens: int) -> Completion:
    message = (
        f"{describe(request)}: {request.prompt_tokens:,} tokens exceed the context of {context_tokens:,};"
        " shorten the question or lower task.max_output_tokens"
    )
    return Completion("", "error", failure=Failure("too_long", message))
