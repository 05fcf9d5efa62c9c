from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.answering import reduce
from pipeline.answering.settle import loops, settle
from pipeline.records import (
    Answer,
    Cell,
    Chunk,
    Completion,
    Document,
    Failure,
    Page,
    Question,
    Request,
    Subject,
)

DOCUMENT = Document("a.pdf", Path("a.pdf"), "pdf", 1, "id")
ENVELOPE = {
    "type": "object",
    "properties": {
        "answer": {"type": ["string", "null"]},
        "pages": {"type": "array", "items": {"type": "integer"}},
        "quote": {"type": ["string", "null"]},
    },
    "required": ["answer", "pages", "quote"],
}


def page(number: int, text: str = "", **values: Any) -> Page:
    return Page(DOCUMENT, number, 9, 16, 16, number, text=text, text_covers=bool(text), **values)


def reducer(
    room_tokens: int = 1000,
    envelope: dict[str, Any] | None = ENVELOPE,
    repair_attempts: int = 0,
    **given: Any,
) -> reduce.Reducer:
    def write_merge(question: Question, replies: Sequence[str]) -> tuple[str, int]:
        return "merge: " + " | ".join(replies), sum(map(len, replies))

    def write_again(request: Request, fault: str) -> tuple[str, int]:
        return f"{request.prompt} ({fault})", request.prompt_tokens + len(fault)

    settings: dict[str, Any] = {
        "envelope": envelope,
        "evidence": envelope is ENVELOPE,
        "answer_field": None,
        "review_below": 0.5,
        "write_merge": write_merge,
        "write_again": write_again,
        "room_tokens": room_tokens,
        "repair_attempts": repair_attempts,
        "field_kinds": {},
        "review_all": False,
    }
    return reduce.Reducer(**{**settings, **given})


def chunk(*pages: Page, scope: str = "document", siblings: int = 1, position: int = 0) -> Chunk:
    subject = Subject(scope, "a.pdf", "id", pages, len(pages))
    request = Request(
        f"r{position}", Cell("c", subject, Question("q", "?")), "ask", pages, "?", 10, position, siblings
    )
    return Chunk(subject, pages, (request,), 5)


def reply(answer: str | None, pages: list[int], quote: str | None = None, **values: Any) -> Completion:
    return Completion(json.dumps({"answer": answer, "pages": pages, "quote": quote}), "stop", **values)


def answered(outcome: object) -> Answer:
    assert isinstance(outcome, Answer)
    return outcome


def test_a_reply_becomes_an_answer_whose_quote_is_looked_up_on_its_page() -> None:
    (asked,), _ = settle(chunk(page(1, "Nothing here."), page(2, "The sum was 1 234 euro- s in all.")))
    got = answered(reducer().add(asked, reply("1234", [2], "sum was 1 234 euros", confidence=0.9)))
    assert (got.status, got.answer, got.evidence_pages) == ("ok", "1234", (2,))
    assert (got.evidence_found, got.needs_review, got.pages_read) == (True, False, 2)
    elsewhere = answered(reducer().add(asked, reply("1234", [1], "sum was 1 234 euros")))
    assert (elsewhere.evidence_found, elsewhere.needs_review) == (False, True)


def test_evidence_is_unknown_where_there_is_no_text_layer() -> None:
    (asked,), _ = settle(chunk(page(1)))
    assert answered(reducer().add(asked, reply("x", [1], "x"))).evidence_found is None


@pytest.mark.parametrize(
    ("completion", "code"),
    [
        (Completion("{not json", "stop"), "schema_invalid"),
        (Completion('{"answer": 5, "pages": [], "quote": null}', "stop"), "schema_invalid"),
        (Completion('{"answer": "half', "length"), "truncated"),
    ],
)
def test_a_reply_that_cannot_be_used_is_an_error_that_keeps_the_text(
    completion: Completion, code: str
) -> None:
    (asked,), _ = settle(chunk(page(1)))
    got = answered(reducer().add(asked, completion))
    assert got.failure is not None
    assert (got.status, got.failure.code, got.answer) == ("error", code, completion.text)


def test_low_confidence_asks_for_a_review() -> None:
    (asked,), _ = settle(chunk(page(1)))
    assert answered(reducer().add(asked, reply("x", [1], confidence=0.4))).needs_review
    assert not answered(reducer().add(asked, reply("x", [1], confidence=0.6))).needs_review


def test_parts_are_merged_in_the_order_of_their_pages_whenever_they_end() -> None:
    made = reducer()
    parts = [chunk(page(n, f"text {n}"), siblings=3, position=n - 1) for n in (1, 2, 3)]
    requests = [settle(part)[0][0] for part in parts]
    assert made.add(requests[2], reply("third", [3])) is None
    assert made.add(requests[0], reply("first", [1])) is None
    merges = made.add(requests[1], reply("second", [2], "text 2"))
    assert isinstance(merges, list)
    (merge,) = merges
    assert [json.loads(part)["answer"] for part in merge.parts] == ["first", "second", "third"]
    assert (merge.kind, merge.pages) == ("merge", ())
    got = answered(made.add(merge, reply("second", [2], "text 2", output_tokens=4)))
    assert (got.answer, got.pages_read, got.requests, got.evidence_pages) == ("second", 3, 4, (2,))


def test_many_parts_are_merged_in_groups_that_fit() -> None:
    made = reducer(room_tokens=150)
    parts = [chunk(page(n), siblings=8, position=n - 1) for n in range(1, 9)]
    outcome: Answer | list[Request] | None = None
    for part in parts:
        outcome = made.add(settle(part)[0][0], reply("x", []))
    rounds = 0
    while isinstance(outcome, list):
        rounds += 1
        assert all(len(merge.parts) >= 2 and sum(map(len, merge.parts)) <= 150 for merge in outcome)
        outcomes = [made.add(merge, reply("x", [])) for merge in outcome]
        outcome = outcomes[-1]
    assert rounds > 1
    assert answered(outcome).requests > 8


def test_a_part_that_failed_makes_the_answer_an_error_without_losing_it() -> None:
    made = reducer()
    first, second = (settle(chunk(page(n), siblings=2, position=n - 1))[0][0] for n in (1, 2))
    made.add(first, reply("found", [1]))
    got = answered(made.add(second, Completion("", "error", failure=Failure("engine_failed", "lost"))))
    assert (got.status, got.answer, got.needs_review) == ("error", "found", True)
    assert got.failure == Failure("engine_failed", "lost")


def test_a_page_that_could_not_be_rendered_is_left_out_and_named() -> None:
    broken = page(2, failure=Failure("render_timeout", "a.pdf, page 2: not done"))
    (asked,), _ = settle(chunk(page(1), broken, page(3)))
    assert [p.number for p in asked.pages] == [1, 3]
    got = answered(reducer().add(asked, reply("x", [1])))
    assert (got.status, got.answer, got.pages_read) == ("error", "x", 2)
    assert got.failure is not None and "the answer rests on the other pages" in got.failure.message


def test_a_document_no_page_of_which_could_be_rendered_is_not_asked_about() -> None:
    failure = Failure("render_crashed", "died")
    asked, ((request, completion),) = settle(chunk(page(1, failure=failure)))
    assert asked == []
    got = answered(reducer().add(request, completion))
    assert (got.status, got.failure, got.requests, got.answer) == ("error", failure, 0, None)


def test_a_blank_page_is_not_asked_about_on_its_own_but_is_in_a_document() -> None:
    asked, settled = settle(chunk(page(1, blank=True), scope="page"))
    assert asked == []
    got = answered(reducer().add(*settled[0]))
    assert (got.status, got.finish_reason, got.answer) == ("ok", "blank", None)
    assert len(settle(chunk(page(1, blank=True), page(2)))[0]) == 1


def test_plain_text_tasks_keep_the_reply_as_it_is() -> None:
    (asked,), _ = settle(chunk(page(1)))
    assert answered(reducer(envelope=None).add(asked, Completion("# Title\n", "stop"))).answer == "# Title\n"


def test_tokens_of_all_requests_of_a_cell_are_added_up() -> None:
    made = reducer()
    spent = {"prompt_tokens": 100, "cached_tokens": 40, "output_tokens": 7, "engine_seconds": 0.5}
    first, second = (settle(chunk(page(n), siblings=2, position=n - 1))[0][0] for n in (1, 2))
    made.add(first, replace(reply("a", [1]), **spent))
    merges = made.add(second, replace(reply("b", [2]), **spent))
    assert isinstance(merges, list)
    got = answered(made.add(merges[0], replace(reply("b", [2]), **spent)))
    assert (got.prompt_tokens, got.cached_tokens, got.output_tokens, got.engine_seconds) == (
        300,
        120,
        21,
        1.5,
    )


CUT = Completion('{"answer": "a very long', "length")


def test_a_cut_reply_is_asked_for_again_once_and_the_second_counts() -> None:
    reducer_ = reducer(repair_attempts=1)
    (request,) = chunk(page(1)).requests
    (again,) = reducer_.add(request, CUT)  # type: ignore[misc]
    assert (again.prompt, again.fault, again.attempt) == ("? (truncated)", "truncated", 1)
    assert again.request_id != request.request_id
    answer = answered(reducer_.add(again, reply("short", [1], output_tokens=3)))
    assert (answer.status, answer.answer, answer.requests) == ("ok", "short", 2)
    assert answer.pages_read == 1


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (CUT, "truncated"),
        (Completion('{"answer": "' + "spam and eggs, " * 40, "length"), "repetition"),
        (Completion("eggs eggs eggs", "repetition"), "repetition"),
        (Completion('{"pages": []}', "stop"), "schema_invalid"),
        (Completion("no JSON at all", "stop"), "schema_invalid"),
    ],
)
def test_a_reply_that_stays_bad_is_an_error_that_keeps_its_text(bad: Completion, code: str) -> None:
    reducer_ = reducer(repair_attempts=1)
    (request,) = chunk(page(1)).requests
    (again,) = reducer_.add(request, bad)  # type: ignore[misc]
    assert again.fault == code
    answer = answered(reducer_.add(again, bad))
    assert answer.failure is not None
    assert (answer.status, answer.failure.code, answer.answer) == ("error", code, bad.text)


def test_no_second_attempt_that_would_not_fit_the_context() -> None:
    (request,) = chunk(page(1)).requests
    answer = answered(reducer(room_tokens=12, repair_attempts=1).add(request, CUT))
    assert answer.failure is not None
    assert answer.failure.code == "truncated"


def test_a_part_that_stays_bad_is_merged_but_never_passes_for_whole() -> None:
    reducer_ = reducer(repair_attempts=1)
    (first,) = chunk(page(1), siblings=2).requests
    (second,) = chunk(page(2), siblings=2, position=1).requests
    assert reducer_.add(first, reply("x", [1])) is None
    (again,) = reducer_.add(second, CUT)  # type: ignore[misc]
    (merge,) = reducer_.add(again, CUT)  # type: ignore[misc]
    assert CUT.text in merge.parts
    answer = answered(reducer_.add(merge, reply("x", [1])))
    assert answer.failure is not None
    assert (answer.status, answer.failure.code, answer.answer) == ("error", "truncated", "x")
    assert answer.pages_read == 2


@pytest.mark.parametrize(
    ("text", "endless"),
    [
        ("one two three " * 30, True),
        ("A heading\n" + "| 0 | 0 |\n" * 30, True),
        ("無限に繰り返す" * 40, True),
        ("Contents\n" + "\n".join(f"Chapter {n} ..................... {n * 7}" for n in range(60)), False),
        ("spam " * 20 + "and then the text goes on as it should, with something else in every line.", False),
        ("short short short", False),
        ("", False),
    ],
)
def test_only_a_text_that_ends_in_a_loop_loops(text: str, endless: bool) -> None:
    assert loops(text) is endless
