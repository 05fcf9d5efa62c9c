"""Reduce completions to answers: collect the parts of a cell, ask again, merge, conclude."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from pipeline.answering.calibration import Calibration
from pipeline.answering.conclude import Conclusion, ordinals
from pipeline.answering.fit import Form
from pipeline.answering.parse import Problem
from pipeline.answering.pending import Pending
from pipeline.answering.reply import Reader
from pipeline.records import Answer, Cell, Completion, Failure, Json, Question, Request
from pipeline.texts import clean_text, fingerprint


class Reducer:
    """Collect completions cell by cell, across windows, until a cell has its answer."""

    def __init__(
        self,
        envelope: Mapping[str, Json] | None,
        evidence: bool,
        answer_field: str | None,
        review_below: float,
        write_merge: Callable[[Question, Sequence[str]], tuple[str, int]],
        write_again: Callable[[Request, str], tuple[str, int]],
        room_tokens: int,
        repair_attempts: int,
        *,
        field_kinds: Mapping[str, str],
        review_all: bool,
        checks_parts: bool = True,
        calibration: Calibration | None = None,
    ) -> None:
        """`write_merge` and `write_again` give a request's text and its exact tokens.

        `write_again` takes the request whose reply had a fault, and that fault; `room_tokens` is the most a
        request may have, `repair_attempts` how often the same is asked again. `field_kinds` are the kinds of
        the columns that structured answers fill; `review_all`: the engine is not sure of this kind of task;
        `checks_parts`: its replies about parts of a long document have the form of whole replies;
        `calibration`: what its confidence is worth.
        """
        form = Form(envelope) if envelope is not None else None
        self._reader = Reader(form, evidence, answer_field, field_kinds)
        self._conclusion = Conclusion(self._reader, review_below, review_all, calibration)
        self._write_merge = write_merge
        self._write_again = write_again
        self._room_tokens = room_tokens
        self._repair_attempts = repair_attempts
        self._checks_parts = checks_parts
        self._pending: dict[str, Pending] = {}

    def add(self, request: Request, completion: Completion) -> Answer | list[Request] | None:
        """Take one completion: return the cell's answer, or the requests it now needs, or None.

        Those are the merge of its parts, or another attempt after a reply with a fault. Nothing that a
        completion says can raise.
        """
        pending = self._pending.setdefault(request.cell.answer_id, Pending())
        # Before anything is decided: what a bad reply cost is part of what the answer cost.
        pending.spent.add(completion)
        fault = self.fault(request, completion)
        if fault == "schema_invalid" and request.siblings > 1 and not self._checks_parts:
            # The embedded engine hands on candidates there, no whole reply; only the merge has its form.
            fault = None
        if fault and (again := self._again(request, fault)):
            return [again]
        if request.kind == "ask":
            pending.note_pages(request, completion)
        if request.siblings > 1:
            return self._add_part(request, completion, fault, pending)
        if completion.failure:
            pending.failures.append(completion.failure)
        return self._conclude(request.cell, None if completion.failure else completion, pending)

    def _add_part(
        self, request: Request, completion: Completion, fault: str | None, pending: Pending
    ) -> Answer | list[Request] | None:
        if fault:
            pending.failures.append(Failure(fault, _part_message(request, fault)))
        pending.keep(request.position, completion, self._conclusion.part(request, completion))
        if len(pending.replies) < request.siblings:
            return None
        # Parts that failed leave the others to be merged; the row then is an error that keeps the answer.
        useful = pending.take()
        # Candidates are no answer: even those of one part alone become one by a merge.
        if len(useful) > 1 or (useful and not self._checks_parts and request.kind == "ask"):
            return self._merges(request.cell, [clean_text(reply.text) for reply in useful])
        return self._conclude(request.cell, useful[0] if useful else None, pending)

    def _conclude(self, cell: Cell, completion: Completion | None, pending: Pending) -> Answer:
        del self._pending[cell.answer_id]
        return self._conclusion.answer(cell, completion, pending)

    def fault(self, request: Request, completion: Completion) -> str | None:
        """Return the `error_code` of what is wrong with a written reply, if anything is."""
        if completion.failure or completion.finish_reason == "blank":
            return None
        if failure := self._conclusion.fault(request.cell, completion):
            return failure.code
        reply = self._reader.read(completion.text, ordinals(request.cell.subject.pages))
        return "schema_invalid" if isinstance(reply, Problem) else None

    def _again(self, request: Request, fault: str) -> Request | None:
        attempt = request.attempt + 1
        if attempt > self._repair_attempts:
            return None
        text, tokens = self._write_again(request, fault)
        # The engine would refuse it as too long; the fault that is known says more.
        if tokens > self._room_tokens:
            return None
        known_as = fingerprint(request.request_id, "again", attempt)
        return replace(
            request, request_id=known_as, prompt=text, prompt_tokens=tokens, attempt=attempt, fault=fault
        )

    def _merges(self, cell: Cell, replies: Sequence[str]) -> list[Request]:
        groups = self._groups(cell.question, replies)
        merges = []
        for number, group in enumerate(groups):
            prompt, tokens = self._write_merge(cell.question, group)
            level = fingerprint(cell.answer_id, "merge", number, len(groups), *group)
            merges.append(
                Request(level, cell, "merge", (), prompt, tokens, number, len(groups), tuple(group))
            )
        return merges

    def _groups(self, question: Question, texts: Sequence[str]) -> list[list[str]]:
        """Split replies evenly into as few groups of at least two as fit the context each."""
        # As few merges as the context allows: each level rewrites what the one before it wrote.
        for count in range(1, len(texts) // 2 + 1):
            size, extra = divmod(len(texts), count)
            starts = [i * size + min(i, extra) for i in range(count + 1)]
            groups = [list(texts[a:b]) for a, b in pairwise(starts)]
            if all(self._write_merge(question, group)[1] <= self._room_tokens for group in groups):
                return groups
        return [list(texts)]  # too long even in pairs: the engine refuses it as too_long


def _part_message(request: Request, fault: str) -> str:
    first, last = (request.pages[i].ordinal for i in (0, -1)) if request.pages else (0, 0)
    pages = f"pages {first} to {last}" if request.pages else "a merge of parts"
    what = f"{request.cell.subject.source}, {request.cell.question.question_id}"
    return f"{what}: the reply about {pages} is {fault}; the answer rests on what there is of it"
