"""Whole runs over object storage give the tables that a disk gives, with every command that reads them."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import SECRET
from faulty_proxy import BUSY, CUT, PASS, Proxy

import pipeline
from pipeline import objects, store
from pipeline.config import RunSettings
from pipeline.objects import Place
from pipeline.run import execute, pilot, plan
from pipeline.sharding.publish import publish
from pipeline.status import found_in

VOLATILE = ["run_id", "created_at", "engine_seconds", "gpu_seconds", "cost"]
QUESTIONS = ["Who is the author?", "When did the parcel leave?"]
FEW = {"raster.workers": 1, "engine.workers": 1}


@pytest.fixture
def folder(make_pdf: Callable[..., Path], bucket: Place) -> Path:
    """Make documents on the disk, and the same ones in the bucket."""
    for number in range(3):
        pages = [f"Report {number}, page {n}. The parcel left on Monday." for n in range(1 + number % 3)]
        make_pdf(f"in/{number}.pdf", *pages)
    folder = make_pdf("in/sub/last.pdf", "Its author is Ada Lovelace.").parent.parent
    (folder / "copy.pdf").write_bytes((folder / "2.pdf").read_bytes())
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 broken")
    for file in folder.rglob("*.pdf"):
        objects.put(bucket.below(f"in/{file.relative_to(folder).as_posix()}"), file.read_bytes())
    return folder


def rows(run: pipeline.Run) -> pd.DataFrame:
    return run.answers.drop(columns=VOLATILE)


def command(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"pipeline.{name}", *arguments], capture_output=True, text=True, check=False
    )


def test_a_run_over_a_failing_network_gives_what_a_disk_gives_and_is_read_by_every_command(
    bucket: Place,
    folder: Path,
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", None)
    local = pipeline.answer(folder, questions=QUESTIONS, output=tmp_path / "out", settings=FEW)
    url = str(bucket.below("runs/one"))
    # Every fifth request is refused, and of others every seventh is cut: each succeeds when it is repeated.
    proxy.fault = lambda asked: (
        BUSY if asked.number % 5 == 0 else CUT if asked.number % 7 == 0 and asked.method == "GET" else PASS
    )
    stored = pipeline.answer(str(bucket.below("in/")), questions=QUESTIONS, output=url, settings=FEW)
    pd.testing.assert_frame_equal(rows(local), rows(stored))
    assert stored.record["state"] == "complete" and stored.record["settings"]["output"] == url  # type: ignore[index,call-overload]
    again = pipeline.answer(str(bucket.below("in/")), questions=QUESTIONS, output=url, settings=FEW)
    assert again.summary is not None
    assert (again.summary.requests, again.summary.reused) == (0, len(local.answers) - 2)
    with store.opened(url):
        _, (seen,) = found_in(url)
    assert (seen.state, seen.inputs_done) == ("complete", 6)
    proxy.fault = lambda asked: PASS
    gold = tmp_path / "gold.csv"
    gold.write_text("question,document,answer\nWho is the author?,*,7\n")
    for name, *arguments in (
        ("report", f"output={url}", "raster.workers=1", "report.most_pages=2"),
        ("export", f"output={url}", "format=jsonl"),
        ("diff", f"old={tmp_path / 'out'}", f"new={url}", "report.pages=none"),
        ("evaluate", f"run={url}", f"gold={gold}", f"against={tmp_path / 'out'}"),
    ):
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        importlib.import_module(f"pipeline.{name}").main()
        folder_written = {"evaluate": "evaluation"}.get(name, f"{name}/")
        assert f"{url}/{folder_written}" in capsys.readouterr().out
    there = {found.key.removeprefix("runs/one/") for found in objects.listed(bucket.below("runs/one/"))}
    assert {
        "report/index.html",
        "export/answers.jsonl",
        "diff/changes.parquet",
        "run.json",
        "evaluation/scores.md",
    } <= there
    assert any(name.startswith("report/pages/") and name.endswith(".webp") for name in there)
    assert any(name.startswith("logs/") and name.endswith("run.log") for name in there)
    assert not [name for name in there if name.endswith((".tar", ".aside"))]
    assert not list((tmp_path / "temporary").glob("docbatch-*"))  # nothing of it stays here


def texts_below(folder: Path) -> str:
    """Return all that is written below a folder, Parquet as its values."""
    found = []
    for file in folder.rglob("*"):
        if file.suffix == ".parquet":
            found.append(str(pq.read_table(file).to_pydict()))
        elif file.is_file():
            found.append(file.read_text(errors="replace"))
    return "\n".join(found)


def test_no_file_log_or_message_of_a_run_holds_a_credential(
    bucket: Place, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(bucket.below("run"))
    given = [f"input={bucket.below('in/')}", f"output={url}", "raster.workers=1", "engine.workers=1"]
    whole = command("run", *given)
    assert whole.returncode == 0, whole.stderr
    # The endpoint may hold a password, too, and is what libraries name when it cannot be reached.
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:{SECRET}@127.0.0.1:9")
    cut = command("run", *given)
    assert cut.returncode == 1 and len(cut.stderr.splitlines()) <= 3, cut.stderr
    refused = command("run", f"input={folder}", f"output=s3://key:{SECRET}@{bucket.bucket}/x")
    assert refused.returncode == 1 and "must not hold credentials" in refused.stderr
    with store.opened(url) as output:
        store.fetch(output)
        written = texts_below(output)
    assert "run_id" in written and "engine=embedded" in written
    said = "".join(each for ended in (whole, cut, refused) for each in (ended.stdout, ended.stderr))
    assert SECRET not in written and SECRET not in said


def test_shards_of_a_plan_over_object_storage_give_the_tables_of_one_run(
    bucket: Place, folder: Path, compose: Callable[..., RunSettings], tmp_path: Path
) -> None:
    url, input_ = str(bucket.below("run")), str(bucket.below("in/"))

    def shard(index: int | None = None) -> RunSettings:
        own = [f"shard.index={index}", "shard.planned=true"] if index is not None else []
        return compose(f"input={input_}", f"output={url}", "engine=embedded", "shard.count=2", *own)

    with store.opened(url):
        plan(shard())
    for index in range(2):
        with store.opened(url):  # each as on a machine of its own
            execute(shard(index))
            status, _ = found_in(url)
            assert status is not None and status.shards[index].state == "done"
    with store.opened(url):
        assert not publish(shard()).missing
    execute(compose(f"input={folder}", "engine=embedded"))
    pd.testing.assert_frame_equal(rows(pipeline.load(url)), rows(pipeline.load(tmp_path / "output")))


def test_a_pilot_over_object_storage_chooses_the_same_sample_again(
    bucket: Place, folder: Path, compose: Callable[..., RunSettings]
) -> None:
    url = str(bucket.below("run"))
    settings = compose(f"input={folder}", f"output={url}", "engine=embedded", "pilot=2")
    for again in (False, True):
        with store.opened(url):  # each as on a machine of its own
            assert "of 4 that can be read are answered" in pilot(settings)
        assert len(pipeline.load(url).answers) == 2, again
