"""Tell which questions are to be asked only where an earlier answer says so, and whether it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.flow.identity import Identity
from pipeline.records import Answer, Cell, Condition, Question
from pipeline.tables.known import Known


@dataclass(slots=True)
class FollowUps:
    """Remembers the answers that other questions wait for."""

    questions_of: Callable[[str], Sequence[Question]]
    identity: Identity
    known: Known
    leaders: frozenset[str]
    """Ids of the questions that others wait for."""
    retry_errors: bool
    _said: dict[str, str | None] = field(default_factory=dict)
    """What this run was answered, by answer_id; None for a failure or a question that was not asked."""

    def leader_id(self, cell: Cell) -> str | None:
        """Return the answer_id that a cell waits for; None where it waits for none."""
        leaders = (self._leader(cell, when) for when in self._conditions(cell) if when)
        return next((each.answer_id for each in leaders if each and not self._is_known(each)), None)

    def holds(self, cell: Cell) -> bool | None:
        """Tell whether a cell is to be asked; None while an answer that it waits for is still to come."""
        if cell.question.when is None:
            return True
        found = [self._holds(cell, when) for when in self._conditions(cell)]
        return True if True in found else None if None in found else False

    def _conditions(self, cell: Cell) -> list[Condition | None]:
        """Return the conditions of all questions with the words of a cell: one that holds is enough.

        They have one answer: what one of them need not know the other may ask for.
        """
        asked = self.questions_of(cell.subject.source)
        return [each.when for each in asked if each.text == cell.question.text]

    def _holds(self, cell: Cell, when: Condition | None) -> bool | None:
        if when is None:
            return True
        leader = self._leader(cell, when)
        # The leader's question is not asked of this document: nothing that it says could hold.
        if leader is None:
            return False
        return when.holds(self._said[leader.answer_id]) if self._is_known(leader) else None

    def _is_known(self, leader: Cell) -> bool:
        """Look up what was answered; what was not asked before may be asked now."""
        if leader.answer_id in self._said:
            return True
        if self.known.was_not_asked(leader):
            # Its own condition may hold by now: then it is asked, and its row of before says nothing.
            if self.holds(leader) is not False:
                return False
            self._said[leader.answer_id] = None
        elif known := self.known.said(leader.answer_id, self.leaders, self.retry_errors):
            self._said[leader.answer_id] = known.text
        return leader.answer_id in self._said

    def _leader(self, cell: Cell, when: Condition) -> Cell | None:
        for question in self.questions_of(cell.subject.source):
            if question.question_id == when.question_id:
                return Cell(self.identity.answer_id(cell.subject, question), cell.subject, question)
        return None

    def note(self, answer: Answer) -> bool:
        """Remember an answer that others may wait for; tell whether they may."""
        if answer.cell.question.question_id not in self.leaders:
            return False
        self._said[answer.cell.answer_id] = answer.answer if answer.status == "ok" else None
        return True
