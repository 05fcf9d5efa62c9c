"""Answer with vLLM servers: one thread outside, as every engine, and an event loop of its own inside."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Coroutine, Sequence
from typing import Self, TypeVar

from pipeline.config import ServerSettings
from pipeline.engines.base import EngineContext
from pipeline.engines.server import prompt
from pipeline.engines.server.dispatch import Dispatcher, Settled
from pipeline.engines.vllm import guide
from pipeline.engines.vllm.translate import too_long
from pipeline.records import Json, Request

log = logging.getLogger("pipeline")

_ROOM = 0.9
"""Share of the servers' caches that a window fills: the rest is for what is being written meanwhile."""
_STOP_S = 20.0

_T = TypeVar("_T")


class ServerEngine:
    """Sends requests to servers that others run."""

    windows_ahead = 1

    def __init__(self, settings: ServerSettings, context: EngineContext) -> None:
        schema: Json = guide.guide(context.envelope, context.max_output_tokens) if context.envelope else None
        sampling = prompt.sampling(settings, context.system_prompt, context.max_output_tokens, schema)
        self._context_tokens = context.model.context_tokens
        self._settled: queue.SimpleQueue[Settled | BaseException] = queue.SimpleQueue()
        self._lost: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        # A daemon: a run that is ended in the middle of anything must not wait for it.
        self._thread = threading.Thread(target=self._loop.run_forever, name="servers", daemon=True)
        self._dispatcher = Dispatcher(settings, context, sampling, self._settled.put)
        self.window_tokens = 0

    def __enter__(self) -> Self:
        begin = time.monotonic()
        self._thread.start()
        try:
            room = self._run(self._dispatcher.open())
        except BaseException:
            self.__exit__()
            raise
        told = f"room for {room:,} tokens" if room else "their room is not known"
        log.info("servers are ready after %.0f s; %s", time.monotonic() - begin, told)
        self.window_tokens = int(_ROOM * (room or 0))
        return self

    def __exit__(self, *error: object) -> None:
        if self._loop.is_closed():
            return
        if self._thread.is_alive():
            with contextlib.suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result(_STOP_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_STOP_S)
        self._loop.close()

    async def _leave(self) -> None:
        await self._dispatcher.close()
        await self._loop.shutdown_asyncgens()

    def put(self, requests: Sequence[Request], window_number: int) -> None:
        """Send requests, as many at a time as the servers take."""
        # Equal is too much already: vLLM refuses a prompt that leaves no token to write.
        fitting = [request for request in requests if request.prompt_tokens < self._context_tokens]
        for request in requests:
            if request.prompt_tokens >= self._context_tokens:
                self._settled.put((request, too_long(request, self._context_tokens)))
        # Called in the loop's own thread: nothing in there has a lock.
        self._loop.call_soon_threadsafe(self._dispatcher.put, fitting, window_number)

    def take(self) -> list[Settled]:
        """Wait for replies. Raises EngineLost when no server has replied for too long."""
        if self._lost is not None:
            raise self._lost
        came = [self._settled.get()]
        while not self._settled.empty():
            came.append(self._settled.get())
        # Replies that came before the loss are returned first: dropped, they would be asked for again.
        replies = [each for each in came if not isinstance(each, BaseException)]
        self._lost = next((each for each in came if isinstance(each, BaseException)), None)
        if not replies and self._lost is not None:
            raise self._lost
        return replies

    def _run(self, work: Coroutine[None, None, _T]) -> _T:
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return running.result()
        except BaseException:
            running.cancel()  # a signal that ends the run
            raise
