from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipeline import order
from pipeline.records import Cell, Chunk, Document, Page, Question, Request, Subject


def chunk(name: str, prefix_tokens: int, questions: int) -> Chunk:
    document = Document(source=name, path=Path(name), kind="pdf", bytes=1, document_id=name)
    page = Page(document, 1, 1, 16, 16, 1)
    subject = Subject("document", name, name, (page,), 1)
    requests = tuple(
        Request(
            f"{name}-{n}",
            Cell(f"{name}-{n}", subject, Question(str(n), "?")),
            "ask",
            (page,),
            "?",
            prefix_tokens + 10,
        )
        for n in range(questions)
    )
    return Chunk(subject, (page,), requests, prefix_tokens)


@given(st.lists(st.tuples(st.integers(1, 90_000), st.integers(0, 4)), max_size=40), st.integers(100, 400_000))
def test_windows_keep_every_chunk_in_order_and_fit_the_room(sizes: list[tuple[int, int]], room: int) -> None:
    chunks = [chunk(str(i), tokens, questions) for i, (tokens, questions) in enumerate(sizes)]
    windows = list(order.windows(chunks, room))
    assert [c for window in windows for c in window] == chunks
    for window in windows:
        held = sum(c.prefix_tokens + 10 * len(c.requests) for c in window)
        assert held <= room or len(window) == 1


def test_first_questions_of_all_documents_come_before_any_second() -> None:
    followers = order.Followers()
    groups = [chunk(name, 100, questions).requests for name, questions in zip("abc", (3, 1, 2), strict=True)]
    first = followers.first([*groups, ()])
    assert [request.request_id for request in first] == ["a-0", "b-0", "c-0"]
    assert [request.request_id for request in followers.after(first[0])] == ["a-1", "a-2"]
    assert followers.after(first[1]) == []
    assert [request.request_id for request in followers.after(first[2])] == ["c-1"]
    assert followers.after(first[0]) == []  # each is handed out once
