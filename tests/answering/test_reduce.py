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
    Box,
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


def test_of_an_engine_that_hands_on_candidates_the_only_part_left_is_merged_too() -> None:
    made = reducer(checks_parts=False)
    first, second = (settle(chunk(page(n), siblings=2, position=n - 1))[0][0] for n in (1, 2))
    made.add(first, Completion('{"candidates": []}', "stop"))
    outcome = made.add(second, Completion("", "error", failure=Failure("render_timeout", "not drawn")))
    assert isinstance(outcome, list)
    (merge,) = outcome
    assert merge.parts == ('{"candidates": []}',)
    got = answered(made.add(merge, reply("found", [1])))
    assert (got.status, got.answer, got.failure) == ("error", "found", Failure("render_timeout", "not drawn"))


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
    spent: dict[str, Any] = {
        "prompt_tokens": 100,
        "cached_tokens": 40,
        "output_tokens": 7,
        "engine_seconds": 0.5,
    }
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


# ---- what a row claims is true ----

LAYER = "The margin was -3 % in 2019, as the board said."
SURE: dict[str, Any] = {"confidence": 0.9}


def judged(completion: Completion, *pages: Page, scope: str = "document", **given: Any) -> Answer:
    """Return the answer that a completion about these pages becomes."""
    asked, settled = settle(chunk(*(pages or (page(1, LAYER),)), scope=scope))
    request, known = settled[0] if settled else (asked[0], completion)
    return answered(reducer(**given).add(request, known))


def test_a_found_quote_of_a_sure_answer_needs_no_review_and_is_in_the_row() -> None:
    got = judged(reply("-3 %", [1], "margin was -3 % in 2019", **SURE))
    assert (got.status, got.evidence_found, got.needs_review) == ("ok", True, False)
    assert got.evidence_quote == "margin was -3 % in 2019"


@pytest.mark.parametrize(
    ("pages", "quote"),
    [
        ([1], "margin was 3 % in 2019"),
        ([99], "invented words"),
        ([99], "margin was -3 % in 2019"),
        ([], "margin was -3 % in 2019"),
        ([1], "%"),
    ],
)
def test_an_invented_quote_is_not_found_and_for_review(pages: list[int], quote: str) -> None:
    got = judged(reply("x", pages, quote, **SURE))
    assert (got.evidence_found, got.needs_review, got.evidence_boxes) == (False, True, ())


def test_a_page_out_of_range_beside_a_true_one_is_for_review() -> None:
    got = judged(reply("-3 %", [1, 99], "margin was -3 % in 2019", **SURE))
    assert (got.evidence_pages, got.evidence_found, got.needs_review) == ((1,), True, True)


def test_only_the_envelopes_own_pages_are_evidence() -> None:
    schema = {"type": "object", "properties": {"page": {"type": "integer"}}}
    got = judged(Completion('{"page": 1}', "stop", **SURE), envelope=schema, field_kinds={"page": "integer"})
    assert (got.status, got.fields, got.evidence_pages, got.evidence_found) == ("ok", {"page": 1}, (), None)


def test_a_page_keeps_its_number_in_page_scope() -> None:
    assert judged(
        reply("x", [7], "as the board said", **SURE), page(7, LAYER), scope="page"
    ).evidence_pages == (7,)


def test_an_answer_that_could_have_been_quoted_and_was_not_is_for_review() -> None:
    assert judged(reply("x", [1], **SURE)).needs_review
    assert not judged(reply("x", [1], **SURE), page(1)).needs_review


def test_boxes_of_an_engine_that_reads_pages_itself_stand_in_where_no_layer_covers_the_page() -> None:
    seen = (Box(1, 10, 20, 30, 40), Box(2, 1, 2, 3, 4))
    got = judged(replace(reply("x", [1], "seen by OCR", **SURE), boxes=seen), page(1), page(2))
    assert (got.evidence_found, got.evidence_boxes) == (None, seen[:1])
    got = judged(replace(reply("x", [1], "seen by OCR", **SURE), boxes=seen))
    assert (got.evidence_found, got.evidence_boxes) == (False, ())


@pytest.mark.parametrize(
    "completion",
    [
        reply("x", [1], "as the board said"),
        reply("x", [1], "as the board said", confidence=0.4),
        reply("x", [1], "as the board said", confidence=float("nan")),
        reply(None, [], **SURE),
        reply(None, [1], "as the board said", **SURE),
        reply("  ", [1], "as the board said", **SURE),
        reply("a\ufffdb", [1], "as the board said", **SURE),
        reply("x", [1], "as the bo\ufffdrd said", **SURE),
        replace(reply("x", [1], "as the board said", **SURE), finish_reason="stop_token"),
    ],
)
def test_what_is_unsure_empty_or_damaged_is_for_review(completion: Completion) -> None:
    got = judged(completion)
    assert (got.status, got.needs_review) == ("ok", True)
    assert not judged(reply("x", [1], "as the board said", **SURE)).needs_review


@pytest.mark.parametrize(
    ("body", "review"),
    [
        ({"a": None, "b": None}, True),
        ({"a": [], "b": {"c": ""}}, True),
        ({}, True),
        ({"a": "\ufffd", "b": 1}, True),
        ({"a": None, "b": 0}, False),
        ({"a": False}, False),
    ],
)
def test_a_structured_answer_without_any_value_is_for_review(body: dict[str, Any], review: bool) -> None:
    given: dict[str, Any] = {"envelope": {"properties": {"a": {}, "b": {}}}, "field_kinds": {"a": "string"}}
    got = judged(Completion(json.dumps(body, ensure_ascii=False), "stop", **SURE), **given)
    assert (got.status, got.needs_review) == ("ok", review)


def test_an_answer_field_that_is_null_is_no_answer() -> None:
    given: dict[str, Any] = {"envelope": {"properties": {"a": {}, "b": {}}}, "answer_field": "a"}
    got = judged(Completion('{"a": null, "b": 5}', "stop", **SURE), **given)
    assert (got.status, got.answer, got.needs_review) == ("ok", None, True)


def test_an_engine_that_is_not_sure_of_a_task_has_all_its_rows_reviewed() -> None:
    assert judged(reply("x", [1], "as the board said", **SURE), review_all=True).needs_review


@pytest.mark.parametrize("doubt", ["faint", "damaged"])
def test_a_truly_blank_page_is_no_matter_for_review_and_one_with_faint_marks_or_damage_is(doubt: str) -> None:
    given: dict[str, Any] = {"blank": True, doubt: True}
    never = Completion("", "stop")
    assert not judged(never, page(1, blank=True), scope="page").needs_review
    got = judged(never, page(1, **given), scope="page")
    assert (got.status, got.answer, got.needs_review, got.requests) == ("ok", None, True, 0)
    shown = page(1, LAYER), page(2, **given)
    assert not judged(reply("x", [1], "as the board said", **SURE), *shown).needs_review
    assert judged(reply("x", [2], **SURE), *shown).needs_review


def test_a_quote_from_a_blank_page_is_not_found() -> None:
    got = judged(reply("x", [2], "as the board said", **SURE), page(1), page(2, blank=True))
    assert (got.evidence_found, got.needs_review) == (False, True)


def tokens(text: str, unsure: str, probability: float) -> Completion:
    """Return a reply one character a token, sure but for those of one passage."""
    at = text.index(unsure)
    sure = [probability if at <= i < at + len(unsure) else 0.99 for i in range(len(text))]
    return Completion(
        text, "stop", token_ends=tuple(range(1, len(text) + 1)), token_probabilities=tuple(sure)
    )


def test_one_guess_among_many_sure_tokens_asks_for_a_review() -> None:
    said = reply("The margin was -3 %, said the board.", [1], "as the board said").text
    got = judged(tokens(said, "-3", 0.05))
    assert (got.confidence, got.needs_review) == (0.05, True)
    got = judged(tokens(said, '"pages"', 0.05))
    assert (got.confidence, got.needs_review) == (0.99, False)


def parts(*runs: Sequence[Page]) -> list[Request]:
    """Return the requests about the runs of pages of one long document."""
    (whole,) = chunk(*(page for run in runs for page in run)).requests
    return [
        replace(whole, request_id=f"r{place}", pages=tuple(run), position=place, siblings=len(runs))
        for place, run in enumerate(runs)
    ]


def test_merging_makes_nothing_surer() -> None:
    made = reducer()
    one, two = parts([page(1, "Sum 1 is due.")], [page(2, "Sum 2 is due.")])
    made.add(one, tokens(reply("4711", [1], "Sum 1 is due").text, "4711", 0.2))
    (merge,) = made.add(two, tokens(reply("4712", [2], "Sum 2 is due").text, "4712", 0.8))  # type: ignore[misc]
    got = answered(made.add(merge, tokens(reply("4711", [1], "Sum 1 is due").text, "4711", 0.95)))
    assert (got.evidence_found, got.confidence, got.needs_review) == (True, 0.2, True)
    assert "4711" in merge.prompt


def test_a_quote_over_the_border_of_two_parts_is_found() -> None:
    made = reducer()
    texts = ["It begins here, goes on", "for a while and ends there.", "More."]
    requests = parts(*([page(n, text)] for n, text in enumerate(texts, 1)))
    said = reply("x", [1], "begins here, goes on for a while", **SURE)
    made.add(requests[0], said)
    made.add(requests[1], reply(None, [], **SURE))
    (merge,) = made.add(requests[2], reply(None, [], **SURE))  # type: ignore[misc]
    assert answered(made.add(merge, said)).evidence_found is True


def test_a_page_that_only_the_merge_cites_is_no_evidence() -> None:
    made = reducer()
    runs = ([page(n, f"text {n} of {n}") for n in run] for run in (range(1, 6), range(6, 10)))
    one, two = parts(*runs)
    made.add(one, reply("x", [1], "text 1", **SURE))
    (merge,) = made.add(two, reply(None, [], **SURE))  # type: ignore[misc]
    got = answered(made.add(merge, reply("x", [3], "invented", **SURE)))
    assert (got.evidence_found, got.needs_review) == (False, True)


def test_a_part_that_was_cut_never_passes_for_whole_though_nothing_is_asked_again() -> None:
    made = reducer(repair_attempts=0)
    one, two = (settle(chunk(page(n), siblings=2, position=n - 1))[0][0] for n in (1, 2))
    made.add(one, CUT)
    (merge,) = made.add(two, reply("x", [2], **SURE))  # type: ignore[misc]
    got = answered(made.add(merge, reply("x", [2], **SURE)))
    assert got.failure is not None
    assert (got.status, got.failure.code) == ("error", "truncated")


def test_of_a_long_document_only_the_texts_near_what_is_cited_are_kept() -> None:
    made = reducer()
    shown = [page(n, f"text {n}") for n in range(1, 31)]
    (request,) = chunk(*shown, siblings=2).requests
    made.add(request, tokens(reply("x", [10], "text 10").text, "x", 0.5))
    (pending,) = made._pending.values()
    assert sorted(pending.pages) == [1, 9, 10, 11, 30]
    assert all(not reply.token_ends for _, reply in pending.replies)
