"""Share requests among servers: who is sent what, and what becomes of it when something goes wrong.

All of it runs in one event loop. A document stays with the server that it was first sent to, whose cache has
its pages; while that one is down its requests go to another, and return with it.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path

from pipeline.config import ServerSettings
from pipeline.engines.base import EngineContext
from pipeline.engines.prefix_gate import PrefixGate
from pipeline.engines.server import faults, registry, talk
from pipeline.engines.server.admission import Wrong, admit
from pipeline.engines.server.prompt import Sampling
from pipeline.engines.server.remote import Job, Remote
from pipeline.engines.server.send import send
from pipeline.engines.server.talk import KeyRefused, Unavailable, Unnamed
from pipeline.engines.vllm.messages import Reply
from pipeline.engines.vllm.translate import completion
from pipeline.errors import EngineLost, SettingsError
from pipeline.records import Completion, Failure, Request

log = logging.getLogger("pipeline")

Settled = tuple[Request, Completion]

_POLL_S = 2.0
_CHECK_EVERY = 8
"""Polls of a server's queue after which it is also asked how it is."""
_ABANDON_AFTER_S = 60.0
"""A server's requests are sent elsewhere when it was away so long without closing their connections."""
_MOST_HOMES = 65_536


class Dispatcher:
    """Holds the requests of a run until each is settled. Its methods are called in its event loop."""

    def __init__(
        self,
        settings: ServerSettings,
        context: EngineContext,
        sampling: Sampling,
        deliver: Callable[[Settled | BaseException], None],
    ) -> None:
        assert context.served is not None
        self._settings, self._context, self._served = settings, context, context.served
        self._sampling = sampling
        self._deliver = deliver
        self._remotes: dict[str, Remote] = {}
        self._homes: OrderedDict[str, Remote] = OrderedDict()
        self._gate = PrefixGate()
        self._jobs: dict[str, Job] = {}
        """All that is not settled."""
        self._stranded: list[Job] = []
        """Those that no server is up for."""
        self._numbers = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_progress_s = time.monotonic()
        self._client = registry.Client(Path(settings.registry)) if settings.registry is not None else None

    # ---- the run's side ----

    async def open(self) -> int | None:
        """Wait for a server; return the tokens that the caches have room for, where servers say so.

        Raises SettingsError when one is not what the settings say, and EngineLost when none comes in time.
        """
        end = time.monotonic() + self._settings.load_timeout_s
        reasons = ""
        while True:
            self._beat()
            self._find_servers()
            admitted = [self._admit(remote) for remote in self._remotes.values()]
            for error in await asyncio.gather(*admitted, return_exceptions=True):
                if error is not None:
                    raise error
            if any(remote.is_up for remote in self._remotes.values()):
                break
            if time.monotonic() >= end:
                raise EngineLost(
                    f"no server could be used in {self._settings.load_timeout_s:g} s (engine.load_timeout_s):"
                    f" {self._reasons()}"
                )
            if (now := self._reasons()) != reasons:
                log.info("waiting for a server: %s", reasons := now)
            await asyncio.sleep(min(_POLL_S, self._settings.load_timeout_s))
        for remote in self._remotes.values():
            self._watch(remote)
        self._start(self._keep_house())
        rooms = [remote.cache_tokens for remote in self._remotes.values() if remote.is_up]
        return sum(room for room in rooms if room) if all(rooms) else None

    def put(self, requests: Sequence[Request], window_number: int) -> None:
        """Take on requests."""
        if not self._jobs:
            self._last_progress_s = time.monotonic()
        for request in requests:
            self._numbers += 1
            job = self._jobs[request.request_id] = Job(request, window_number, self._numbers)
            if not self._gate.defer(request):
                self._place(job)
        self._pump()

    async def close(self) -> None:
        """Drop what is under way and let the servers know that this client is done."""
        if self._client is not None:
            self._client.leave()
        tasks = [*self._tasks, *(task for remote in self._remotes.values() for task in remote.under_way)]
        tasks_of_checks = [remote.checking for remote in self._remotes.values() if remote.checking]
        self._jobs.clear()
        for task in (*tasks, *tasks_of_checks):
            task.cancel()
        await asyncio.gather(*tasks, *tasks_of_checks, return_exceptions=True)
        for remote in self._remotes.values():
            await remote.client.close()

    # ---- which server ----

    def _place(self, job: Job) -> None:
        """Let a job wait at its document's server, or at another while that one is down."""
        up = [remote for remote in self._remotes.values() if remote.is_up]
        if not up:
            self._stranded.append(job)
            return
        self._home(job.request, up).add(job)

    def _home(self, request: Request, up: Sequence[Remote]) -> Remote:
        document = request.pages[0].document.document_id if request.pages else ""
        if not document:
            return min(up, key=lambda remote: remote.load_tokens)
        home = self._homes.get(document)
        if home is None:
            home = self._homes[document] = min(up, key=lambda remote: remote.load_tokens)
            if len(self._homes) > _MOST_HOMES:
                self._homes.popitem(last=False)
        if home.is_up:
            return home
        # The same substitute for all its requests, so that they find each other's pages in the cache.
        return max(up, key=lambda remote: zlib.crc32(f"{document} {remote.url}".encode()))

    def _pump(self) -> None:
        """Begin all that may begin now."""
        for remote in self._remotes.values():
            while (job := remote.next_job()) is not None:
                task = asyncio.create_task(self._answer(remote, job))
                remote.under_way[task] = job
                task.add_done_callback(partial(self._ended, remote))

    def _ended(self, remote: Remote, task: asyncio.Task[None]) -> None:
        remote.end(task)
        self._note_unforeseen(task)
        self._pump()

    # ---- one request ----

    async def _answer(self, remote: Remote, job: Job) -> None:
        request = job.request
        try:
            begun = partial(self._release, request.request_id)
            reply = await send(
                remote.client, self._served.model, request, self._sampling, self._settings, begun
            )
        except asyncio.CancelledError:
            if request.request_id in self._jobs:  # else the run is over
                self._after_death(remote, job, "it was silent")
            return
        except Exception as error:
            if (fault := faults.of(error, self._settings)) is None:
                raise
            await self._after(fault, remote, job)
            return
        remote.limit.answered(len(remote.under_way))
        self._settle(request, completion(request, reply))

    async def _after(self, fault: faults.Fault, remote: Remote, job: Job) -> None:
        """Decide what becomes of a request that got no reply."""
        if isinstance(fault, faults.Refused):
            self._settle(
                job.request, completion(job.request, Reply(job.request.request_id, refusal=str(fault)))
            )
            return
        wait_s = 0.0
        if isinstance(fault, faults.Busy):
            remote.limit.refused(time.monotonic())
            job.refusals += 1
            wait_s = fault.after_s or 0.0
            log.debug("%s: no room (%s)", remote.url, fault)
        elif await self._is_well(remote):
            job.attempts += 1
            log.info("%s: %s; sent again", remote.url, fault)
        else:
            self._after_death(remote, job, str(fault))
            return
        if job.attempts >= self._settings.attempts:
            self._fail(job, f"no usable reply in {job.attempts} attempts; the last: {fault}; run again")
            return
        self._place_later(job, max(wait_s, job.wait_s()))

    def _after_death(self, remote: Remote, job: Job, reason: str) -> None:
        """Send a request elsewhere whose server went away; give it up when it may be what they die of."""
        job.note_death()
        if job.is_deadly:
            self._fail(job, f"servers went away each time they had it alone ({reason}); look at its pages")
        else:
            self._place_later(job, job.wait_s())

    def _place_later(self, job: Job, wait_s: float) -> None:
        def place() -> None:
            if job.request.request_id in self._jobs:
                self._place(job)
                self._pump()

        asyncio.get_running_loop().call_later(wait_s, place)

    def _fail(self, job: Job, reason: str) -> None:
        subject, question = job.request.cell.subject, job.request.cell.question
        message = f"{subject.source}, {question.question_id}: {reason}"
        self._settle(job.request, Completion("", "error", failure=Failure("engine_failed", message)))

    def _settle(self, request: Request, said: Completion) -> None:
        # Whatever has become of it, it is settled once.
        if self._jobs.pop(request.request_id, None) is None:
            return
        self._last_progress_s = time.monotonic()
        self._deliver((request, said))
        self._release(request.request_id)

    def _release(self, request_id: str) -> None:
        """Let those begin that waited for this request's pages to be read."""
        for request in self._gate.release(request_id):
            if (job := self._jobs.get(request.request_id)) is not None:
                job.is_first = False
                self._place(job)
        self._pump()

    # ---- the servers' health ----

    async def _admit(self, remote: Remote) -> None:
        """Let a server take part if it is well. Raises SettingsError before the run has begun with any."""
        try:
            self._sampling = await admit(remote, self._settings, self._context, self._served, self._sampling)
        except (Wrong, KeyRefused, Unnamed) as error:
            if not self._tasks:
                raise SettingsError(f"{remote.url}: {error}") from error
            self._take_down(remote, str(error))
        except Unavailable as error:
            self._take_down(remote, str(error))
        else:
            remote.is_up = True
            log.info("%s: in use", remote.url)

    async def _is_well(self, remote: Remote) -> bool:
        """Look whether a server is still there, once for all who ask at a time; take it down if not."""
        if not remote.is_up:
            return False
        if remote.checking is None:
            remote.checking = asyncio.create_task(self._check(remote))
        try:
            return await asyncio.shield(remote.checking)
        finally:
            if remote.checking is not None and remote.checking.done():
                remote.checking = None

    async def _check(self, remote: Remote) -> bool:
        reason = ""
        for _ in range(2):  # a proxy in front of it may fail for once
            try:
                offered = await talk.offer(remote.client, self._settings)
            except Unavailable as error:
                reason = str(error)
                await asyncio.sleep(0.2)
            else:
                if offered.served == self._served:
                    return True
                reason = f"it serves {offered.served.model} by vLLM {offered.served.version} now"
                break
        self._take_down(remote, reason)
        return False

    def _take_down(self, remote: Remote, reason: str) -> None:
        if remote.is_up:
            log.warning("%s: away (%s); its documents go to others", remote.url, reason)
            remote.down_since_s = time.monotonic()
        remote.is_up, remote.reason = False, reason
        self._place_all(remote.withdraw())

    def _place_all(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._place(job)
        self._pump()

    def _watch(self, remote: Remote) -> None:
        self._start(self._watching(remote))

    async def _watching(self, remote: Remote) -> None:
        """Follow one server's queue while it is up, and look for it while it is not."""
        polls = 0
        while True:
            await asyncio.sleep(_POLL_S)
            polls += 1
            if not remote.is_up:
                await self._look_for(remote)
            elif polls % _CHECK_EVERY == 0:
                await self._is_well(remote)
            elif (waiting := (await talk.metrics(remote.client)).waiting) is not None:
                remote.limit.queued(waiting, time.monotonic())
                self._pump()

    async def _look_for(self, remote: Remote) -> None:
        if remote.under_way and time.monotonic() - remote.down_since_s > _ABANDON_AFTER_S:
            for task in list(remote.under_way):
                task.cancel()
        await self._admit(remote)
        if remote.is_up:
            # What waits at a substitute stays there: its pages are in that one's cache by now.
            stranded, self._stranded = self._stranded, []
            self._place_all(stranded)

    async def _keep_house(self) -> None:
        """Look for new servers, show that this client is alive, and give up when nothing comes any more."""
        while True:
            await asyncio.sleep(min(registry.BEAT_S, _POLL_S))
            self._beat()
            for remote in self._find_servers():
                self._watch(remote)
            silent_s = time.monotonic() - self._last_progress_s
            if self._jobs and silent_s > self._settings.outage_s:
                raise EngineLost(
                    f"no server has replied for {silent_s:.0f} s, over engine.outage_s: {self._reasons()}"
                )

    def _find_servers(self) -> list[Remote]:
        """Return the servers that have not been known yet."""
        found = [
            Remote(url, self._settings) for url in registry.urls(self._settings) if url not in self._remotes
        ]
        self._remotes |= {remote.url: remote for remote in found}
        return found

    def _reasons(self) -> str:
        down = [f"{r.url}: {r.reason}" for r in self._remotes.values() if not r.is_up]
        return "; ".join(down) or (
            "all are up and busy" if self._remotes else "none is announced in engine.registry"
        )

    def _beat(self) -> None:
        if self._client is not None:
            self._client.beat()

    # ---- tasks ----

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._note_unforeseen)

    def _note_unforeseen(self, task: asyncio.Task[None]) -> None:
        """Let the run hear of what ended a task: it would wait for ever otherwise."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._deliver(error)
