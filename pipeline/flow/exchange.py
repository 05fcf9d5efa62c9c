"""Windows of requests out, replies in, answers of them."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from pipeline.answering.reduce import Reducer
from pipeline.answering.settle import settle
from pipeline.asking.windows import cached_tokens
from pipeline.asking.writer import Writer
from pipeline.engines.speed import Speed
from pipeline.flow.engine_on_demand import EngineOnDemand
from pipeline.flow.follow_ups import FollowUps
from pipeline.flow.identity import Identity
from pipeline.flow.meter import Meter
from pipeline.flow.progress import Progress
from pipeline.records import Answer, Chunk, Completion, Page, Request, Window, Words
from pipeline.tables.ledger import Ledger
from pipeline.tables.sink import Tables

log = logging.getLogger("pipeline")

_Place = tuple[str, str, int]


@dataclass(slots=True)
class _Held:
    """A request that waits for another answer."""

    request: Request
    chunk: Chunk
    window_number: int | None
    """Of the window that its pages are drawn for; None when that is over."""

    def undrawn(self) -> Chunk:
        """Return the chunk with this request alone, as it was before its pages were drawn."""
        pages = tuple(
            replace(page, image=None, text="", words=Words(), failure=None) for page in self.chunk.pages
        )
        answer_id = self.request.cell.answer_id
        requests = tuple(each for each in self.chunk.requests if each.cell.answer_id == answer_id)
        return replace(self.chunk, pages=pages, requests=requests)


@dataclass(slots=True)
class Exchange:
    """Asks an engine what windows ask, unless the reply is stored already, and keeps what it says."""

    engine: EngineOnDemand
    reducer: Reducer
    writer: Writer
    identity: Identity
    tables: Tables
    ledger: Ledger
    progress: Progress
    note_progress: Callable[[], None]
    """Called whenever finished work was made to last."""
    most_window_tokens: int
    speed: Speed
    meter: Meter
    """Runs while the engine has requests under way."""
    follow_ups: FollowUps
    _held: dict[str, list[_Held]] = field(default_factory=dict)
    """Requests of questions that wait for another answer, by the id of that."""
    _declined: set[str] = field(default_factory=set)
    """Answers whose questions are not asked."""
    _postponed: list[Chunk] = field(default_factory=list)
    """What is to be asked whose pages are drawn no more."""
    _window_of: dict[str, int] = field(default_factory=dict)
    _under_way: Counter[int] = field(default_factory=Counter)
    _waiting_pages: dict[_Place, tuple[set[_Place], tuple[Page, ...]]] = field(default_factory=dict)
    """The pages that each first request is about, and the requests about them that have no reply yet."""
    _asked: set[str] = field(default_factory=set)
    """Answers, still to come, that the engine was asked for."""

    def room_tokens(self) -> int:
        """Return the prompt tokens that may be in flight together."""
        return min(self.most_window_tokens, self.engine.window_tokens or self.most_window_tokens)

    def answered(self, windows: Iterator[Window], room_tokens: Callable[[], int]) -> Iterator[Window]:
        """Yield each window once the last of its answers is in.

        The engine holds the next windows meanwhile, as many as it wants, so that it never waits for one. Of
        small ones, as the first of a run are, it holds more: as many as fit `room_tokens()` together.
        """
        held: deque[tuple[int, Window]] = deque()
        for number, window in enumerate(windows):
            if window:
                self._ask(window, number)
                held.append((number, window))
            # A window without chunks: there is no room for pages until those of all before it are released.
            while held and (not window or self._holds_enough(held, room_tokens())):
                self._wait_for(held[0][0])
                yield held.popleft()[1]
        for number, window in held:
            self._wait_for(number)
            yield window

    def _holds_enough(self, held: Collection[tuple[int, Window]], room_tokens: int) -> bool:
        """Tell whether the engine has as much to do as it wants beyond the window that is waited for."""
        ahead = self.engine.windows_ahead
        tokens = sum(cached_tokens(chunk) for _, window in held for chunk in window)
        return len(held) > ahead and tokens > ahead * room_tokens

    def is_stored(self, request: Request) -> bool:
        """Tell whether there is a reply to a request as it is packed, before its pages are rendered."""
        stored = self.tables.known.replies.get(request := self.identity.identified(request))
        return stored is not None and not self._is_to_be_retried(request, stored)

    def _ask(self, window: Window, number: int) -> None:
        """Hand the engine what a rendered window asks; merges of replies that are there already go first."""
        # All pages of the window are noted before anything is asked: a merge may cite any of them.
        asked, following = zip(*(self._open(chunk) for chunk in window), strict=True)
        due = [
            request
            for chunk, requests in zip(window, asked, strict=True)
            for request in requests
            if self._is_due(request, chunk, number)
        ]
        self._put([*(request for requests in following for request in requests), *due], number)

    def _wait_for(self, number: int) -> None:
        """Take replies, and ask what they give rise to, until nothing of that window is left to ask."""
        while self._under_way[number]:
            for request, completion in self.engine.take():
                # A merge or a second attempt belongs to the window of its first request, which waits for it.
                own_window = self._window_of.pop(request.request_id)
                self._under_way[own_window] -= 1
                self._put(self._keep(request, completion), own_window)
            if not self._under_way.total():
                self.meter.pause()
        # Windows are counted by the thousand in a long run: what is over is forgotten.
        del self._under_way[number]
        # Their pages go with the window: whoever still waits, for a part of the document that comes later, is
        # asked once all is read.
        for held in (each for waiting in self._held.values() for each in waiting):
            if held.window_number == number:
                held.window_number = None

    def postponed(self) -> list[Chunk]:
        """Return, once, what is to be asked after all: its pages must be drawn again."""
        chunks, self._postponed = self._postponed, []
        return chunks

    def _is_due(self, request: Request, chunk: Chunk, number: int) -> bool:
        """Tell whether a request is to be made now; hold it where an earlier answer still has to say so."""
        cell = request.cell
        holds = self.follow_ups.holds(cell)
        if holds is None:
            self._hold(_Held(request, chunk, number))
        elif not holds:
            self._decline(request)
        return bool(holds)

    def _hold(self, held: _Held) -> None:
        leader = str(self.follow_ups.leader_id(held.request.cell))
        self._held.setdefault(leader, []).append(held)

    def _decline(self, request: Request) -> None:
        """Note that a question is not asked."""
        self._count_pages(request)
        # A long document has a request for each run of its pages, and one row.
        if request.cell.answer_id not in self._declined:
            self._declined.add(request.cell.answer_id)
            self._add_answer(Answer(request.cell, "not_asked"))

    def _add_answer(self, answer: Answer) -> None:
        """Keep an answer, and ask what waited for it."""
        self.tables.sink.add_answer(answer)
        self.progress.add_answer(answer, derived=answer.cell.answer_id not in self._asked)
        self._asked.discard(answer.cell.answer_id)
        if not self.follow_ups.note(answer):
            return
        for held in self._held.pop(answer.cell.answer_id, []):
            holds = self.follow_ups.holds(held.request.cell)
            if holds is None:  # another question with the same words waits for another answer
                self._hold(held)
            elif not holds:
                self._decline(held.request)
            elif held.window_number is None:
                self._postponed.append(held.undrawn())
            else:
                self._put([held.request], held.window_number)

    def _put(self, requests: Sequence[Request], number: int) -> None:
        """Ask the engine what is not stored."""
        unasked: list[Request] = []
        for request in map(self.identity.identified, requests):
            unasked += self._unless_stored(request)
        if unasked:
            self._window_of.update((request.request_id, number) for request in unasked)
            self._under_way[number] += len(unasked)
            self._asked.update(request.cell.answer_id for request in unasked)
            self.engine.put(unasked, number)
            self.meter.run()

    def _open(self, chunk: Chunk) -> tuple[list[Request], list[Request]]:
        """Take a rendered chunk; return what to ask about it, and what follows from what needs no asking."""
        for row in self.ledger.add_pages(chunk.pages):
            self.tables.sink.add_document(row)
        asked, settled = settle(chunk)
        self._expect(chunk, asked)
        # Pages that could not be drawn are left out of the request, and so of its tokens.
        if any(page.failure for page in chunk.pages):
            asked = [self.writer.recount(request) for request in asked]
        following = [more for request, completion in settled for more in self._reduce(request, completion)]
        return asked, following

    def _expect(self, chunk: Chunk, asked: Sequence[Request]) -> None:
        """Note whose replies the pages of a chunk wait for before they count as read."""
        if not asked:
            self.progress.add_pages(chunk.pages)
        waiting = {_place(request) for request in asked}
        self._waiting_pages.update((place, (waiting, chunk.pages)) for place in waiting)

    def _count_pages(self, request: Request) -> None:
        """Count the pages of a request whose reply is the last that they waited for."""
        waiting, pages = self._waiting_pages.pop(_place(request), (set(), ()))
        waiting.discard(_place(request))
        if pages and not waiting:
            self.progress.add_pages(pages)

    def _unless_stored(self, request: Request) -> list[Request]:
        """Use the stored reply to exactly this request; return what remains to be asked."""
        stored = self.tables.known.replies.get(request)
        if stored is None or self._is_to_be_retried(request, stored):
            return [request]
        # What a stored reply gives rise to may be stored as well: then no engine is needed at all.
        following = map(self.identity.identified, self._reduce(request, stored))
        return [more for each in following for more in self._unless_stored(each)]

    def _is_to_be_retried(self, request: Request, stored: Completion) -> bool:
        """Tell whether a stored reply is why its cell has an error, which is asked for again."""
        failed = self.tables.known.failure(request.cell)
        return failed is not None and self.reducer.fault(request, stored) == failed.code

    def _keep(self, request: Request, completion: Completion) -> list[Request]:
        """Keep an engine's reply; return the requests that it gives rise to."""
        # Before anything is made of it: whatever that comes to, the reply is not lost.
        self.tables.sink.add_request(request, completion, self.speed.weigh(request, completion))
        self.progress.add_completion(completion)
        # Packing relies on exact counts. A difference means another tokenizer or image size than configured.
        if completion.failure is None and completion.prompt_tokens != request.prompt_tokens:
            log.error(
                "%s: %d prompt tokens were counted, the engine had %d",
                request.cell.subject.source, request.prompt_tokens, completion.prompt_tokens,
            )  # fmt: skip
        following = self._reduce(request, completion)
        if self.tables.sink.commit_if_due():
            self.note_progress()
        return following

    def _reduce(self, request: Request, completion: Completion) -> list[Request]:
        self._count_pages(request)
        outcome = self.reducer.add(request, completion)
        if isinstance(outcome, Answer):
            self._add_answer(outcome)
            return []
        return outcome or []


def _place(request: Request) -> _Place:
    """Return what a request has in common with its further attempts alone."""
    return request.kind, request.cell.answer_id, request.position
