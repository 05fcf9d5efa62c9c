from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline.config import ShardSettings, SinkSettings
from pipeline.errors import OutputError
from pipeline.records import (
    Answer,
    Cell,
    Completion,
    Document,
    DocumentRow,
    Failure,
    Question,
    Request,
    Subject,
)
from pipeline.tables.sink import Tables

WHOLE = ShardSettings(index=0, count=1, planned=False)
SETTINGS = SinkSettings(journal_seconds=5, journal_parts=64, checkpoint_rows=20_000)


@pytest.fixture
def tables(tmp_path: Path) -> Callable[..., Tables]:
    def open_tables(
        shard: ShardSettings = WHOLE, task: str = "qa", settings: SinkSettings = SETTINGS, **kinds: str
    ) -> Tables:
        stamp = {"model": "m", "engine": "e", "task": task, "run_id": "r", "settings_hash": "s"}
        return Tables(tmp_path / "out", shard, settings, stamp, kinds, dt.datetime(2026, 1, 1, tzinfo=dt.UTC))

    return open_tables


def document(name: str, content: str | None = None) -> Document:
    return Document(source=name, path=Path(name), kind="pdf", bytes=1, document_id=f"id-{content or name}")


def cell(name: str, question: str = "q", content: str | None = None, **gold: str) -> Cell:
    given = document(name, content)
    subject = Subject("document", name, given.document_id, (), 3)
    return Cell(f"{given.document_id}-{question}", subject, Question(question, f"{question}?", **gold))


def add(open_tables: Tables, *cells: Cell, failure: Failure | None = None, **values: Any) -> None:
    for given in cells:
        open_tables.meet(document(given.subject.source, given.subject.document_id.removeprefix("id-")))
        open_tables.want(given)
        status = "error" if failure else "ok"
        open_tables.add_answer(Answer(given, status, failure, answer=f"to {given.answer_id}", **values))


def answers(tmp_path: Path) -> pd.DataFrame:
    return pd.read_parquet(tmp_path / "out" / "answers")


def test_what_was_journaled_survives_without_publishing(
    tables: Callable[..., Tables], tmp_path: Path
) -> None:
    with tables() as first:
        add(first, cell("a"), cell("b"))
        first.commit()
        add(first, cell("c"))  # never committed: lost with the process
    with tables() as second:
        assert [second.is_finished(cell(name), True) for name in "abc"] == [True, True, False]
        add(second, cell("c"))
        for name in "ab":
            second.want(cell(name))
            second.meet(document(name))
        second.commit()
        second.publish(complete=True)
    assert sorted(answers(tmp_path)["source"]) == ["a", "b", "c"]
    assert not list((tmp_path / "out").rglob("part-*"))


def test_a_part_that_was_being_written_is_no_part(tables: Callable[..., Tables], tmp_path: Path) -> None:
    with tables() as first:
        add(first, cell("a"))
        first.commit()
    journal = tmp_path / "out" / "_journal" / "shard-0000-of-0001"
    torn = journal / "part-000002.aside"
    torn.mkdir()
    (torn / "answers.parquet").write_bytes(b"PAR1 torn")
    (tmp_path / "out" / "answers" / "shard-0000-of-0001.parquet.aside").write_bytes(b"PAR1 torn")
    with tables() as second:
        assert second.is_finished(cell("a"), True)
    assert not torn.exists()
    assert not list((tmp_path / "out" / "answers").iterdir())


def test_the_same_bytes_are_answered_once_and_appear_under_every_name(
    tables: Callable[..., Tables], tmp_path: Path
) -> None:
    with tables() as opened:
        add(opened, cell("a.pdf", content="x"))
        opened.meet(document("copy.pdf", "x"))
        opened.want(cell("copy.pdf", content="x"))
        opened.commit()
        opened.publish(complete=True)
    table = answers(tmp_path)
    assert list(table["source"]) == ["a.pdf", "copy.pdf"]
    assert table["answer_id"].nunique() == 1


def test_rows_nobody_asks_for_leave_the_table_but_are_not_lost(
    tables: Callable[..., Tables], tmp_path: Path
) -> None:
    with tables() as first:
        add(first, cell("a", "q1"), cell("a", "q2"), cell("b", "q1"))
        first.commit()
        first.publish(complete=True)
    with tables() as second:
        second.want(cell("a", "q1"))
        second.meet(document("a"))
        second.publish(complete=True)
    assert list(zip(answers(tmp_path)["source"], answers(tmp_path)["question_id"], strict=True)) == [
        ("a", "q1")
    ]
    with tables() as third:
        wanted = [cell("a", "q1"), cell("a", "q2"), cell("b", "q1")]
        assert all(third.is_finished(given, True) for given in wanted)
        for given in wanted:
            third.want(given)
            third.meet(document(given.subject.source))
        third.publish(complete=True)
    assert len(answers(tmp_path)) == 3


def test_rows_of_another_task_stay_and_columns_are_united(
    tables: Callable[..., Tables], tmp_path: Path
) -> None:
    with tables(task="qa") as first:
        add(first, cell("a", "q1"))
        first.commit()
        first.publish(complete=True)
    with tables(task="extract", total="number", tags="strings") as second:
        add(second, cell("a", "extract"), fields={"total": 3, "tags": ["x"]})
        second.commit()
        second.publish(complete=True)
    table = answers(tmp_path)
    assert list(table["task"]) == ["qa", "extract"]
    assert table["field_total"].tolist()[1] == 3.0
    assert list(table["field_tags"][1]) == ["x"]
    assert json.loads(table["fields"][1]) == {"total": 3, "tags": ["x"]}


def test_an_error_is_retried_and_a_later_answer_replaces_it(
    tables: Callable[..., Tables], tmp_path: Path
) -> None:
    broken = Failure("engine_failed", "a: the engine failed")
    with tables() as first:
        add(first, cell("a"), failure=broken)
        first.commit()
        first.publish(complete=True)
    file = next((tmp_path / "out" / "answers").iterdir())
    before = file.read_bytes()
    with tables() as second:
        assert not second.is_finished(cell("a"), retry_errors=True)
        assert second.is_finished(cell("a"), retry_errors=False)
        add(second, cell("a"), failure=broken)
        second.commit()
        second.publish(complete=True)
    assert file.read_bytes() == before
    with tables() as third:
        add(third, cell("a"))
        third.commit()
        third.publish(complete=True)
    table = answers(tmp_path)
    assert list(table["status"]) == ["ok"]
    assert table["error_code"].isna().all()


def test_gold_answers_follow_the_questions_without_asking_again(
    tables: Callable[..., Tables], tmp_path: Path
) -> None:
    with tables() as first:
        add(first, cell("a", gold_answer="old"))
        first.commit()
        first.publish(complete=True)
    with tables() as second:
        second.meet(document("a"))
        second.want(cell("a", gold_answer="new", gold_page="7"))
        second.publish(complete=True)
    assert answers(tmp_path)[["gold_answer", "gold_page"]].to_dict("records") == [
        {"gold_answer": "new", "gold_page": "7"}
    ]


def test_many_small_parts_are_rolled_into_one_and_nothing_is_lost(
    tables: Callable[..., Tables], tmp_path: Path
) -> None:
    few = replace_settings(journal_parts=5)
    with tables(settings=few) as first:
        for number in range(23):
            add(first, cell(f"d{number}"))
            first.commit()
        assert len(list((tmp_path / "out" / "_journal" / "shard-0000-of-0001").glob("part-*"))) < 10
    with tables() as second:
        assert all(second.is_finished(cell(f"d{number}"), True) for number in range(23))


def test_a_checkpoint_publishes_while_the_run_goes_on(tables: Callable[..., Tables], tmp_path: Path) -> None:
    with tables() as first:
        add(first, *(cell(f"d{number}") for number in range(6)))
        first.commit()
        first.publish(complete=True)
    with tables(settings=replace_settings(checkpoint_rows=2)) as second:
        add(second, *(cell(f"e{number}") for number in range(8)))
        second.commit()
        # The documents of the first run have not been met yet in this one: they are not dropped.
        assert len(answers(tmp_path)) == 14


def test_replies_of_an_interrupted_document_are_used_again(tables: Callable[..., Tables]) -> None:
    given = cell("long")
    request = Request("r1", given, "ask", (), "q?", 10, position=0, siblings=2)
    reply = Completion("half", "stop", prompt_tokens=10, confidence=0.5)
    with tables() as first:
        first.add_request(request, reply)
        first.add_request(
            replace(request, request_id="r2"), Completion("", "error", failure=Failure("engine_failed", "x"))
        )
        first.commit()
    with tables() as second:
        assert second.completion(request) == reply
        assert second.completion(replace(request, request_id="r2")) is None


def test_two_runs_cannot_share_an_output(tables: Callable[..., Tables]) -> None:
    with tables(), pytest.raises(OutputError, match="being written by another run"), tables():
        pass


def test_another_number_of_shards_is_refused(tables: Callable[..., Tables]) -> None:
    with tables(ShardSettings(index=0, count=2, planned=False)) as first:
        add(first, cell("a"))
        first.commit()
        first.publish(complete=True)
    with pytest.raises(OutputError, match=r"use shard\.count=2"), tables():
        pass


def test_every_file_has_the_same_types_even_without_rows(
    tables: Callable[..., Tables], tmp_path: Path
) -> None:
    with tables(ShardSettings(index=0, count=2, planned=False)) as first:
        add(first, cell("a"))
        first.add_document(DocumentRow(document("a"), 3, "ok", text_layer_pages=3, blank_pages=0))
        first.commit()
        first.publish(complete=True)
    with tables(ShardSettings(index=1, count=2, planned=False)) as second:
        second.publish(complete=True)
    for name in ("answers", "documents", "requests"):
        schemas = [pq.read_schema(file) for file in sorted((tmp_path / "out" / name).iterdir())]
        assert schemas[0] == schemas[1]


def test_the_date_in_prompts_is_that_of_the_first_run(tables: Callable[..., Tables], tmp_path: Path) -> None:
    with tables() as first:
        assert first.first_date() == dt.date(2026, 1, 1)
    (tmp_path / "out" / "_journal" / "date").write_text("2025-12-31")
    with tables() as second:
        assert second.first_date() == dt.date(2025, 12, 31)


def replace_settings(**values: int) -> SinkSettings:
    return replace(SETTINGS, **values)


def test_a_field_that_changes_its_type_is_refused_before_any_work(tables: Callable[..., Tables]) -> None:
    with tables(task="first", total="number") as first:
        add(first, cell("a"), fields={"total": 3})
        first.commit()
    with (
        pytest.raises(OutputError, match="field_total as double, not string"),
        tables(task="second", total="string"),
    ):
        pass
    with tables(task="first", total="number") as again:  # and the lock is free again
        assert again.is_finished(cell("a"), True)
