from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline import store
from pipeline.config import ShardSettings, SinkSettings
from pipeline.errors import OutputError
from pipeline.records import (
    Answer,
    Cell,
    Charge,
    Completion,
    Document,
    DocumentRow,
    Failure,
    Outline,
    Question,
    Request,
    Subject,
)
from pipeline.tables.rows import Stamp
from pipeline.tables.sink import Tables, opened

WHOLE = ShardSettings(index=0, count=1, planned=False)
SETTINGS = SinkSettings(journal_seconds=5, journal_parts=64, checkpoint_rows=20_000)


@pytest.fixture
def tables(tmp_path: Path) -> Callable[..., AbstractContextManager[Tables]]:
    def open_tables(
        shard: ShardSettings = WHOLE, task: str = "qa", settings: SinkSettings = SETTINGS, **kinds: str
    ) -> AbstractContextManager[Tables]:
        stamp = Stamp(model="m", engine="e", task=task, run_id="r", settings_hash="s")
        return opened(tmp_path / "out", shard, settings, stamp, kinds)

    return open_tables


def document(name: str, content: str | None = None) -> Document:
    return Document(source=name, path=Path(name), kind="pdf", bytes=1, document_id=f"id-{content or name}")


def cell(name: str, question: str = "q", content: str | None = None, **gold: str) -> Cell:
    given = document(name, content)
    subject = Subject("document", name, given.document_id, (), 3)
    asked = replace(Question(question, f"{question}?"), **gold)  # type: ignore[arg-type]
    return Cell(f"{given.document_id}-{question}", subject, asked)


def add(open_tables: Tables, *cells: Cell, failure: Failure | None = None, **values: Any) -> None:
    for given in cells:
        open_tables.wanted.add_document(
            document(given.subject.source, given.subject.document_id.removeprefix("id-"))
        )
        open_tables.wanted.want(given)
        status = "error" if failure else "ok"
        open_tables.sink.add_answer(Answer(given, status, failure, answer=f"to {given.answer_id}", **values))


def answers(tmp_path: Path) -> pd.DataFrame:
    return pd.read_parquet(tmp_path / "out" / "answers")


def test_what_was_journaled_survives_without_publishing(
    tables: Callable[..., AbstractContextManager[Tables]], tmp_path: Path
) -> None:
    with tables() as first:
        add(first, cell("a"), cell("b"))
        first.sink.commit()
        add(first, cell("c"))  # never committed: lost with the process
    with tables() as second:
        assert [second.known.is_finished(cell(name), True) for name in "abc"] == [True, True, False]
        add(second, cell("c"))
        for name in "ab":
            second.wanted.want(cell(name))
            second.wanted.add_document(document(name))
        second.sink.commit()
        second.sink.publish(complete=True)
    assert sorted(answers(tmp_path)["source"]) == ["a", "b", "c"]
    assert not list((tmp_path / "out").rglob("part-*"))


def test_a_part_that_was_being_written_is_no_part(
    tables: Callable[..., AbstractContextManager[Tables]], tmp_path: Path
) -> None:
    with tables() as first:
        add(first, cell("a"))
        first.sink.commit()
    journal = tmp_path / "out" / "_journal" / "shard-0000-of-0001"
    torn = journal / "part-000002.aside"
    torn.mkdir()
    (torn / "answers.parquet").write_bytes(b"PAR1 torn")
    (tmp_path / "out" / "answers" / "shard-0000-of-0001.parquet.aside").write_bytes(b"PAR1 torn")
    with tables() as second:
        assert second.known.is_finished(cell("a"), True)
    assert not torn.exists()
    assert not list((tmp_path / "out" / "answers").iterdir())


def test_what_a_killed_run_was_publishing_is_not_read(
    tables: Callable[..., AbstractContextManager[Tables]], tmp_path: Path
) -> None:
    with tables() as first:
        add(first, cell("a"))
        first.sink.commit()
        first.sink.publish(complete=True)
    file = first.layout.published("answers")
    store.aside(file).write_bytes(file.read_bytes())  # whole, but killed before the rename
    assert list(answers(tmp_path)["source"]) == ["a"]


def test_the_same_bytes_are_answered_once_and_appear_under_every_name(
    tables: Callable[..., AbstractContextManager[Tables]], tmp_path: Path
) -> None:
    with tables() as first:
        add(first, cell("a.pdf", content="x"))
        first.wanted.add_document(document("copy.pdf", "x"))
        first.wanted.want(cell("copy.pdf", content="x"))
        first.sink.commit()
        first.sink.publish(complete=True)
    table = answers(tmp_path)
    assert list(table["source"]) == ["a.pdf", "copy.pdf"]
    assert table["answer_id"].nunique() == 1


def test_of_two_names_of_the_same_bytes_both_stay_until_they_are_met(
    tables: Callable[..., AbstractContextManager[Tables]], tmp_path: Path
) -> None:
    both = [cell("a.pdf", content="x"), cell("b.pdf", content="x")]
    with tables() as first:
        add(first, both[0])
        first.wanted.add_document(document("b.pdf", "x"))
        first.wanted.want(both[1])
        first.sink.commit()
        first.sink.publish(complete=True)
    with tables() as second:  # has met none of them when it has to stop, then one
        second.sink.publish(complete=False)
        assert list(answers(tmp_path)["source"]) == ["a.pdf", "b.pdf"]
        add(second, both[1])
        second.sink.commit()
        second.sink.publish(complete=False)
    assert sorted(answers(tmp_path)["source"]) == ["a.pdf", "b.pdf"]


@pytest.mark.parametrize("gone", ["a.pdf", "b.pdf"])
def test_of_two_names_of_the_same_bytes_the_one_that_is_there_keeps_its_rows_of_other_tasks(
    tables: Callable[..., AbstractContextManager[Tables]], tmp_path: Path, gone: str
) -> None:
    with tables(task="qa") as first:
        add(first, cell("a.pdf", content="x"))
        first.wanted.add_document(document("b.pdf", "x"))
        first.wanted.want(cell("b.pdf", content="x"))
        first.sink.commit()
        first.sink.publish(complete=True)
    for left in (["a.pdf", "b.pdf"], [name for name in ("a.pdf", "b.pdf") if name != gone]):
        with tables(task="other") as second:
            for name in left:
                add(second, cell(name, "other", content="x"))
            second.sink.commit()
            second.sink.publish(complete=True)
        table = answers(tmp_path)
        assert sorted(table["source"][table["task"] == "qa"]) == left


def test_rows_nobody_asks_for_leave_the_table_but_are_not_lost(
    tables: Callable[..., AbstractContextManager[Tables]], tmp_path: Path
) -> None:
    with tables() as first:
        add(first, cell("a", "q1"), cell("a", "q2"), cell("b", "q1"))
        first.sink.commit()
        first.sink.publish(complete=True)
    with tables() as second:
        second.wanted.want(cell("a", "q1"))
        second.wanted.add_document(document("a"))
        second.sink.publish(complete=True)
    assert list(zip(answers(tmp_path)["source"], answers(tmp_path)["question_id"], strict=True)) == [
        ("a", "q1")
    ]
    with tables() as third:
        wanted = [cell("a", "q1"), cell("a", "q2"), cell("b", "q1")]
        assert all(third.known.is_finished(given, True) for given in wanted)
        for given in wanted:
            third.wanted.want(given)
            third.wanted.add_document(document(given.subject.source))
        third.sink.publish(complete=True)
    assert len(answers(tmp_path)) == 3


def test_rows_of_another_task_stay_and_columns_are_united(
    tables: Callable[..., AbstractContextManager[Tables]], tmp_path: Path
) -> None:
    with tables(task="qa") as first:
        add(first, cell("a", "q1"))
        first.sink.commit()
        first.sink.publish(complete=True)
    with tables(task="extract", total="number", tags="strings") as second:
        add(second, cell("a", "extract"), fields={"total": 3, "tags": ["x"]})
        second.sink.commit()
        second.sink.publish(complete=True)
    table = answers(tmp_path)
    assert list(table["task"]) == ["qa", "extract"]
    assert table["field_total"].tolist()[1] == 3.0
    assert list(table["field_tags"][1]) == ["x"]
    assert json.loads(table["fields"][1]) == {"total": 3, "tags": ["x"]}


def test_an_error_is_retried_and_a_later_answer_replaces_it(
    tables: Callable[..., AbstractContextManager[Tables]], tmp_path: Path
) -> None:
    broken = Failure("engine_failed", "a: the engine failed")
    with tables() as first:
        add(first, cell("a"), failure=broken)
        first.sink.commit()
        first.sink.publish(complete=True)
    file = next((tmp_path / "out" / "answers").iterdir())
    before = file.read_bytes()
    with tables() as second:
        assert not second.known.is_finished(cell("a"), retry_errors=True)
        assert second.known.is_finished(cell("a"), retry_errors=False)
        add(second, cell("a"), failure=broken)
        second.sink.commit()
        second.sink.publish(complete=True)
    assert file.read_bytes() == before
    with tables() as third:
        add(third, cell("a"))
        third.sink.commit()
        third.sink.publish(complete=True)
    table = answers(tmp_path)
    assert list(table["status"]) == ["ok"]
    assert table["error_code"].isna().all()


def test_gold_answers_follow_the_questions_without_asking_again(
    tables: Callable[..., AbstractContextManager[Tables]], tmp_path: Path
) -> None:
    with tables() as first:
        add(first, cell("a", gold_answer="old"))
        first.sink.commit()
        first.sink.publish(complete=True)
    with tables() as second:
        second.wanted.add_document(document("a"))
        second.wanted.want(cell("a", gold_answer="new", gold_page="7"))
        second.sink.publish(complete=True)
    assert answers(tmp_path)[["gold_answer", "gold_page"]].to_dict("records") == [
        {"gold_answer": "new", "gold_page": "7"}
    ]


def test_many_small_parts_are_rolled_into_one_and_nothing_is_lost(
    tables: Callable[..., AbstractContextManager[Tables]], tmp_path: Path
) -> None:
    few = replace_settings(journal_parts=5)
    with tables(settings=few) as first:
        for number in range(23):
            add(first, cell(f"d{number}"))
            first.sink.commit()
        assert len(list((tmp_path / "out" / "_journal" / "shard-0000-of-0001").glob("part-*"))) < 10
    with tables() as second:
        assert all(second.known.is_finished(cell(f"d{number}"), True) for number in range(23))


def test_a_checkpoint_publishes_while_the_run_goes_on(
    tables: Callable[..., AbstractContextManager[Tables]], tmp_path: Path
) -> None:
    with tables() as first:
        add(first, *(cell(f"d{number}") for number in range(6)))
        first.sink.commit()
        first.sink.publish(complete=True)
    with tables(settings=replace_settings(checkpoint_rows=2)) as second:
        add(second, *(cell(f"e{number}") for number in range(8)))
        second.sink.commit()
        # The documents of the first run have not been met yet in this one: they are not dropped.
        assert len(answers(tmp_path)) == 14


def test_a_request_is_charged_once_when_writing_it_fails_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp = Stamp(model="m", engine="e", task="qa", run_id="r", settings_hash="s")
    with opened(
        tmp_path / "out", WHOLE, SETTINGS, stamp, {}, lambda work: [Charge(1.0, 2.0)] * len(work)
    ) as t:
        for number in range(2):
            given = cell(f"{number}.pdf")
            request = Request(f"r{number}", given, "ask", (), "q?", 10)
            t.sink.add_request(request, Completion("yes", "stop"), 1.0)
            add(t, given)
            if number == 0:
                with monkeypatch.context() as failing, pytest.raises(OutputError):
                    failing.setattr(store.disk, "mkdir", lambda *_: (_ for _ in ()).throw(OSError(5, "no")))
                    t.sink.commit()
        t.sink.commit()
        t.sink.publish(complete=True)
    for name in ("answers", "requests"):
        table = pd.read_parquet(tmp_path / "out" / name)
        assert (list(table["gpu_seconds"]), list(table["cost"])) == ([1.0, 1.0], [2.0, 2.0])


def test_replies_of_an_interrupted_document_are_used_again(
    tables: Callable[..., AbstractContextManager[Tables]],
) -> None:
    given = cell("long")
    request = Request("r1", given, "ask", (), "q?", 10, position=0, siblings=2)
    reply = Completion("half", "stop", prompt_tokens=10, confidence=0.5)
    with tables() as first:
        first.sink.add_request(request, reply)
        first.sink.add_request(
            replace(request, request_id="r2"), Completion("", "error", failure=Failure("engine_failed", "x"))
        )
        first.sink.commit()
    with tables() as second:
        assert second.known.replies.get(request) == reply
        assert second.known.replies.get(replace(request, request_id="r2")) is None


def test_two_runs_cannot_share_an_output(tables: Callable[..., AbstractContextManager[Tables]]) -> None:
    with tables(), pytest.raises(OutputError, match="being written by another run"), tables():
        pass


def test_another_number_of_shards_is_refused(tables: Callable[..., AbstractContextManager[Tables]]) -> None:
    with tables(ShardSettings(index=0, count=2, planned=False)) as first:
        add(first, cell("a"))
        first.sink.commit()
        first.sink.publish(complete=True)
    with pytest.raises(OutputError, match=r"use shard\.count=2"), tables():
        pass


def test_every_file_has_the_same_types_even_without_rows(
    tables: Callable[..., AbstractContextManager[Tables]], tmp_path: Path
) -> None:
    with tables(ShardSettings(index=0, count=2, planned=False)) as first:
        add(first, cell("a"))
        first.sink.add_document(
            replace(DocumentRow.of(Outline(document("a"))), text_layer_pages=3, blank_pages=0)
        )
        first.sink.commit()
        first.sink.publish(complete=True)
    with tables(ShardSettings(index=1, count=2, planned=False)) as second:
        second.sink.publish(complete=True)
    for name in ("answers", "documents", "requests"):
        schemas = [pq.read_schema(file) for file in sorted((tmp_path / "out" / name).iterdir())]
        assert schemas[0] == schemas[1]


def test_the_date_in_prompts_is_that_of_the_first_run(
    tables: Callable[..., AbstractContextManager[Tables]], tmp_path: Path
) -> None:
    with tables() as first:
        assert first.layout.first_date(dt.date(2026, 1, 1)) == dt.date(2026, 1, 1)
    (tmp_path / "out" / "_journal" / "date").write_text("2025-12-31")
    with tables() as second:
        assert second.layout.first_date(dt.date(2026, 1, 1)) == dt.date(2025, 12, 31)


def replace_settings(**values: int) -> SinkSettings:
    return replace(SETTINGS, **values)


def test_a_field_that_changes_its_type_is_refused_before_any_work(
    tables: Callable[..., AbstractContextManager[Tables]],
) -> None:
    with tables(task="first", total="number") as first:
        add(first, cell("a"), fields={"total": 3})
        first.sink.commit()
    with (
        pytest.raises(OutputError, match="field_total as double, not string"),
        tables(task="second", total="string"),
    ):
        pass
    with tables(task="first", total="number") as again:  # and the lock is free again
        assert again.known.is_finished(cell("a"), True)


def test_a_type_that_differs_in_another_shard_is_refused_before_any_work(
    tables: Callable[..., AbstractContextManager[Tables]],
) -> None:
    with tables(ShardSettings(index=0, count=2, planned=False), total="number") as first:
        add(first, cell("a"), fields={"total": 3})
        first.sink.commit()  # journaled alone
    with (
        pytest.raises(OutputError, match="field_total as double, not string"),
        tables(ShardSettings(index=1, count=2, planned=False), total="string"),
    ):
        pass


def test_rows_that_leave_are_counted_with_the_reason(
    tables: Callable[..., AbstractContextManager[Tables]], tmp_path: Path
) -> None:
    with tables() as first:
        add(first, cell("gone"), cell("changed"), cell("stays", "q1"), cell("stays", "q2"))
        first.sink.commit()
        first.sink.publish(complete=True)
    with tables() as second:
        second.wanted.add_document(document("changed", "other bytes"))
        add(second, cell("stays", "q1"))
        second.sink.commit()
        second.sink.publish(complete=True)
        left = second.sink.rows_left
    assert left == {
        "of files that are not among the inputs": 1,
        "of files that have changed": 1,
        "of questions, or settings, that are not asked with now": 1,
    }
    assert answers(tmp_path)["source"].tolist() == ["stays"]


def test_tables_are_never_emptied(
    tables: Callable[..., AbstractContextManager[Tables]], tmp_path: Path
) -> None:
    with tables() as first:
        add(first, cell("a"), cell("b"))
        first.sink.commit()
        first.sink.publish(complete=True)
    with tables() as second:
        second.wanted.add_document(document("c"))
        with pytest.raises(OutputError, match="none of its 2 answers"):
            second.sink.publish(complete=True)
    assert answers(tmp_path)["source"].tolist() == ["a", "b"]
    assert not list((tmp_path / "out").rglob("*.aside"))


def test_a_row_that_does_not_fit_is_an_error_and_the_others_are_kept(
    tables: Callable[..., AbstractContextManager[Tables]], tmp_path: Path
) -> None:
    with tables(task="extract", number="integer") as first:
        add(first, cell("a"), fields={"number": 7})
        add(first, cell("b"), fields={"number": 2**70})
        add(first, cell("c"), fields={"number": 9})
        first.sink.commit()
        first.sink.publish(complete=True)
    table = answers(tmp_path).set_index("source")
    assert table["status"].to_dict() == {"a": "ok", "b": "error", "c": "ok"}
    assert table["error_code"]["b"] == "schema_invalid"
    with tables(task="extract", number="integer") as second:
        assert not second.known.is_finished(cell("b"), retry_errors=True)


def test_an_answer_made_by_other_settings_is_made_again(
    tables: Callable[..., AbstractContextManager[Tables]], tmp_path: Path
) -> None:
    request = Request("r1", cell("a"), "ask", (), "q?", 10)
    with tables() as first:
        first.sink.add_request(
            request, Completion("said", "stop", token_ends=(4,), token_probabilities=(0.5,))
        )
        add(first, cell("a"))
        first.sink.commit()
        first.sink.publish(complete=True)
    stamp = Stamp(model="m", engine="e", task="qa", run_id="r2", settings_hash="other")
    with opened(tmp_path / "out", WHOLE, SETTINGS, stamp, {}) as second:
        assert not second.known.is_finished(cell("a"), retry_errors=True)
        stored = second.known.replies.get(request)
        assert stored is not None
        assert (stored.text, stored.token_ends, stored.token_probabilities) == ("said", (4,), (0.5,))
        add(second, cell("a"), evidence_quote="now quoted")
        second.sink.commit()
        second.sink.publish(complete=True)
    (row,) = answers(tmp_path).to_dict("records")
    assert (row["settings_hash"], row["evidence_quote"]) == ("other", "now quoted")


def test_what_a_server_says_it_took_costs_its_own_row_where_no_column_holds_it(
    tables: Callable[..., AbstractContextManager[Tables]], tmp_path: Path
) -> None:
    with tables() as first:
        for name, count in (("a", 7), ("b", 2**70)):
            request = Request(name, cell(name), "ask", (), "q?", 10)
            first.sink.add_request(request, Completion("said", "stop", prompt_tokens=count))
            add(first, cell(name), prompt_tokens=count)
        first.sink.commit()
        first.sink.publish(complete=True)
    for table in (answers(tmp_path), pd.read_parquet(tmp_path / "out" / "requests")):
        assert table.set_index("source")["status"].to_dict() == {"a": "ok", "b": "error"}
        assert table["error"][1].startswith("b, q: ")
    with tables() as second:
        assert not second.known.is_finished(cell("b"), retry_errors=True)
        assert second.known.replies.get(Request("b", cell("b"), "ask", (), "q?", 10)) is None


def test_an_answer_of_nothing_that_does_not_fit_stays_nothing(
    tables: Callable[..., AbstractContextManager[Tables]], tmp_path: Path
) -> None:
    with tables() as first:
        first.wanted.add_document(document("a"))
        first.wanted.want(cell("a"))
        first.sink.add_answer(Answer(cell("a"), "ok", answer=None, output_tokens=2**70))
        first.sink.commit()
        first.sink.publish(complete=True)
    assert answers(tmp_path)["status"].tolist() == ["error"]
    assert answers(tmp_path)["answer"].isna().all()


def test_a_shard_has_the_last_word_over_what_left_the_tables_before_it(
    tables: Callable[..., AbstractContextManager[Tables]], tmp_path: Path
) -> None:
    with tables() as first:
        add(first, cell("a"), cell("a", "old"), failure=Failure("truncated", "cut"))
        first.sink.commit()
        first.sink.publish(complete=True)
    with tables() as second:  # nobody asks for "old" any more: its row stays in the journal
        add(second, cell("a"))
        second.sink.commit()
        second.sink.publish(complete=True)
    with tables(ShardSettings(index=0, count=2, planned=True)) as shard:
        add(shard, cell("a", "old"))
        shard.sink.commit()
    with tables() as whole:
        assert whole.known.is_finished(cell("a", "old"), retry_errors=True)
        for each in (cell("a"), cell("a", "old")):
            whole.wanted.want(each)
        whole.wanted.add_document(document("a"))
        whole.sink.publish(complete=True)
    assert answers(tmp_path).set_index("question_id")["status"].to_dict() == {"q": "ok", "old": "ok"}
