from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.asking.selection import Selection
from pipeline.records import Question
from pipeline.texts import matches

_parts = st.sampled_from(["a", "b", "[", "]", "*", "?", "!", "/", ".", "./", "é", "e\u0301", "[ab]", "a/b"])
_names = st.lists(_parts, max_size=5).map("".join)


def ids(found: tuple[Question, ...]) -> list[str]:
    return [question.question_id for question in found]


@given(st.lists(_names, max_size=8), st.lists(_names, max_size=4))
@settings(max_examples=500, deadline=None)
def test_a_question_is_asked_of_exactly_the_documents_that_its_pattern_names(
    patterns: list[str], sources: list[str]
) -> None:
    asked = [Question(f"q{n}", "?", pattern) for n, pattern in enumerate(patterns)]
    selection = Selection(asked)
    for source in sources:
        assert selection.of(source) == tuple(q for q in asked if matches(source, q.document))
    unmatched = [q for q in asked if not any(matches(source, q.document) for source in sources)]
    assert selection.unmatched(sources) == tuple(unmatched)


@given(st.lists(_names, max_size=8), _names)
@settings(max_examples=300, deadline=None)
def test_of_overlapping_patterns_one_row_comes_from_each_id(patterns: list[str], source: str) -> None:
    asked = [Question(f"q{n % 2}", str(n), pattern) for n, pattern in enumerate(patterns)]
    found = Selection(asked).of(source)
    assert len(set(ids(found))) == len(found)
    assert set(ids(found)) == {q.question_id for q in asked if matches(source, q.document)}


@pytest.mark.parametrize(
    ("more", "less"),
    [
        ("x/a.pdf", "x/"),
        ("x/a.pdf", "x/a.*"),
        ("x/y", "x"),
        ("x/y/", "x/y*"),
        ("x", "*"),
        ("x/*.pdf", "*.pdf"),
        ("*a.pdf", "?*.pdf"),
        ("*", ""),
        ("x/[1].pdf", "x/*.pdf"),
    ],
)
def test_the_most_specific_of_overlapping_patterns_wins_in_either_order(more: str, less: str) -> None:
    for source in ("x/a.pdf", "x/y/a.pdf", "x/[1].pdf"):
        if not (matches(source, more) and matches(source, less)):
            continue
        two = [Question("q", "more", more), Question("q", "less", less)]
        for order in (two, two[::-1]):
            (found,) = Selection(order).of(source)
            assert found.text == "more", source


def test_of_two_globs_that_say_as_much_the_first_counts() -> None:
    asked = [Question("q", "first", "a*"), Question("q", "second", "*b")]
    assert [q.text for q in Selection(asked).of("ab")] == ["first"]


def test_questions_keep_their_order_whichever_pattern_names_the_document() -> None:
    asked = [
        Question("1", "?", "a.pdf"),
        Question("2", "?"),
        Question("3", "?", "*"),
        Question("4", "?", "b.pdf"),
    ]
    assert ids(Selection(asked).of("a.pdf")) == ["1", "2", "3"]


def test_without_documents_every_question_is_unmatched() -> None:
    asked = [Question("1", "?"), Question("2", "?", "a.pdf")]
    assert ids(Selection(asked).unmatched([])) == ["1", "2"]
    assert ids(Selection(asked).unmatched(["b.pdf"])) == ["2"]
