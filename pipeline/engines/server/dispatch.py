"""Bring every request to a server and settle it once, whatever goes wrong on the way. In one event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from pipeline.config import ServerSettings
from pipeline.engines.base import EngineContext
from pipeline.engines.prefix_gate import PrefixGate
from pipeline.engines.server import faults
from pipeline.engines.server.fleet import Fleet
from pipeline.engines.server.prompt import Sampling
from pipeline.engines.server.remote import Job, Remote
from pipeline.engines.server.send import send
from pipeline.engines.vllm.messages import Reply
from pipeline.engines.vllm.translate import completion
from pipeline.errors import EngineLost
from pipeline.records import Completion, Failure, Request

log = logging.getLogger("pipeline")

Settled = tuple[Request, Completion]

_LOOK_EVERY_S = 1.0


class Dispatcher:
    """Holds the requests of a run until each is settled. Its methods are called in its event loop."""

    def __init__(
        self,
        settings: ServerSettings,
        context: EngineContext,
        sampling: Sampling,
        deliver: Callable[[Settled | BaseException], None],
    ) -> None:
        self._settings, self._deliver = settings, deliver
        self._fleet = Fleet(settings, context, sampling, self._place_all, self._begin, deliver)
        self._gate = PrefixGate()
        self._jobs: dict[str, Job] = {}
        """All that is not settled."""
        self._stranded: list[Job] = []
        """Those that no server is up for."""
        self._numbers = 0
        self._giving_up: asyncio.Task[None] | None = None
        self._last_progress_s = time.monotonic()

    async def open(self) -> int | None:
        """Wait for a server; return the tokens that the caches have room for, where servers say so."""
        room = await self._fleet.open()
        self._giving_up = asyncio.create_task(self._give_up_in_time())
        self._giving_up.add_done_callback(self._note_unforeseen)
        return room

    def put(self, requests: Sequence[Request], window_number: int) -> None:
        """Take on requests."""
        # With nothing to do, no reply was due: the time without work is no outage.
        if not self._jobs:
            self._last_progress_s = time.monotonic()
        for request in requests:
            self._numbers += 1
            job = self._jobs[request.request_id] = Job(request, window_number, self._numbers)
            if not self._gate.defer(request):
                self._place(job)
        self._begin()

    async def close(self) -> None:
        """Drop what is under way."""
        self._jobs.clear()
        # What ends makes room for what waits: nothing may wait any more.
        self._stranded.clear()
        for remote in self._fleet.remotes.values():
            remote.withdraw()
        tasks = [task for remote in self._fleet.remotes.values() for task in remote.under_way]
        tasks += [self._giving_up] if self._giving_up is not None else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._fleet.close()

    # ---- where to ----

    def _place(self, job: Job) -> None:
        """Let a job wait at the server of its document; `_begin` sends it."""
        home = self._fleet.home(job.request)
        if home is None:
            self._stranded.append(job)
        else:
            home.add(job)

    def _place_all(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._place(job)
        self._begin()

    def _place_later(self, job: Job, wait_s: float) -> None:
        def place() -> None:
            if job.request.request_id in self._jobs:
                self._place_all([job])

        asyncio.get_running_loop().call_later(wait_s, place)

    def _begin(self) -> None:
        """Send all that may be sent now."""
        stranded, self._stranded = self._stranded, []
        for job in stranded:
            self._place(job)
        for remote in self._fleet.remotes.values():
            while (job_here := remote.next_job()) is not None:
                task = asyncio.create_task(self._answer(remote, job_here))
                remote.under_way[task] = job_here
                task.add_done_callback(partial(self._ended, remote))

    def _ended(self, remote: Remote, task: asyncio.Task[None]) -> None:
        remote.end(task)
        self._note_unforeseen(task)
        self._begin()

    # ---- one request ----

    async def _answer(self, remote: Remote, job: Job) -> None:
        request, fleet = job.request, self._fleet
        begun = partial(self._release, request.request_id)
        try:
            reply = await send(
                remote.client, fleet.served.model, request, fleet.sampling, self._settings, begun
            )
        except asyncio.CancelledError:
            if request.request_id in self._jobs:  # else the run is over
                self._after_death(job, "it was silent")
        except Exception as error:
            if (fault := faults.of(error, self._settings)) is None:
                raise
            await self._after(fault, remote, job)
        else:
            remote.limit.answered(len(remote.under_way))
            self._settle(request, completion(request, reply))

    async def _after(self, fault: faults.Fault, remote: Remote, job: Job) -> None:
        """Decide what becomes of a request that got no reply."""
        if isinstance(fault, faults.Refused):
            refusal = Reply(job.request.request_id, refusal=str(fault))
            self._settle(job.request, completion(job.request, refusal))
        elif isinstance(fault, faults.Busy):
            log.debug("%s: no room (%s)", remote.url, fault)
            remote.limit.refused(time.monotonic())
            job.refusals += 1
            # No count of refusals ends a request: a server that is busy says nothing about it.
            self._place_later(job, max(fault.after_s or 0.0, job.wait_s()))
        # Asked before anything is blamed: a server that died looks like a reply that was cut.
        elif await self._fleet.is_well(remote):
            self._after_bad_reply(remote, job, fault)
        else:
            self._after_death(job, str(fault))

    def _after_bad_reply(self, remote: Remote, job: Job, fault: faults.Fault) -> None:
        job.attempts += 1
        if job.attempts >= self._settings.attempts:
            self._fail(job, f"no usable reply in {job.attempts} attempts; the last: {fault}; run again")
            return
        log.info("%s: %s; sent again", remote.url, fault)
        self._place_later(job, job.wait_s())

    def _after_death(self, job: Job, reason: str) -> None:
        """Send a request again whose server went away; give it up when it may be what they die of."""
        job.note_death()
        if job.is_deadly:
            self._fail(job, f"servers went away each time they had it alone ({reason}); look at its pages")
        else:
            self._place_later(job, job.wait_s())

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
            # `close` has cleared them: nothing more is to be sent then.
            if (job := self._jobs.get(request.request_id)) is not None:
                job.is_first = False
                self._place(job)
        self._begin()

    # ---- the end ----

    async def _give_up_in_time(self) -> None:
        """Raise EngineLost when nothing comes any more."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            silent_s = time.monotonic() - self._last_progress_s
            if self._jobs and silent_s > self._settings.outage_s:
                reasons = self._fleet.reasons()
                raise EngineLost(
                    f"no server has replied for {silent_s:.0f} s, over engine.outage_s: {reasons}"
                )

    def _note_unforeseen(self, task: asyncio.Task[None]) -> None:
        """Let the run hear of what ended a task: it would wait for ever otherwise."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._deliver(error)
