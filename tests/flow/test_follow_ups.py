"""Questions that are asked only where an earlier answer says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import scripted

from pipeline.asking import condition
from pipeline.config import RunSettings
from pipeline.errors import SettingsError
from pipeline.records import Condition, Request
from pipeline.run import execute, plan

HEAD = "question_id,question,when\n"
ROWS = (
    HEAD
    + """signed,Is it signed?,
who,Who signed it?,signed == 'yes'
why,Why did they?,who != 'nobody'
"""
)


def reply(request: Request) -> scripted.Play:
    """Say that what is in a.pdf is signed, by Ada, and that nothing else is."""
    answers = {"signed": "Yes." if request.cell.subject.source == "a.pdf" else "no", "who": "Ada", "why": "?"}
    said = {"answer": answers[request.cell.question.question_id], "pages": [1], "quote": None}
    return scripted.says(json.dumps(said))


@pytest.fixture
def settings(
    compose: Callable[..., RunSettings], make_pdf: Callable[..., Path], tmp_path: Path
) -> Callable[..., RunSettings]:
    make_pdf("in/a.pdf", *(f"Page {number}" for number in range(4)))
    folder = make_pdf("in/b.pdf", "A letter.").parent
    file = tmp_path / "questions.csv"

    def make(*more: str, rows: str = ROWS) -> RunSettings:
        file.write_text(rows)
        return compose(f"input={folder}", "engine=vllm", "task=qa", f"task.questions={file}", *more)

    return make


def statuses(settings: RunSettings) -> dict[tuple[str, str], str]:
    table = pd.read_parquet(Path(settings.output) / "answers")
    return {(row.source, row.question_id): row.status for row in table.itertuples()}


@pytest.mark.parametrize(
    "packing", [[], ["pack.max_images=1"], ["pack.max_images=1", "pack.window_tokens=4000"]]
)
def test_a_question_is_asked_where_the_answer_before_says_so(
    settings: Callable[..., RunSettings], monkeypatch: pytest.MonkeyPatch, packing: list[str]
) -> None:
    """Also where the document is read in parts, each in a window of its own."""
    engine = scripted.install(monkeypatch, reply)
    summary = execute(settings(*packing))
    assert statuses(settings()) == {
        ("a.pdf", "signed"): "ok", ("a.pdf", "who"): "ok", ("a.pdf", "why"): "ok",
        ("b.pdf", "signed"): "ok", ("b.pdf", "who"): "not_asked", ("b.pdf", "why"): "not_asked",
    }  # fmt: skip
    assert (summary.cells, summary.answered, summary.not_asked, summary.failed) == (6, 4, 2, 0)
    asked = [(r.cell.subject.source, r.cell.question.question_id) for r in engine.asked if r.kind == "ask"]
    assert ("b.pdf", "who") not in asked
    assert len(asked) == 1 + 3 * (4 if packing else 1)
    assert asked.index(("a.pdf", "signed")) < asked.index(("a.pdf", "who")) < asked.index(("a.pdf", "why"))

    engine.asked.clear()
    again = execute(settings(*packing))
    assert (engine.asked, again.reused, again.not_asked, again.pages) == ([], 4, 2, 0)


def test_another_condition_asks_what_was_not_asked(
    settings: Callable[..., RunSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = scripted.install(monkeypatch, reply)
    execute(settings())
    engine.asked.clear()
    summary = execute(settings(rows=ROWS.replace("signed ==", "signed !=")))
    assert [(r.cell.subject.source, r.cell.question.question_id) for r in engine.asked] == [
        ("b.pdf", "who"),
        ("b.pdf", "why"),
    ]
    assert summary.not_asked == 0  # and what was answered before is kept


def test_a_question_behind_one_that_failed_is_asked_once_that_is_answered(
    settings: Callable[..., RunSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.install(monkeypatch, lambda r: scripted.fails())
    assert (execute(settings()).failed, statuses(settings())["a.pdf", "who"]) == (2, "not_asked")
    engine = scripted.install(monkeypatch, reply)
    execute(settings("retry_errors=false"))
    assert engine.asked == []
    assert execute(settings()).not_asked == 2
    assert statuses(settings())["a.pdf", "why"] == "ok"


def test_a_plan_counts_follow_up_questions_apart(settings: Callable[..., RunSettings]) -> None:
    assert "requests        6 (and 0 merges of long documents); 4 of them only where `when` holds" in plan(
        settings()
    )


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('q1 == "yes"', Condition("q1", True, "yes")),
        ("q 1 != 'not at all'", Condition("q 1", False, "not at all")),
        ("q1==5", Condition("q1", True, "5")),
        ("  ", None),
    ],
)
def test_conditions_are_read(text: str, read: Condition | None) -> None:
    assert condition.parse(text) == read


@pytest.mark.parametrize(
    ("when", "says"),
    [
        ("signed = yes", "when: signed = yes: write question_id =="),
        ("sealed == yes", "`when` names sealed, which is no question_id"),
        ("who == yes", "`when` waits for its own answer"),
        ("again == yes\nagain,Who signed it?,", "`when` waits for its own answer"),
    ],
)
def test_a_condition_that_cannot_be_met_is_refused(
    settings: Callable[..., RunSettings], when: str, says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        execute(settings(rows=f"{HEAD}signed,Is it signed?,\nwho,Who signed it?,{when}\n"))


@pytest.mark.parametrize("is_new", [True, False])
def test_the_same_words_under_two_ids_are_asked_where_either_is_to_be(
    settings: Callable[..., RunSettings], monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    twice = "signed,Is it signed?,\nagain,Is it signed?,\n"
    if not is_new:  # the leading answer is there already, under the first id
        scripted.install(monkeypatch, reply)
        execute(settings(rows=HEAD + twice))
    who = "who,Who signed it?,again == 'yes'\nwhy,Why did they?,again == 'never'\n"
    scripted.install(monkeypatch, reply)
    done = settings(rows=HEAD + twice + who + "anyway,Why did they?,signed != 'never'\n")
    execute(done)
    found = statuses(done)
    assert [found["a.pdf", name] for name in ("signed", "again", "who", "why", "anyway")] == ["ok"] * 5
    assert found["b.pdf", "who"] == "not_asked"
    assert found["b.pdf", "why"] == found["b.pdf", "anyway"] == "ok"
