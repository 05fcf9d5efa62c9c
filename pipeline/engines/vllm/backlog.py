"""What one engine process has to do: work that waits, is under way, or is suspected of having killed it."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass

from pipeline.engines.prefix_gate import PagesKey, pages_key
from pipeline.records import Request

_GROUPS = 8
"""A death costs the time it takes to load the model, a group that is answered almost nothing: eight groups
find one of 512 requests in four deaths, where halves take ten."""
_SAME_PAGES = 3
"""Requests about the same pages that are blamed, with none answered, before the pages themselves are."""


@dataclass(frozen=True, slots=True)
class Work:
    """A request, as one engine has it."""

    request: Request
    rank: int
    """Lower ones are scheduled first."""
    cost_tokens: int
    """What it adds to the load of its engine; nothing when its pages are in the cache already."""


class Backlog:
    """The work of one engine process, in the order in which the process may have it.

    When the process dies, all that it had under way is suspect. Suspects are given to the next process in
    groups, each alone and before anything else. A group that is answered is cleared; one that kills the
    process is divided again; a request that kills it alone is blamed, and nothing else is.
    """

    def __init__(self) -> None:
        self.load_tokens = 0
        self._waiting: deque[Work] = deque()
        self._suspects: deque[list[Work]] = deque()
        self._under_way: dict[str, Work] = {}
        self._under_test = False
        self._blamed: Counter[PagesKey] = Counter()

    @property
    def is_under_way(self) -> bool:
        return bool(self._under_way)

    def add(self, work: Work) -> None:
        """Take on work; `next_group` gives it out."""
        self.load_tokens += work.cost_tokens
        self._waiting.append(work)

    def next_group(self) -> list[Work]:
        """Return what the process may have now: a group of suspects alone, or else all that waits."""
        # Suspects are alone with the process, so that a death says something about them.
        if self._under_way and (self._under_test or self._suspects):
            return []
        self._under_test = bool(self._suspects)
        group = self._suspects.popleft() if self._suspects else list(self._waiting)
        if not self._under_test:
            self._waiting.clear()
        self._under_way.update((work.request.request_id, work) for work in group)
        return group

    def end(self, request_id: str, answered: bool) -> Request:
        """Strike out a request that has ended."""
        work = self._under_way.pop(request_id)
        self.load_tokens -= work.cost_tokens
        if answered:  # the pages themselves do no harm then
            self._blamed.pop(pages_key(work.request), None)
        return work.request

    def divide(self, rendering_id: str | None) -> list[Request]:
        """Divide what was under way when the process died; return the requests that are to blame for certain.

        `rendering_id`: the request whose images were being read just then, if any.
        """
        group, tested = list(self._under_way.values()), self._under_test
        culprit = self._under_way.get(rendering_id or "")
        self._under_way, self._under_test = {}, False
        if tested and len(group) == 1:
            return self._blame(group[0])
        if culprit:
            # The others first: their replies show that the engine lives, whatever the culprit does to it.
            groups = [[work for work in group if work is not culprit], [culprit]]
        else:
            size = math.ceil(len(group) / _GROUPS)
            groups = [group[start : start + size] for start in range(0, len(group), size)]
        self._suspects.extendleft(reversed([group for group in groups if group]))
        return []

    def is_blamed(self, request: Request) -> bool:
        """Tell whether a request is about pages that kill the engine whatever is asked about them."""
        return self._blamed[pages_key(request)] >= _SAME_PAGES

    def _blame(self, killer: Work) -> list[Request]:
        pages = pages_key(killer.request)
        self.load_tokens -= killer.cost_tokens
        if not pages:  # a merge: there is nothing that others share
            return [killer.request]
        self._blamed[pages] += 1
        return [killer.request, *(self._withdraw(pages) if self.is_blamed(killer.request) else [])]

    def _withdraw(self, pages: PagesKey) -> list[Request]:
        """Take back all that is about these pages."""
        groups = [*self._suspects, list(self._waiting)]
        taken = [work for group in groups for work in group if pages_key(work.request) == pages]
        *suspects, waiting = ([w for w in group if pages_key(w.request) != pages] for group in groups)
        self._suspects, self._waiting = deque(filter(None, suspects)), deque(waiting)
        self.load_tokens -= sum(work.cost_tokens for work in taken)
        return [work.request for work in taken]
