"""The whole run, as a user starts it, on real documents."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pymupdf
import pytest
from conftest import SAMPLES, quoted

from pipeline.config import RunSettings
from pipeline.run import execute, plan

QUESTIONS = SAMPLES / "questions.csv"


def answers(settings: RunSettings) -> pd.DataFrame:
    return pd.read_parquet(Path(settings.output) / "answers")


def documents(settings: RunSettings) -> pd.DataFrame:
    return pd.read_parquet(Path(settings.output) / "documents")


def tables(settings: RunSettings) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in Path(settings.output).glob("*/*.parquet")}


@pytest.fixture
def texts(make_pdf: Callable[..., Path]) -> Path:
    """Three documents of text, one of 65 pages, that need no OCR."""
    make_pdf("in/report.pdf", "Annual report\nThe profit was 4711 euros.", "Page two mentions Ada Lovelace.")
    make_pdf("in/sub/letter.pdf", "Dear Ms. Hopper,\nthe compiler arrives on 9 May 1952.")
    long = [f"Chapter {n}. Nothing of note happens in it." for n in range(1, 66)]
    long[40] = "Chapter 41. The treasure lies under the lighthouse."
    return make_pdf("in/long.pdf", *long).parent


def ask(folder: Path, *rows: tuple[str, str, str]) -> Path:
    file = folder.parent / "questions.csv"
    with file.open("w", newline="") as handle:
        csv.writer(handle).writerows([("question_id", "document", "question"), *rows])
    return file


def test_every_question_of_every_sample_has_one_row_with_a_status(
    compose: Callable[..., RunSettings],
) -> None:
    settings = compose(f"input={SAMPLES}", "task=qa", f"task.questions={QUESTIONS}")
    summary = execute(settings)
    table = answers(settings).set_index("question_id")
    asked = pd.read_csv(QUESTIONS)
    assert sorted(table.index) == sorted(asked["question_id"])
    assert table.loc["locked", ["status", "error_code"]].tolist() == ["error", "encrypted"]
    assert (table.drop("locked")["status"] == "ok").all()
    assert "Purdue" in table.loc["university", "answer"]
    assert list(table.loc["university", "evidence_pages"]) == [12]
    assert table.loc["university", "evidence_found"] == True  # noqa: E712  numpy's own bool
    assert "Deacon" in table.loc["pork", "answer"]  # a scan: read by OCR
    assert "朝倉卓人" in table.loc["author", "answer"]
    assert table.loc["university", "gold_answer"] == "Purdue University"
    assert (table["model"] == "embedded-reader").all()
    listed = documents(settings).set_index("source")
    assert len(listed) == 8
    assert listed.loc["project-history.en.pdf", ["pages", "text_layer_pages"]].tolist() == [27, 27]
    assert list(listed.loc["project-history.en.pdf", "languages"]) == ["en"]
    assert (summary.inputs, summary.inputs_ok, summary.inputs_error, summary.ignored_files) == (8, 7, 1, 1)
    assert (summary.cells, summary.answered, summary.reused, summary.failed) == (10, 9, 0, 1)


def test_a_password_opens_an_encrypted_file(compose: Callable[..., RunSettings], tmp_path: Path) -> None:
    passwords = tmp_path / "passwords.csv"
    passwords.write_text("document,password\nr6-*.pdf,asdfzxcv\n")
    settings = compose(f"input={SAMPLES}/r6-user-password.pdf", f"raster.passwords={passwords}")
    execute(settings)
    assert answers(settings)["status"].tolist() == ["ok"]
    wrong = compose(
        f"input={SAMPLES}/r6-user-password.pdf", "raster.password=nope", f"output={tmp_path}/other"
    )
    execute(wrong)
    assert answers(wrong)["error_code"].tolist() == ["encrypted"]
    written = [file for file in (tmp_path / "other").rglob("*") if file.is_file()]
    assert written and not [file for file in written if b"nope" in file.read_bytes()]


def test_running_again_does_nothing_and_changes_nothing(
    compose: Callable[..., RunSettings], texts: Path
) -> None:
    settings = compose(f"input={texts}")
    execute(settings)
    before = tables(settings)
    again = execute(settings)
    assert (again.pages, again.requests) == (0, 0)
    assert tables(settings) == before


def test_a_new_question_costs_only_its_own_cells(compose: Callable[..., RunSettings], texts: Path) -> None:
    questions = ask(texts, ("profit", "report.pdf", "How high was the profit?"))
    settings = compose(f"input={texts}", "task=qa", f"task.questions={questions}")
    execute(settings)
    first = answers(settings).set_index("question_id")
    ask(
        texts,
        ("profit", "report.pdf", "How high was the profit?"),
        ("who", "sub/*", "To whom is the letter written?"),
    )
    summary = execute(settings)
    assert (summary.answered, summary.reused, summary.requests) == (1, 1, 1)
    second = answers(settings).set_index("question_id")
    assert second.loc["profit", "created_at"] == first.loc["profit", "created_at"]
    assert "Hopper" in second.loc["who", "answer"]


def test_rows_that_were_removed_come_back_and_no_others(
    compose: Callable[..., RunSettings], texts: Path
) -> None:
    settings = compose(f"input={texts}")
    execute(settings)
    file = Path(settings.output) / "answers" / "shard-0000-of-0001.parquet"
    whole = pd.read_parquet(file)
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    keep = [source != "report.pdf" for source in whole["source"]]
    pq.write_table(table.filter(keep), file)
    summary = execute(settings)
    assert (summary.answered, summary.reused) == (1, 2)
    back = answers(settings).set_index("source")
    assert sorted(back.index) == sorted(whole["source"])
    assert back.loc["long.pdf", "created_at"] == whole.set_index("source").loc["long.pdf", "created_at"]


def test_only_a_document_whose_bytes_changed_is_answered_again(
    compose: Callable[..., RunSettings], texts: Path, make_pdf: Callable[..., Path]
) -> None:
    settings = compose(f"input={texts}")
    execute(settings)
    make_pdf("in/report.pdf", "Annual report, corrected\nThe profit was 4712 euros.")
    summary = execute(settings)
    assert (summary.answered, summary.reused, summary.pages) == (1, 2, 1)
    table = answers(settings).set_index("source")
    assert len(table) == 3
    assert "4712" in table.loc["report.pdf", "fields"]
    assert documents(settings).set_index("source").loc["report.pdf", "pages"] == 1


def test_a_removed_document_leaves_the_tables(compose: Callable[..., RunSettings], texts: Path) -> None:
    settings = compose(f"input={texts}")
    execute(settings)
    (texts / "report.pdf").unlink()
    execute(settings)
    assert sorted(answers(settings)["source"]) == ["long.pdf", "sub/letter.pdf"]
    assert sorted(documents(settings)["source"]) == ["long.pdf", "sub/letter.pdf"]


def test_a_long_document_is_read_whole_and_merged(compose: Callable[..., RunSettings], texts: Path) -> None:
    questions = ask(texts, ("treasure", "long.pdf", "Where does the treasure lie?"))
    settings = compose(f"input={texts}", "task=qa", f"task.questions={questions}")
    execute(settings)
    (row,) = answers(settings).to_dict("records")
    assert "under the lighthouse" in row["answer"]
    assert list(row["evidence_pages"]) == [41]
    assert (row["pages_read"], row["pages_total"], row["requests"]) == (65, 65, 4)
    requests = pd.read_parquet(Path(settings.output) / "requests")
    assert sorted(map(len, requests["pages"])) == [0, 21, 22, 22]
    assert (requests["counted_tokens"] == requests["prompt_tokens"]).all()


def test_page_scope_has_a_row_for_every_page_and_asks_nothing_about_blank_ones(
    compose: Callable[..., RunSettings], make_pdf: Callable[..., Path]
) -> None:
    path = make_pdf("in/a.pdf", "# Heading\nFirst page.", "", "Third page.")
    settings = compose(f"input={path.parent}", "task=transcribe")
    summary = execute(settings)
    table = answers(settings).sort_values("page")
    assert table["page"].tolist() == [1, 2, 3]
    assert table["finish_reason"].tolist() == ["stop", "blank", "stop"]
    assert "Third page." in table["answer"].tolist()[2]
    assert summary.requests == 2
    assert documents(settings)["blank_pages"].tolist() == [1]


def test_folder_scope_answers_once_per_folder(compose: Callable[..., RunSettings], texts: Path) -> None:
    questions = ask(texts, ("who", "", "To whom is the letter written?"))
    settings = compose(f"input={texts}", "task=qa", "task.scope=folder", f"task.questions={questions}")
    execute(settings)
    table = answers(settings).set_index("source")
    assert sorted(table.index) == [".", "sub"]
    assert table.loc[".", "pages_total"] == 67
    assert "Hopper" in table.loc["sub", "answer"]


def test_a_schema_gives_typed_columns(
    compose: Callable[..., RunSettings], make_pdf: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_pdf("in/invoice.pdf", "Invoice\nTotal: 1,234.50\nBuyer: Ada Lovelace\nItems: 3").parent
    schema = tmp_path / "invoice.json"
    properties = {"total": {"type": "number"}, "buyer": {"type": "string"}, "items": {"type": "integer"}}
    properties |= {"paid": {"type": "boolean"}}
    schema.write_text(json.dumps({"type": "object", "properties": properties}))
    settings = compose(f"input={folder}", "task=extract", f"task.schema={schema}")
    execute(settings)
    (row,) = answers(settings).to_dict("records")
    assert (row["field_total"], row["field_buyer"], row["field_items"]) == (1234.5, "Ada Lovelace", 3)
    assert row["field_paid"] is None
    assert json.loads(row["fields"])["paid"] is None


def test_the_same_bytes_twice_are_read_once_and_listed_twice(
    compose: Callable[..., RunSettings], make_pdf: Callable[..., Path]
) -> None:
    path = make_pdf("in/a.pdf", "Only once.")
    shutil.copy(path, path.with_name("b (copy).pdf"))
    settings = compose(f"input={path.parent}")
    summary = execute(settings)
    assert (summary.pages, summary.requests, summary.cells) == (1, 1, 2)
    assert answers(settings)["source"].tolist() == ["a.pdf", "b (copy).pdf"]
    listed = documents(settings).set_index("source")
    assert listed.loc["b (copy).pdf", ["duplicate_of", "pages", "text_layer_pages"]].tolist() == [
        "a.pdf",
        1,
        1,
    ]


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A document whose second page takes far longer to draw than any real one."""
    path = tmp_path / "in" / "slow.pdf"
    path.parent.mkdir()
    with pymupdf.open() as document:
        for text in ("First page.", "Second page.", "Third page."):
            document.new_page().insert_text((72, 72), text)
        strokes = b" ".join(
            b"%d 0 m %d 842 l %d 400 l S" % (n % 595, (7 * n) % 595, n % 300) for n in range(300_000)
        )
        document.update_stream(document[1].get_contents()[0], b"40 w " + strokes)
        document.save(path, deflate=True)
    return path.parent


def test_a_page_that_hangs_costs_only_itself(compose: Callable[..., RunSettings], slow: Path) -> None:
    settings = compose(f"input={slow}", "raster.page_timeout_s=1.5", "task=transcribe")
    summary = execute(settings)
    assert (summary.inputs, summary.inputs_ok, summary.inputs_error) == (1, 0, 1)
    table = answers(settings).sort_values("page")
    assert table["status"].tolist() == ["ok", "error", "ok"]
    assert table["error_code"].tolist()[1] == "render_timeout"
    assert documents(settings)[["status", "error_code", "pages"]].iloc[0].tolist() == [
        "error",
        "render_timeout",
        3,
    ]


def test_an_answer_from_fewer_pages_says_so(compose: Callable[..., RunSettings], slow: Path) -> None:
    settings = compose(
        f"input={slow}", "raster.page_timeout_s=1.5", "task=qa", "task.question=Which page is third?"
    )
    execute(settings)
    (row,) = answers(settings).to_dict("records")
    assert (row["status"], row["error_code"], row["needs_review"]) == ("error", "render_timeout", True)
    assert (row["pages_read"], row["pages_total"]) == (2, 3)
    assert "Third page." in row["answer"]
    assert "page 2" in row["error"]


def test_shards_together_answer_everything_once(compose: Callable[..., RunSettings], texts: Path) -> None:
    for index in range(2):
        settings = compose(f"input={texts}", "shard.count=2", f"shard.index={index}")
        execute(settings)
    assert sorted(answers(settings)["source"]) == ["long.pdf", "report.pdf", "sub/letter.pdf"]


def test_a_plan_counts_what_the_run_then_does(compose: Callable[..., RunSettings], texts: Path) -> None:
    settings = compose(f"input={texts}")
    (texts / "broken.pdf").write_bytes(bytes(range(256)))
    text = plan(settings)
    planned = pd.read_parquet(Path(settings.output) / "plan.parquet")
    assert not list((Path(settings.output) / "answers").iterdir())
    summary = execute(settings)
    asked = pd.read_parquet(Path(settings.output) / "requests").query("kind == 'ask'")
    assert planned["pages"].sum() == summary.pages == 68
    assert planned["requests"].sum() == len(asked) == 5
    assert planned["prompt_tokens"].sum() == asked["counted_tokens"].sum()
    assert planned.set_index("source").loc["broken.pdf", "error_code"] == "corrupt"
    assert "4 = 3 readable + 1 that will fail" in text
    assert "corrupt" in text


# ---- as a process: exit codes, signals, crashes ----


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pipeline.run", *arguments]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["inptu=x"], "inptu: there is no such setting; did you mean input?"),
        (["task.qeustions=x"], "did you mean task.questions?"),
        (["input=/no/such/place"], "input=/no/such/place: there is no such file"),
        (
            ["input=.", "hydra/launcher=foo"],
            "launcher=foo: is not installed; launcher=slurm needs pip install",
        ),
        (["input=.", "task=foo"], "task=foo: is unknown; there are chart, classify"),
        (["input=.", "output=/proc/nothing/here"], "output=/proc/nothing/here: cannot be written"),
        (["input=.", "task=qa"], "needs questions"),
        (["input=.", "raster.workers=many"], "raster.workers: "),
        (["input=a,b"], "quote a value"),
        ([], "input: has no value"),
    ],
)
def test_a_mistake_costs_one_clear_line_and_exit_1(tmp_path: Path, arguments: list[str], says: str) -> None:
    done = subprocess.run(command(*arguments), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_strict_fails_when_a_row_does(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "zero.pdf").touch()
    arguments = [f"input={quoted(tmp_path / 'in')}", f"output={tmp_path / 'out'}"]
    assert subprocess.run(command(*arguments), capture_output=True).returncode == 0
    assert subprocess.run(command(*arguments, "strict=true"), capture_output=True).returncode == 1


def test_sigterm_saves_finished_work_and_exits_75(tmp_path: Path) -> None:
    arguments = [f"input={SAMPLES}", f"output={tmp_path / 'out'}", "sink.journal_seconds=0"]
    process = subprocess.Popen(command(*arguments), start_new_session=True, stderr=subprocess.PIPE, text=True)
    journal = tmp_path / "out" / "_journal"
    wait_until(lambda: any(journal.glob("*/part-*")) or process.poll() is not None)
    os.killpg(process.pid, signal.SIGTERM)
    _, told = process.communicate(timeout=10)
    assert process.returncode == 75
    assert "run again to continue" in told
    saved = pd.read_parquet(tmp_path / "out" / "answers")
    assert 0 < len(saved) < 8
    kept = int((saved["status"] == "ok").sum())
    done = subprocess.run(command(*arguments), capture_output=True, text=True)
    assert done.returncode == 0
    assert f"8 = {7 - kept} new + {kept} kept + 1 error" in done.stdout
    assert len(pd.read_parquet(tmp_path / "out" / "answers")) == 8


def test_killed_at_any_moment_a_run_is_finished_by_the_next(
    tmp_path: Path, make_pdf: Callable[..., Path]
) -> None:
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    make_pdf("in/short.pdf", "Annual report", "The profit was 4711 euros.")
    texts = make_pdf("in/long.pdf", *(f"Chapter {n}. Nothing of note." for n in range(1, 22))).parent
    # A window of three pages, each journaled when it ends.
    arguments = [f"input={texts}", "task=transcribe", "engine.window_tokens=9000", "sink.journal_seconds=0"]
    assert subprocess.run(command(*arguments, f"output={calm}"), capture_output=True).returncode == 0
    for parts in (0, 1, 3):
        process = subprocess.Popen(
            command(*arguments, f"output={rough}"),
            start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

        def is_far(process: subprocess.Popen[bytes] = process, parts: int = parts) -> bool:
            return len(list(rough.glob("_journal/*/part-*"))) > parts or process.poll() is not None

        wait_until(is_far)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert subprocess.run(command(*arguments, f"output={rough}"), capture_output=True).returncode == 0
    columns = ["answer_id", "source", "page", "status", "answer", "pages_read"]
    expected, got = (
        pd.read_parquet(output / "answers")[columns].sort_values(["source", "page"]).reset_index(drop=True)
        for output in (calm, rough)
    )
    pd.testing.assert_frame_equal(expected, got)
    assert sorted(documents_of(rough)) == sorted(documents_of(calm))


def documents_of(output: Path) -> list[tuple[str, int, int]]:
    table = pd.read_parquet(output / "documents")
    return list(zip(table["source"], table["pages"], table["text_layer_pages"], strict=True))


def wait_until(happened: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)
