"""Shards of a plan: what each is given, what it answers, and what publishing makes of all of them."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import run
from pipeline.command import fail
from pipeline.config import RunSettings
from pipeline.errors import OutputError, SettingsError
from pipeline.flow import session
from pipeline.flow.progress import describe
from pipeline.run import execute, plan
from pipeline.sharding.balance import balance
from pipeline.sharding.progress import status
from pipeline.sharding.publish import publish
from pipeline.status import as_json, describe_run, found_in

VOLATILE = ["run_id", "created_at", "engine_seconds", "gpu_seconds", "cost"]


@given(st.lists(st.floats(0.1, 10), min_size=40, max_size=200), st.integers(1, 8))
def test_shards_are_balanced(costs: list[float], count: int) -> None:
    loads = [0.0] * count
    for cost, shard in zip(costs, balance(costs, count), strict=True):
        loads[shard] += cost
    # The last one that went to the largest shard found it the smallest.
    assert max(loads) - min(loads) <= max(costs)


def table(output: Path, name: str = "answers") -> pd.DataFrame:
    read = pd.read_parquet(output / name)
    columns = [column for column in VOLATILE if column in read] + (["raster_seconds"] * (name == "documents"))
    keys = ["source", "question_id"] if name == "answers" else ["source"]
    return read.drop(columns=columns).sort_values(keys, ignore_index=True)


@pytest.fixture
def folder(make_pdf: Callable[..., Path]) -> Path:
    """Documents of 1 to 6 pages, one of them twice, one damaged."""
    for number in range(12):
        pages = [f"Report {number}, page {page}. Its author is Ada." for page in range(1 + number % 6)]
        make_pdf(f"in/{number:02}.pdf", *pages)
    folder = make_pdf("in/sub/last.pdf", "The end. Its author is Grace.").parent.parent
    shutil.copy(folder / "03.pdf", folder / "sub" / "copy.pdf")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 broken")
    return folder


@pytest.fixture
def compose_shard(compose: Callable[..., RunSettings], folder: Path) -> Callable[..., RunSettings]:
    def make(index: int | None = None, *more: str, count: int = 3) -> RunSettings:
        shard = [f"shard.index={index}", "shard.planned=true"] if index is not None else []
        return compose(f"input={folder}", "engine=embedded", f"shard.count={count}", *shard, *more)

    return make


def test_the_tables_of_a_plan_equal_those_of_one_run(
    compose: Callable[..., RunSettings],
    compose_shard: Callable[..., RunSettings],
    folder: Path,
    tmp_path: Path,
) -> None:
    plan(compose_shard())
    for index in range(3):
        execute(compose_shard(index))
        assert not list((tmp_path / "output" / "answers").iterdir())  # until all is published, at once
    published = publish(compose_shard())
    assert not published.missing
    whole = compose(f"input={folder}", "engine=embedded", f"output={tmp_path / 'whole'}")
    summary = execute(whole)
    for name in ("answers", "documents"):
        pd.testing.assert_frame_equal(table(tmp_path / "output", name), table(tmp_path / "whole", name))
    for name in ("inputs", "inputs_ok", "inputs_error", "cells", "answered", "failed", "pages", "errors"):
        assert getattr(published.summary, name) == getattr(summary, name), name
    assert not list((tmp_path / "output" / "_journal").rglob("part-*"))


def test_every_input_with_work_is_in_one_shard_and_copies_are_in_none(
    compose_shard: Callable[..., RunSettings], tmp_path: Path
) -> None:
    plan(compose_shard())
    rows = pd.read_parquet(tmp_path / "output" / "plan.parquet").set_index("source")
    assert rows["shard"].isna().sum() == 1
    assert rows.loc["sub/copy.pdf", "duplicate_of"] == "03.pdf"
    assert set(rows["shard"].dropna()) == {0, 1, 2}
    costs = rows.groupby("shard")["gpu_seconds"].sum()
    assert costs.max() - costs.min() <= rows["gpu_seconds"].max()


def test_a_missing_shard_is_named_the_others_are_published_and_a_new_plan_has_the_rest(
    compose_shard: Callable[..., RunSettings], tmp_path: Path
) -> None:
    plan(compose_shard())
    for index in (0, 2):
        execute(compose_shard(index))
    published = publish(compose_shard())
    assert set(published.missing) == {1}
    planned = pd.read_parquet(tmp_path / "output" / "plan.parquet").set_index("source")["shard"]
    lacking = set(planned[planned == 1].index)
    assert published.missing[1] == (len(lacking), len(lacking))
    told = (tmp_path / "output" / "summary.md").read_text()
    assert (
        f"- shard 1: {len(lacking)} answers about {len(lacking)} inputs are missing: no task has worked"
        in told
    )
    assert [line.split(" | ")[0] for line in told.splitlines() if "| complete |" in line] == ["| 0", "| 2"]
    there = set(table(tmp_path / "output")["source"])
    assert there == set(planned.index) - lacking - ({"sub/copy.pdf"} if "03.pdf" in lacking else set())

    plan(compose_shard(count=2))
    again = pd.read_parquet(tmp_path / "output" / "plan.parquet").set_index("source")["shard"]
    assert set(again.dropna().index) - {"broken.pdf"} == lacking - {"broken.pdf"}
    for index in range(2):
        execute(compose_shard(index, count=2))
    assert not publish(compose_shard(count=2)).missing
    assert "Missing" not in (tmp_path / "output" / "summary.md").read_text()
    assert len(table(tmp_path / "output")) == 15


def test_a_plan_publishes_first_what_an_earlier_plan_left_behind(
    compose_shard: Callable[..., RunSettings], tmp_path: Path
) -> None:
    plan(compose_shard())
    execute(compose_shard(0))
    answered = status(str(tmp_path / "output")).shards[0].answers
    plan(compose_shard())
    assert (table(tmp_path / "output")["status"] == "ok").sum() == answered
    rest = sum(execute(compose_shard(index)).answered for index in range(3))
    assert not publish(compose_shard()).missing
    assert (table(tmp_path / "output")["status"] == "ok").sum() == 14
    assert answered + rest == 13  # and one copy


def test_changed_added_and_removed_documents(
    compose_shard: Callable[..., RunSettings], make_pdf: Callable[..., Path], folder: Path, tmp_path: Path
) -> None:
    def night() -> int:
        plan(compose_shard())
        asked = sum(execute(compose_shard(index)).requests for index in range(3))
        assert not publish(compose_shard()).missing
        return asked

    night()
    before = table(tmp_path / "output").set_index("source")
    make_pdf("in/00.pdf", "Changed. Its author is Alan.")
    make_pdf("in/new.pdf", "New. Its author is Barbara.")
    (folder / "11.pdf").unlink()
    assert night() == 2
    after = table(tmp_path / "output").set_index("source")
    assert set(after.index) == set(before.index) - {"11.pdf"} | {"new.pdf"}
    assert after.loc["00.pdf", "document_id"] != before.loc["00.pdf", "document_id"]
    kept = sorted(set(before.index) - {"11.pdf", "00.pdf"})
    pd.testing.assert_frame_equal(after.loc[kept], before.loc[kept])
    assert night() == 0


def test_a_document_that_changes_between_plan_and_task_is_answered_as_it_is(
    compose_shard: Callable[..., RunSettings], make_pdf: Callable[..., Path], tmp_path: Path
) -> None:
    plan(compose_shard())
    make_pdf("in/05.pdf", "Replaced. Its author is Alan.")
    for index in range(3):
        execute(compose_shard(index))
    assert not publish(compose_shard()).missing
    row = table(tmp_path / "output").set_index("source").loc["05.pdf"]
    assert row["pages_total"] == 1
    assert len(table(tmp_path / "output")) == 15


def test_folders_that_are_asked_about_as_a_whole_are_not_divided(
    compose_shard: Callable[..., RunSettings], tmp_path: Path
) -> None:
    more = ("task.scope=folder",)
    plan(compose_shard(None, *more, count=2))
    rows = pd.read_parquet(tmp_path / "output" / "plan.parquet")
    folders = rows["source"].str.rpartition("/")[0]
    assert (rows.groupby(folders)["shard"].nunique() == 1).all()
    for index in range(2):
        execute(compose_shard(index, *more, count=2))
    assert not publish(compose_shard(None, *more, count=2)).missing
    assert sorted(table(tmp_path / "output")["source"]) == [".", "sub"]


def test_a_task_refuses_a_plan_of_another_size_or_for_other_answers(
    compose_shard: Callable[..., RunSettings],
) -> None:
    with pytest.raises(OutputError, match="has no plan"):
        execute(compose_shard(0))
    plan(compose_shard())
    with pytest.raises(OutputError, match=r"the plan has 3 shards, not 4; use shard\.count=3"):
        execute(compose_shard(0, count=4))
    with pytest.raises(SettingsError, match="made with other settings"):
        execute(compose_shard(0, "task=transcribe"))
    with pytest.raises(SettingsError, match="made with other settings"):
        publish(compose_shard(None, "task=transcribe"))


def test_the_status_of_a_plan(compose_shard: Callable[..., RunSettings], tmp_path: Path) -> None:
    output = str(tmp_path / "output")
    with pytest.raises(SettingsError, match="no such folder"):
        status(output)
    plan(compose_shard())
    assert [shard.state for shard in status(output).shards] == ["waiting"] * 3
    done = execute(compose_shard(1))
    found = status(output)
    assert [shard.state for shard in found.shards] == ["waiting", "done", "waiting"]
    assert (found.shards[1].pages_done, found.shards[1].answers) == (found.shards[1].pages, done.answered)
    assert sum(shard.documents for shard in found.shards) == 14
    assert found.documents == 15


def test_the_status_of_a_run_without_a_plan(
    compose: Callable[..., RunSettings], folder: Path, tmp_path: Path
) -> None:
    output = str(tmp_path / "output")
    Path(output).mkdir()
    with pytest.raises(OutputError, match="no run has begun here"):
        found_in(output)
    settings = compose(f"input={folder}", "engine=embedded", "sink.journal_seconds=0")
    with session.opened(settings, lambda: run.inputs(settings)) as open_run:
        open_run.record("running")
        open_run.account.summary.inputs_done = 5
        open_run.record("running")
        _, (seen,) = found_in(output)
        assert (seen.state, seen.inputs_done, seen.inputs) == ("running", 5, 15)
        assert f"process {os.getpid()}" in seen.where and seen.seconds_left is not None
    _, (seen,) = found_in(output)
    # Its lock is gone, and it has not said how it ended.
    assert seen.state == "died" and "run again" in seen.reason
    done = execute(settings)
    plan_, (seen,) = found_in(output)
    assert plan_ is None
    assert (seen.state, seen.inputs_done, seen.answered) == ("complete", 15, done.answered)
    assert "complete: describe" in describe_run(seen) and "15 of 15 (100%)" in describe_run(seen)
    assert json.loads(as_json(None, [seen]))["runs"][0]["pages"] == done.pages


def test_a_damaged_plan_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "plan.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(OutputError, match=r"plan\.parquet: cannot be read \(.*\); plan again"):
        status(str(tmp_path))


def test_a_clock_that_is_behind_that_of_the_run_gives_no_negative_time(
    compose: Callable[..., RunSettings], folder: Path, tmp_path: Path
) -> None:
    settings = compose(f"input={folder}", "engine=embedded")
    with session.opened(settings, lambda: run.inputs(settings)) as open_run:
        open_run.account.begun += dt.timedelta(hours=1)
        open_run.account.summary.inputs_done = 5
        open_run.record("running")
        _, (seen,) = found_in(str(tmp_path / "output"))
    assert seen.seconds == 0.0


def test_names_with_line_breaks_stay_on_their_line(
    compose: Callable[..., RunSettings], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "two\nlines\x1b[2J.pdf").write_bytes(b"%PDF-1.7 broken")
    settings = compose(f"input={tmp_path / 'in'}", "engine=embedded")
    shown = [plan(settings), describe(execute(settings), settings.output)]
    with pytest.raises(SystemExit):
        fail(SettingsError("input=two\nlines: there is no such file"))
    shown.append(capfd.readouterr().err)
    for text in shown:
        assert "two\\nlines" in text and "\x1b" not in text


@pytest.mark.parametrize(("scope", "name"), [("document", "03.pdf"), ("folder", "sub/last.pdf")])
def test_what_is_missing_is_said_of_the_shard_that_was_to_answer_it(
    compose_shard: Callable[..., RunSettings], folder: Path, tmp_path: Path, scope: str, name: str
) -> None:
    for number in range(6, 12):
        (folder / f"{number:02}.pdf").unlink()
    more = ["task=qa", "task.question=Who is the author?", f"task.scope={scope}"]
    plan(compose_shard(None, *more))
    planned = pd.read_parquet(tmp_path / "output" / "plan.parquet").set_index("source")["shard"]
    lacking = int(planned[name])
    # To tell it from the shard that others would be said of by default.
    assert lacking != 0
    for index in {0, 1, 2} - {lacking}:
        execute(compose_shard(index, *more))
    assert set(publish(compose_shard(None, *more)).missing) == {lacking}
