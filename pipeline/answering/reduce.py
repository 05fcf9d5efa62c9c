"""Reduce completions to answers: settle what needs no engine, merge, validate, check evidence."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import jsonschema

from pipeline.answering.evidence import found, page_numbers
from pipeline.answering.settle import Settled, loops
from pipeline.records import (
    Answer,
    Cell,
    Completion,
    Failure,
    Question,
    Request,
    fingerprint,
)


@dataclass(slots=True)
class _Pending:
    """The replies to one cell so far, and what of the pages the final answer will be checked against."""

    replies: list[Settled] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=dict)
    pages_read: int = 0
    failures: list[Failure] = field(default_factory=list)
    spent: list[Completion] = field(default_factory=list)


class Reducer:
    """Collect completions cell by cell, across windows, until a cell has its answer."""

    def __init__(
        self,
        envelope: Mapping[str, Any] | None,
        evidence: bool,
        answer_field: str | None,
        review_below: float,
        write_merge: Callable[[Question, Sequence[str]], tuple[str, int]],
        write_again: Callable[[Request, str], tuple[str, int]],
        room_tokens: int,
        repair_attempts: int,
    ) -> None:
        """`write_merge` and `write_again` give a request's text and its exact tokens.

        `write_again` takes the request whose reply had a fault, and that fault; `room_tokens` is the most a
        request may have, `repair_attempts` how often the same is asked again.
        """
        self._envelope = envelope
        self._validator = jsonschema.Draft202012Validator(dict(envelope)) if envelope else None
        self._evidence = evidence
        self._answer_field = answer_field
        self._review_below = review_below
        self._write_merge = write_merge
        self._write_again = write_again
        self._room_tokens = room_tokens
        self._repair_attempts = repair_attempts
        self._pending: dict[str, _Pending] = {}

    def add(self, request: Request, completion: Completion) -> Answer | list[Request] | None:
        """Take one completion: return the cell's answer, or the requests it now needs, or None.

        Those are the merge of its parts, or another attempt after a reply with a fault.
        """
        pending = self._pending.setdefault(request.cell.answer_id, _Pending())
        pending.spent.append(completion)
        if (fault := self.fault(request, completion)) and (again := self._again(request, fault)):
            return [again]
        pending.replies.append((request, completion))
        if fault and request.siblings > 1:
            pending.failures.append(Failure(fault, _part_message(request, fault)))
        if request.kind == "ask":
            self._note_pages(pending, request, completion)
        if len(pending.replies) < request.siblings:
            return None
        replies, pending.replies = pending.replies, []
        useful = [(r, c) for r, c in replies if not c.failure]
        pending.failures += [c.failure for _, c in replies if c.failure]
        if len(useful) > 1:
            return self._merges(
                request.cell, sorted(useful, key=lambda settled: settled[0].position), pending
            )
        del self._pending[request.cell.answer_id]
        return self._answer(request.cell, useful[0][1] if useful else None, pending)

    def fault(self, request: Request, completion: Completion) -> str | None:
        """Return the `error_code` of what is wrong with a written reply, if anything is."""
        if completion.failure or completion.finish_reason == "blank" or self._repair_attempts == 0:
            return None
        if completion.finish_reason == "repetition":
            return "repetition"
        if completion.finish_reason == "length":
            return "repetition" if loops(completion.text) else "truncated"
        if self._validator and not self._validator.is_valid(self._parse(completion.text)):
            return "schema_invalid"
        return None

    def _again(self, request: Request, fault: str) -> Request | None:
        attempt = request.attempt + 1
        text, tokens = self._write_again(request, fault)
        if attempt > self._repair_attempts or tokens > self._room_tokens:
            return None
        known_as = fingerprint(request.request_id, "again", attempt)
        return replace(
            request, request_id=known_as, prompt=text, prompt_tokens=tokens, attempt=attempt, fault=fault
        )

    def _note_pages(self, pending: _Pending, request: Request, completion: Completion) -> None:
        pending.pages_read += len(request.pages)
        if request.pages:
            pending.failures += [_without(page.failure) for page in request.left_out if page.failure]
        reply = self._parse(completion.text)
        cited = set(page_numbers(reply)) if isinstance(reply, dict) else set()
        keep = cited or {page.ordinal for page in request.pages if request.siblings == 1}
        pending.texts.update({page.ordinal: page.text for page in request.pages if page.ordinal in keep})

    def _merges(self, cell: Cell, replies: Sequence[Settled], pending: _Pending) -> list[Request]:
        groups = self._groups(cell.question, [completion.text for _, completion in replies])
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
        for count in range(1, len(texts) // 2 + 1):
            size, extra = divmod(len(texts), count)
            starts = [i * size + min(i, extra) for i in range(count + 1)]
            groups = [list(texts[a:b]) for a, b in pairwise(starts)]
            if all(self._write_merge(question, group)[1] <= self._room_tokens for group in groups):
                return groups
        return [list(texts)]  # too long even in pairs: the engine refuses it as too_long

    def _answer(self, cell: Cell, completion: Completion | None, pending: _Pending) -> Answer:
        spent = pending.spent
        answer = Answer(
            cell=cell,
            status="error",
            pages_read=pending.pages_read,
            requests=sum(1 for c in spent if c.finish_reason not in ("blank", "error") or not c.failure),
            finish_reason=completion.finish_reason if completion else None,
            confidence=completion.confidence if completion else None,
            prompt_tokens=sum(c.prompt_tokens for c in spent),
            cached_tokens=sum(c.cached_tokens for c in spent),
            output_tokens=sum(c.output_tokens for c in spent),
            engine_seconds=sum(c.engine_seconds for c in spent),
        )
        if completion is None:
            return replace(answer, failure=pending.failures[0], needs_review=True, requests=0)
        if completion.finish_reason == "blank":
            return replace(answer, status="ok", requests=0)
        answer = self._fill(answer, completion, pending)
        failures = [f for f in (answer.failure, *pending.failures) if f]
        unsure = (
            answer.evidence_found is False
            or (answer.confidence is not None and answer.confidence < self._review_below)
            or answer.finish_reason != "stop"
        )
        if failures:
            return replace(answer, status="error", failure=failures[0], needs_review=True)
        return replace(answer, status="ok", needs_review=unsure)

    def _fill(self, answer: Answer, completion: Completion, pending: _Pending) -> Answer:
        source, question = answer.cell.subject.source, answer.cell.question.question_id
        if completion.finish_reason == "repetition" or (
            completion.finish_reason == "length" and loops(completion.text)
        ):
            message = f"{source}, {question}: the reply repeated itself without end; reword the question"
            return replace(answer, answer=completion.text, failure=Failure("repetition", message))
        if completion.finish_reason == "length":
            message = f"{source}, {question}: the answer was cut at its longest; raise task.max_output_tokens"
            return replace(answer, answer=completion.text, failure=Failure("truncated", message))
        if self._validator is None:
            return replace(answer, answer=completion.text)
        reply = self._parse(completion.text)
        problem = next(self._validator.iter_errors(reply), None)
        if problem is not None:
            message = (
                f"{source}, {question}: the reply is not of the form asked for ({problem.message[:200]})"
            )
            return replace(answer, answer=completion.text, failure=Failure("schema_invalid", message))
        known = {page.ordinal for page in answer.cell.subject.pages}
        pages = tuple(sorted({number for number in page_numbers(reply) if number in known}))
        body = reply["answer"] if self._evidence else reply
        quote = reply.get("quote") if self._evidence else None
        return replace(
            answer,
            answer=self._plain(body),
            fields=body if isinstance(body, dict) else None,
            evidence_pages=pages,
            evidence_found=found(quote, [pending.texts.get(number, "") for number in pages]),
        )

    def _plain(self, body: Any) -> str | None:
        if isinstance(body, dict):
            body = body.get(self._answer_field) if self._answer_field else body
        return body if body is None or isinstance(body, str) else json.dumps(body, ensure_ascii=False)

    def _parse(self, text: str) -> Any:
        if self._envelope is None:
            return None
        try:
            return json.loads(text)
        except ValueError:
            return None


def _part_message(request: Request, fault: str) -> str:
    first, last = (request.pages[i].ordinal for i in (0, -1)) if request.pages else (0, 0)
    pages = f"pages {first} to {last}" if request.pages else "a merge of parts"
    what = f"{request.cell.subject.source}, {request.cell.question.question_id}"
    return f"{what}: the reply about {pages} is {fault}; the answer rests on what there is of it"


def _without(failure: Failure) -> Failure:
    return replace(failure, message=f"{failure.message}; the answer rests on the other pages")
