"""Read the condition of a question that is asked only where an earlier answer says so."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from pipeline.asking.plain import one_line
from pipeline.records import Condition, Question

_FORM = re.compile(
    r"""\s*(?P<id>.+?)\s*(?P<sign>==|!=)\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>\S+))\s*"""
)


def parse(text: str) -> Condition | None:
    """Return the condition that a text states, such as `q1 == "yes"`; None for no text.

    Raises ValueError for a text of another form.
    """
    if not text.strip():
        return None
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(
            f'when: {one_line(text, 60)}: write question_id == "answer" or question_id != "answer"'
        )
    value = next(group for group in (match["double"], match["single"], match["bare"]) if group is not None)
    return Condition(match["id"], match["sign"] == "==", value)


def check(questions: Sequence[Question]) -> None:
    """Raise ValueError when a condition names no question, or waits for itself."""
    leaders: dict[str, set[str]] = defaultdict(set)
    same_words: dict[str, set[str]] = defaultdict(set)
    for question in questions:
        leaders[question.question_id] |= {question.when.question_id} if question.when else set()
        same_words[question.text].add(question.question_id)
    for question_id, named in leaders.items():
        if missing := sorted(named - set(leaders)):
            raise ValueError(
                f"question_id {question_id[:60]}: `when` names {missing[0][:60]}, which is no question_id"
            )
    # Questions with the same words have one answer: what one of them waits for, all of them may wait for.
    for alike in same_words.values():
        waits_for = set().union(*(leaders[each] for each in alike))
        leaders.update({each: leaders[each] | waits_for for each in alike})
    for question_id, named in leaders.items():
        if question_id in _behind(named, leaders):
            raise ValueError(
                f"question_id {question_id[:60]}: `when` waits for its own answer; name an earlier question"
            )


def _behind(named: Iterable[str], leaders: Mapping[str, set[str]]) -> set[str]:
    """Return all questions that some questions wait for."""
    found: set[str] = set()
    open_ = list(named)
    while open_:
        if (name := open_.pop()) not in found:
            found.add(name)
            open_ += leaders.get(name, set())
    return found
