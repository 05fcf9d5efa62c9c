"""The servers of a run: which there are, which are up, and which one a document's requests go to.

A document stays with the server that it was first sent to, whose cache has its pages; while that one is down
its requests go to another, and return with it.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path

from pipeline.config import ServerSettings
from pipeline.engines.base import EngineContext
from pipeline.engines.server import registry, talk
from pipeline.engines.server.admission import Wrong, admit
from pipeline.engines.server.prompt import Sampling
from pipeline.engines.server.remote import Job, Remote
from pipeline.engines.server.talk import KeyRefused, Unavailable, Unnamed
from pipeline.errors import EngineLost, SettingsError
from pipeline.records import Request

log = logging.getLogger("pipeline")

_POLL_S = 2.0
_CHECK_EVERY = 8
"""Polls of a server's queue after which it is also asked how it is."""
_ABANDON_AFTER_S = 60.0
"""A server's requests are sent elsewhere when it was away so long without closing their connections."""
_MOST_HOMES = 65_536
_NOT_USABLE = (Wrong, KeyRefused, Unnamed)
"""What waiting for a server does not help."""


class Fleet:
    """Finds servers, admits those that are what the settings say, and looks after them, in one event loop."""

    def __init__(
        self,
        settings: ServerSettings,
        context: EngineContext,
        sampling: Sampling,
        withdrawn: Callable[[Sequence[Job]], None],
        changed: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """`withdrawn` is given what waited at a server that went away; `changed`: there may be more room."""
        assert context.served is not None
        self._settings, self._context, self.served = settings, context, context.served
        self.sampling = sampling
        self.remotes: dict[str, Remote] = {}
        self._withdrawn, self._changed, self._failed = withdrawn, changed, failed
        self._homes: OrderedDict[str, Remote] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._client = registry.Client(Path(settings.registry)) if settings.registry is not None else None

    async def open(self) -> int | None:
        """Wait for a server; return the tokens that the caches have room for, where servers say so.

        Raises SettingsError when one is not what the settings say, and EngineLost when none comes in time.
        """
        within_s, reasons = self._settings.load_timeout_s, ""
        end = time.monotonic() + within_s
        while not await self._admit_all():
            if time.monotonic() >= end:
                raise EngineLost(
                    f"no server could be used in {within_s:g} s (engine.load_timeout_s): {self.reasons()}"
                )
            if (now := self.reasons()) != reasons:
                log.info("waiting for a server: %s", reasons := now)
            await asyncio.sleep(min(_POLL_S, within_s))
        for remote in self.remotes.values():
            self._start(self._watching(remote))
        self._start(self._looking_around())
        rooms = [remote.cache_tokens for remote in self._up()]
        # A sum over some would count the caches of the others as nothing.
        return sum(room for room in rooms if room) if all(rooms) else None

    async def close(self) -> None:
        """Let servers know that this client is done, and leave them."""
        if self._client is not None:
            self._client.leave()
        checks = [remote.checking for remote in self.remotes.values() if remote.checking]
        for task in (*self._tasks, *checks):
            task.cancel()
        await asyncio.gather(*self._tasks, *checks, return_exceptions=True)
        for remote in self.remotes.values():
            await remote.client.close()

    def home(self, request: Request) -> Remote | None:
        """Return the server of a request's document, or another while that is down; None without any."""
        if not (up := self._up()):
            return None
        document = request.pages[0].document.document_id if request.pages else ""
        if not document:
            return _idlest(up)
        home = self._homes.get(document)
        if home is None:
            home = self._homes[document] = _idlest(up)
            # After so many other documents the pages of this one have long left the server's cache.
            if len(self._homes) > _MOST_HOMES:
                self._homes.popitem(last=False)
        self._homes.move_to_end(document)
        if home.is_up:
            return home
        # The same substitute for all its requests, so that they find each other's pages in the cache.
        return max(up, key=lambda remote: zlib.crc32(f"{document} {remote.url}".encode()))

    async def is_well(self, remote: Remote) -> bool:
        """Look whether a server is still there, once for all who ask at a time; take it down if not."""
        if not remote.is_up:
            return False
        if remote.checking is None:
            remote.checking = asyncio.create_task(self._check(remote))
        try:
            # Shielded: one of those who wait may be cancelled, and the others still need the answer.
            return await asyncio.shield(remote.checking)
        finally:
            if remote.checking is not None and remote.checking.done():
                remote.checking = None

    def reasons(self) -> str:
        """Say why servers are not used."""
        down = [f"{remote.url}: {remote.reason}" for remote in self.remotes.values() if not remote.is_up]
        return "; ".join(down) or (
            "all are up and busy" if self.remotes else f"none is announced in {self._settings.registry}"
        )

    # ---- coming and going ----

    def _up(self) -> list[Remote]:
        return [remote for remote in self.remotes.values() if remote.is_up]

    async def _admit_all(self) -> bool:
        """Admit all servers before the run begins; tell whether there is one."""
        self._beat()
        self._find()
        admitted = [self._admit(remote) for remote in self.remotes.values()]
        for error in await asyncio.gather(*admitted, return_exceptions=True):
            if isinstance(error, _NOT_USABLE):
                raise SettingsError(str(error)) from error
            if isinstance(error, BaseException) and not isinstance(error, Unavailable):
                raise error
        return bool(self._up())

    async def _admit(self, remote: Remote) -> None:
        """Let a server take part. Raises Unavailable when it cannot; the server has the reason."""
        try:
            usable = await admit(remote, self._settings, self._context, self.served, self.sampling)
        except Unavailable as error:
            remote.reason = str(error)
            raise type(error)(f"{remote.url}: {error}") from error
        if usable.schema is None:  # several are admitted at a time: one that takes it must not bring it back
            self.sampling = usable
        remote.is_up = True
        log.info("%s: in use", remote.url)

    async def _check(self, remote: Remote) -> bool:
        reason = ""
        for _ in range(2):  # a proxy in front of it may fail for once
            try:
                offered = await talk.offer(remote.client, self._settings)
            except Unavailable as error:
                reason = str(error)
                await asyncio.sleep(0.2)
            else:
                if offered.served == self.served:
                    return True
                reason = f"it serves {offered.served.model} by vLLM {offered.served.version} now"
                break
        self._take_down(remote, reason)
        return False

    def _take_down(self, remote: Remote, reason: str) -> None:
        log.warning("%s: away (%s); its documents go to others", remote.url, reason)
        remote.is_up, remote.reason, remote.down_since_s = False, reason, time.monotonic()
        self._withdrawn(remote.withdraw())

    async def _watching(self, remote: Remote) -> None:
        """Follow one server's queue while it is up, and look for it while it is not."""
        polls = 0
        while True:
            await asyncio.sleep(_POLL_S)
            polls += 1
            if not remote.is_up:
                await self._look_for(remote)
            elif polls % _CHECK_EVERY == 0:
                await self.is_well(remote)
            elif (waiting := (await talk.metrics(remote.client)).waiting) is not None:
                remote.limit.queued(waiting, time.monotonic())
            self._changed()

    async def _look_for(self, remote: Remote) -> None:
        """Admit a server that is back."""
        if remote.under_way and time.monotonic() - remote.down_since_s > _ABANDON_AFTER_S:
            for task in list(remote.under_way):
                task.cancel()
        said = remote.reason
        try:
            await self._admit(remote)
        except Unavailable as error:
            # What waiting does not help is told once; the run goes on with the others.
            is_news = isinstance(error, _NOT_USABLE) and remote.reason != said
            log.log(logging.WARNING if is_news else logging.DEBUG, "not used: %s", error)

    async def _looking_around(self) -> None:
        """Find servers that come later, and show that this client is alive."""
        while True:
            await asyncio.sleep(_POLL_S)
            self._beat()
            for remote in self._find():
                self._start(self._watching(remote))

    def _find(self) -> list[Remote]:
        """Return the servers that have not been known yet."""
        new = [url for url in registry.urls(self._settings) if url not in self.remotes]
        found = [Remote(url, self._settings) for url in new]
        self.remotes |= {remote.url: remote for remote in found}
        return found

    def _beat(self) -> None:
        if self._client is not None:
            self._client.beat()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._note_unforeseen)

    def _note_unforeseen(self, task: asyncio.Task[None]) -> None:
        """Let the run hear of what ended a task: it would wait for ever otherwise."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)


def _idlest(remotes: Iterable[Remote]) -> Remote:
    return min(remotes, key=lambda remote: remote.load_tokens)
