"""One server, as the dispatcher has it: whether it is up, what it has under way and what waits for it."""

from __future__ import annotations

import asyncio
import heapq
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.config import ServerSettings
from pipeline.engines.server import connect, images
from pipeline.engines.server.limit import Limit
from pipeline.records import Request

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_MOST_BODY_BYTES = 2**31
"""Of page images that are in this process's memory while their requests are under way."""
_SUSPECT_DEATHS = 2
"""Deaths of servers that a request was under way at after which it is sent alone."""
_MOST_DEATHS_ALONE = 3
_FIRST_WAIT_S, _MOST_WAIT_S = 0.5, 30.0


@dataclass(slots=True, eq=False)
class Job:
    """A request on its way through the servers."""

    request: Request
    window_number: int
    number: int
    """Jobs are numbered as they come."""
    is_first: bool = True
    """Of those about its pages it is the one that reads them."""
    attempts: int = 0
    """Replies that were cut, malformed or late."""
    refusals: int = 0
    """Times that a server had no room."""
    deaths: int = 0
    """Servers that went away while it was under way."""
    deaths_alone: int = 0

    @property
    def rank(self) -> tuple[int, bool, int]:
        """What goes first: earlier windows, then what finds its pages in the cache or has none."""
        return self.window_number, self.is_first and bool(self.request.pages), self.number

    @property
    def cost_tokens(self) -> int:
        """What it adds to the load of a server; nothing when its pages are in the cache."""
        return self.request.prompt_tokens if self.is_first else 0

    @property
    def is_suspect(self) -> bool:
        """Whether it may be what servers die of, and must not be sent along with others."""
        return self.deaths >= _SUSPECT_DEATHS

    @property
    def is_deadly(self) -> bool:
        """Whether servers went away each time that it was under way alone."""
        return self.deaths_alone >= _MOST_DEATHS_ALONE

    def note_death(self) -> None:
        """Note that its server went away."""
        # Before this death is counted: only one that was a suspect already had been sent alone.
        self.deaths_alone += self.is_suspect
        self.deaths += 1

    def wait_s(self) -> float:
        """Return the seconds until it is sent again: longer each time, and never in step with others."""
        # Bounded: refusals are not counted against a request, and 2.0 ** 1024 is an OverflowError.
        times = max(0, self.attempts + self.refusals + self.deaths - 1)
        return min(_MOST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(times, 16)) * random.uniform(0.5, 1.5)


class Remote:
    """One server."""

    def __init__(self, url: str, settings: ServerSettings) -> None:
        self.url = url
        self.client: AsyncOpenAI = connect.client(url, settings)
        self.limit = Limit(settings.max_concurrency)
        self.is_up = False
        self.reason = "it was not asked yet"
        """Why it is not up."""
        self.down_since_s = 0.0
        self.under_way: dict[asyncio.Task[None], Job] = {}
        self.checking: asyncio.Task[bool] | None = None
        self.cache_tokens: int | None = None
        self.load_tokens = 0
        """Prompt tokens that it still has to read."""
        self._how = settings.images
        self._waiting: list[tuple[tuple[int, bool, int], Job]] = []

    def add(self, job: Job) -> None:
        """Let a job wait for its turn here."""
        self.load_tokens += job.cost_tokens
        heapq.heappush(self._waiting, (job.rank, job))

    def end(self, task: asyncio.Task[None]) -> None:
        """Strike out a job that is no longer under way."""
        if (job := self.under_way.pop(task, None)) is not None:
            self.load_tokens -= job.cost_tokens

    def withdraw(self) -> list[Job]:
        """Take back all that waits here."""
        waiting, self._waiting = self._waiting, []
        self.load_tokens -= sum(job.cost_tokens for _, job in waiting)
        # A heap has only its first entry in place.
        return [job for _, job in sorted(waiting, key=lambda each: each[0])]

    def next_job(self) -> Job | None:
        """Return the next job if it may begin now."""
        if not (self.is_up and self._waiting and len(self.under_way) < self.limit.allowed):
            return None
        job = self._waiting[0][1]
        # Alone, so that the next death tells what caused it and costs no other request.
        if self.under_way and (job.is_suspect or any(each.is_suspect for each in self.under_way.values())):
            return None
        held = sum(images.body_bytes(each.request.pages, self._how) for each in self.under_way.values())
        # One that is over the limit by itself still goes, alone: it would wait for ever otherwise.
        if self.under_way and held + images.body_bytes(job.request.pages, self._how) > _MOST_BODY_BYTES:
            return None
        return heapq.heappop(self._waiting)[1]
