"""Make the answer of a cell from its last reply: check what it says, and what it rests on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pipeline.answering.calibration import Calibration
from pipeline.answering.confidence import confidence, spans
from pipeline.answering.evidence import look_up
from pipeline.answering.parse import Problem
from pipeline.answering.pending import Part, Pending
from pipeline.answering.reply import Reader, Reply
from pipeline.answering.review import needs_review
from pipeline.answering.settle import loops
from pipeline.records import Answer, Cell, Completion, Failure, Page, Request
from pipeline.texts import clean_text


@dataclass(frozen=True, slots=True)
class Conclusion:
    """Turns what is known of a cell into its row."""

    reader: Reader
    review_below: float
    review_all: bool
    calibration: Calibration | None = None

    def answer(self, cell: Cell, completion: Completion | None, pending: Pending) -> Answer:
        """Return the answer of a cell whose last reply is in; without any reply its first failure."""
        answer = _begin(cell, completion, pending)
        if completion is None:
            return _failed(answer, pending.failures[0])
        # Nothing was asked, for there is nothing to see: an answer of null, unless there are faint marks.
        if completion.finish_reason == "blank":
            return replace(answer, status="ok", needs_review=bool(pending.doubtful))
        fault = self.fault(cell, completion)
        reply = fault or self.reader.read(completion.text, ordinals(cell.subject.pages))
        if isinstance(reply, Problem):
            message = f"the reply is not of the form asked for ({reply.reason}); look at it"
            reply = Failure("schema_invalid", f"{_named(cell)}: {message}")
        if isinstance(reply, Failure):
            # The words stay in the row: a person can often use what no parser could.
            return _failed(replace(answer, answer=clean_text(completion.text)), reply)
        answer = self._fill(answer, reply, completion, pending)
        # An answer without some of the pages is kept and shown; it is an error, which the next run retries.
        return _failed(answer, pending.failures[0]) if pending.failures else answer

    def fault(self, cell: Cell, completion: Completion) -> Failure | None:
        """Return what is wrong with the way in which a reply ended, if anything is."""
        if completion.finish_reason not in ("repetition", "length"):
            return None
        if completion.finish_reason == "repetition" or loops(completion.text):
            message = "the reply repeated itself without end; reword the question"
            return Failure("repetition", f"{_named(cell)}: {message}")
        message = "the answer was cut at its longest; raise task.max_output_tokens"
        return Failure("truncated", f"{_named(cell)}: {message}")

    def part(self, request: Request, completion: Completion) -> Part:
        """Return how sure the reply about a part of the document is."""
        reply = self.reader.read(completion.text, ordinals(request.cell.subject.pages))
        # Candidates of the embedded engine have no form: its own score is all there is.
        if isinstance(reply, Problem):
            return Part(ordinals(request.pages), completion.confidence, False)
        # A merge shows no pages itself: it stands for those that it cites.
        pages = ordinals(request.pages) or frozenset(reply.pages)
        return Part(pages, self._confidence(completion), reply.answer is not None)

    def _fill(self, answer: Answer, reply: Reply, completion: Completion, pending: Pending) -> Answer:
        evidence = look_up(reply.quote, reply.pages, pending.pages, pending.covered, completion.boxes)
        known = [self._confidence(completion), *(p.confidence for p in pending.rests_on(reply.pages))]
        # A merge is as sure as the least sure part that it rests on: writing it down again adds no knowledge.
        sure = None if known[0] is None else min(value for value in known if value is not None)
        quality = pending.quality(reply.pages)
        answer = replace(
            answer,
            status="ok",
            answer=reply.answer,
            fields=reply.fields,
            confidence=self.calibration.of(sure, quality) if self.calibration else sure,
            engine_confidence=sure,
            page_quality=quality,
            evidence_pages=reply.pages,
            evidence_found=evidence.found,
            evidence_quote=reply.quote,
            evidence_boxes=evidence.boxes,
        )
        unproven = self._lacks_evidence(reply, pending)
        review = needs_review(answer, pending.doubtful, self.review_below)
        return replace(answer, needs_review=self.review_all or unproven or review)

    def _lacks_evidence(self, reply: Reply, pending: Pending) -> bool:
        """Tell whether a reply had to give evidence and gave none that could be looked up, or too much."""
        if not self.reader.evidence or reply.answer is None:
            return False
        # Where pages have text, a model that names one can quote it: none is a sign of a guess.
        uncited = reply.quote is not None and not reply.pages
        unquoted = reply.quote is None and any(page in pending.covered for page in reply.pages)
        return uncited or unquoted or reply.names_other_pages

    def _confidence(self, completion: Completion) -> float | None:
        # Plain text has no marks of a form: all of it is the answer.
        if self.reader.form is None:
            return confidence(completion, spans(completion.text, None))
        path = ["answer"] if self.reader.evidence else []
        named = [self.reader.answer_field] if self.reader.answer_field else []
        # A field that the reply leaves out has no tokens: all fields then stand for it.
        found = spans(completion.text, [*path, *named]) or spans(completion.text, path)
        return confidence(completion, found)


def _begin(cell: Cell, completion: Completion | None, pending: Pending) -> Answer:
    spent = pending.spent
    return Answer(
        cell=cell,
        status="error",
        pages_read=pending.pages_read,
        requests=spent.requests,
        finish_reason=completion.finish_reason if completion else None,
        prompt_tokens=spent.prompt_tokens,
        cached_tokens=spent.cached_tokens,
        output_tokens=spent.output_tokens,
        engine_seconds=spent.engine_seconds,
        charge=spent.charge,
    )


def _failed(answer: Answer, failure: Failure) -> Answer:
    # A message may quote a reply or a file name, whatever bytes these hold.
    failure = replace(failure, message=clean_text(failure.message))
    return replace(answer, status="error", failure=failure, needs_review=True)


def ordinals(pages: Iterable[Page]) -> frozenset[int]:
    """Return what evidence calls these pages."""
    return frozenset(page.ordinal for page in pages)


def _named(cell: Cell) -> str:
    return f"{cell.subject.source}, {cell.question.question_id}"
