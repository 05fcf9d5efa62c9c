from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.asking import pack
from pipeline.records import Cell, Chunk, Document, Failure, Outline, Page, Question, Subject

PAGES = st.lists(st.integers(1, 4000), max_size=80)


def outline(name: str, pages: int, failure: Failure | None = None) -> Outline:
    document = Document(
        source=name, path=Path(name), kind="pdf", bytes=1, document_id=f"id-{name}", failure=failure
    )
    return Outline(document, tuple(Page(document, n, pages, 16, 16, n) for n in range(1, pages + 1)), failure)


def subjects(*outlines: Outline, scope: str) -> list[Subject]:
    return [subject for _, found in pack.subjects(outlines, scope) for subject in found]


def chunks(
    subject: Subject, words: dict[str, int], cost: int = 3000, pages: int = 30, room: int = 100_000
) -> list[Chunk]:
    cells = [Cell(f"{subject.source}-{word}", subject, Question(word, word)) for word in words]
    return list(
        pack.chunks(
            subject,
            cells,
            lambda page: cost,
            lambda c: (c.question.text, words[c.question.text]),
            pages,
            room,
        )
    )


@given(costs=PAGES, most_pages=st.integers(1, 40), most_tokens=st.integers(4000, 100_000))
def test_splitting_keeps_order_loses_nothing_and_respects_both_limits(
    costs: list[int], most_pages: int, most_tokens: int
) -> None:
    lengths = pack.split(costs, most_pages, most_tokens)
    assert sum(lengths) == len(costs)
    assert all(0 < n <= most_pages for n in lengths) or costs == []
    assert max(lengths) - min(lengths) <= 1
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    assert all(sum(costs[s : s + n]) <= most_tokens for s, n in zip(starts, lengths, strict=True))


@pytest.mark.parametrize(
    ("pages", "lengths"), [(30, [30]), (31, [16, 15]), (60, [30, 30]), (61, [21, 20, 20])]
)
def test_long_documents_are_split_evenly(pages: int, lengths: list[int]) -> None:
    assert pack.split([3008] * pages, 30, 131_072) == lengths


def test_a_page_over_the_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="exceeds"):
        pack.split([10, 5000], 30, 4000)


@given(pages=st.integers(0, 100), cost=st.integers(1, 4000), questions=st.integers(1, 5))
def test_every_chunk_asks_every_question_about_consecutive_pages(
    pages: int, cost: int, questions: int
) -> None:
    (subject,) = subjects(outline("a.pdf", pages), scope="document")
    made = chunks(subject, {f"q{n}": 20 for n in range(questions)}, cost=cost)
    assert [page.number for chunk in made for page in chunk.pages] == list(range(1, pages + 1))
    for position, chunk in enumerate(made):
        assert len(chunk.requests) == questions
        for request in chunk.requests:
            assert request.prompt_tokens == cost * len(chunk.pages) + 20
            assert (request.position, request.siblings) == (position, len(made))
    ids = [request.request_id for chunk in made for request in chunk.requests]
    assert len(set(ids)) == len(ids)


def test_a_question_that_cannot_fit_fails_alone() -> None:
    (subject,) = subjects(outline("a.pdf", 2), scope="document")
    too_long, asked = chunks(subject, {"short": 10, "long": 99_000})
    assert too_long.subject.failure is not None
    assert too_long.subject.failure.code == "too_long"
    assert [r.cell.question.text for r in too_long.requests] == ["long"]
    assert [r.cell.question.text for r in asked.requests] == ["short"]


def test_an_unreadable_document_keeps_its_questions() -> None:
    (subject,) = subjects(outline("a.pdf", 0, Failure("corrupt", "broken")), scope="page")
    (chunk,) = chunks(subject, {"q": 10})
    assert chunk.pages == ()
    assert chunk.subject.failure == Failure("corrupt", "broken")
    assert len(chunk.requests) == 1


def test_page_scope_makes_a_subject_of_each_page() -> None:
    made = subjects(outline("a.pdf", 3), scope="page")
    assert [(s.page, s.pages_total) for s in made] == [(1, 3), (2, 3), (3, 3)]


def test_folder_scope_packs_the_documents_of_a_folder_and_numbers_their_pages_through() -> None:
    bad = outline("x/b.png", 0, Failure("corrupt", "broken"))
    made = subjects(outline("x/a.png", 1), bad, outline("x/c.pdf", 2), outline("y/d.png", 1), scope="folder")
    assert [(s.source, [p.ordinal for p in s.pages], s.failure) for s in made] == [
        ("x", [1, 2, 3], None),
        ("y", [1], None),
    ]
