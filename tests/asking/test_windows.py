from __future__ import annotations

import dataclasses
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipeline.asking.windows import windows as group
from pipeline.engines.prefix_gate import PrefixGate
from pipeline.records import Cell, Chunk, Document, Page, Question, Request, Subject


def chunk(name: str, prefix_tokens: int, questions: int) -> Chunk:
    document = Document(source=name, path=Path(name), kind="pdf", bytes=1, document_id=name)
    page = Page(document, 1, 1, 16, 16, 1, image=Path(name))
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
    windows = list(group(chunks, lambda: room))
    assert [c for window in windows for c in window] == chunks
    for window in windows:
        held = sum(c.prefix_tokens + 10 * len(c.requests) for c in window)
        assert held <= room or len(window) == 1


def test_further_questions_wait_until_their_pages_are_read() -> None:
    gate = PrefixGate()
    requests = [r for name, n in zip("abc", (3, 1, 2), strict=True) for r in chunk(name, 100, n).requests]
    asked = [request for request in requests if not gate.defer(request)]
    assert [request.request_id for request in asked] == ["a-0", "b-0", "c-0"]
    assert [request.request_id for request in gate.release("a-0")] == ["a-1", "a-2"]
    assert gate.release("b-0") == []
    assert gate.release("a-1") == []  # nobody waited for this one
    assert gate.release("a-0") == []  # each is handed out once
    again, _ = chunk("a", 100, 2).requests
    assert not gate.defer(again)  # its pages have been read
    assert [request.request_id for request in gate.release("c-0")] == ["c-1"]


def test_questions_without_pages_wait_for_nothing() -> None:
    gate = PrefixGate()
    texts = [dataclasses.replace(request, pages=()) for request in chunk("a", 0, 2).requests]
    assert [gate.defer(text) for text in texts] == [False, False]
