"""The report's data: its figures are those of the tables, and what documents say stays text."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import quoted
from PIL import Image

from pipeline.compose import compose_report
from pipeline.config import RunSettings
from pipeline.errors import OutputError, SettingsError
from pipeline.reading import draw
from pipeline.records import Json
from pipeline.run import execute
from pipeline.viewing import pages as page_images
from pipeline.viewing import script
from pipeline.viewing.report import write

EVIL = "<script>alert('Which lighthouse?')</script>"


def read(file: Path) -> list[Any]:
    """Return what a data file hands to the page."""
    text = file.read_text(encoding="utf-8")
    given = re.fullmatch(r"docbatch\.\w+\((.*)\);\n", text, re.DOTALL)
    assert given
    values: list[Any] = json.loads(f"[{given[1]}]")
    return values


def summary(output: Path) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = read(output / "report" / "data" / "summary.js")
    return found


def details(output: Path) -> list[dict[str, Any]]:
    found = [read(file)[1] for file in sorted((output / "report" / "data").glob("detail-*.js"))]
    return [each for some in found for each in some]


def settings(output: Path, *overrides: str) -> list[str]:
    return [f"output={quoted(output)}", "raster.workers=1", *overrides]


@pytest.fixture
def answered(compose: Callable[..., RunSettings], make_pdf: Callable[..., Path], tmp_path: Path) -> Path:
    """An output with answers to two questions, one of which hardly any document answers, and with errors."""
    for number in range(4):
        make_pdf(f"in/{number}.pdf", f"Invoice {number}. The total is {number}00 euros.", "The end.")
    (tmp_path / "in" / "<img src=x onerror=alert(1)>.pdf").write_bytes(b"%PDF-1.7 torn")
    questions = tmp_path / "questions.csv"
    with questions.open("w", newline="") as handle:
        rows = [("total", "What is the total?", "300 euros"), ("evil", EVIL, "")]
        csv.writer(handle).writerows([("question_id", "question", "answer"), *rows])
    execute(compose(f"input={tmp_path / 'in'}", "task=qa", f"task.questions={questions}", "engine=embedded"))
    return tmp_path / "output"


def test_every_figure_is_that_of_the_tables(answered: Path) -> None:
    write(compose_report(settings(answered, "report.pages=none")))
    found = summary(answered)["totals"]
    answers, documents, requests = (
        pd.read_parquet(answered / n) for n in ("answers", "documents", "requests")
    )
    ok, review = answers["status"] == "ok", answers["needs_review"]
    assert found["counts"] == {
        "rows": len(answers), "ok": ok.sum(), "review": (ok & review).sum(), "errors": (~ok).sum(),
        "gold": answers["gold_answer"].notna().sum(),
        "right": answers["answer"].fillna("").str.contains("300 euros")[answers["gold_answer"].notna()].sum(),
        "median_confidence": answers[ok]["confidence"].median(),
    }  # fmt: skip
    assert found["inputs"] == len(documents)
    assert found["input_errors"] == (documents["status"] != "ok").sum()
    assert found["pages"] == documents["pages"].sum()
    (task,) = found["tasks"]
    for name in ("prompt_tokens", "cached_tokens", "output_tokens"):
        assert task[name] == requests[name].sum()
    assert task["engine_seconds"] == pytest.approx(requests["engine_seconds"].sum())
    assert task["requests"] == len(requests)
    assert sum(task["bars"]) == answers[ok]["confidence"].notna().sum()
    for each in found["questions"]:
        own = answers[answers["question_id"] == each["question_id"]]
        assert each["counts"]["rows"] == len(own)
        assert each["counts"]["review"] == (own["needs_review"] & (own["status"] == "ok")).sum()
    (kind,) = found["kinds"]
    assert (kind["inputs"], kind["errors"], kind["pages"]) == (5, 1, 8)
    (code,) = found["codes"]
    assert (code["code"], code["inputs"], code["answers"]) == ("corrupt", 1, 2)
    assert code["examples"] == [answers[~ok]["error"].iloc[0]]
    assert code["remedy"]


def test_every_answer_is_in_the_table_and_has_its_details(answered: Path) -> None:
    write(compose_report(settings(answered)))
    answers = pd.read_parquet(answered / "answers").sort_values(["source", "page", "task", "question_id"])
    shown = details(answered)
    assert [each["answer_id"] for each in shown] == list(answers["answer_id"])
    assert [each.get("answer") for each in shown] == [
        None if pd.isna(text) else text for text in answers["answer"]
    ]
    (table,) = read(answered / "report" / "data" / "table-0000.js")
    assert table["keys"] == list(answers["answer_id"])
    raw = pd.read_parquet(answered / "requests").set_index("answer_id")["text"].to_dict()
    for each in shown:
        assert [attempt["text"] for attempt in each["attempts"]] == [
            text for answer_id, text in raw.items() if answer_id == each["answer_id"]
        ]


def test_what_documents_and_questions_say_cannot_become_markup(answered: Path) -> None:
    write(compose_report(settings(answered)))
    for file in (answered / "report" / "data").glob("*.js"):
        assert "<" not in file.read_text(encoding="utf-8")
    assert EVIL in {each["question"] for each in details(answered)}


@pytest.mark.parametrize("text", ["</script>", "\u2028\u2029", '"\\', "\x00\x1f", "🦊", float("nan")])
def test_any_value_reaches_the_page_as_it_is(text: Json, tmp_path: Path) -> None:
    file = tmp_path / "data.js"
    file.write_text(script.call("begin", {"text": [text]}), encoding="utf-8")
    assert read(file) == [{"text": [None if isinstance(text, float) else text]}]


# ---- page images ----


def images(output: Path) -> list[dict[str, Any]]:
    return [each for one in details(output) for each in one["images"]]


def test_pages_are_drawn_once_and_kept_for_the_next_report(answered: Path) -> None:
    write(compose_report(settings(answered)))
    files = {each["file"] for each in images(answered) if "file" in each}
    folder = answered / "report" / "pages"
    assert {file.name for file in folder.glob("*.webp")} == files
    for each in images(answered):
        if "file" in each:
            with Image.open(folder / str(each["file"])) as image:
                assert image.size == (each["width"], each["height"])
                assert max(image.size) == 1400
    before = {file.name: file.stat().st_ino for file in folder.glob("*.webp")}
    shutil.move(answered.parent / "in", answered.parent / "moved")
    write(compose_report(settings(answered)))
    assert {file.name: file.stat().st_ino for file in folder.glob("*.webp")} == before


def test_pages_are_drawn_again_once_the_code_draws_them_otherwise(
    answered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(compose_report(settings(answered)))
    before = {each["file"] for each in images(answered) if "file" in each}
    monkeypatch.setattr(draw, "DRAWING", draw.DRAWING + 1)
    write(compose_report(settings(answered)))
    after = {each["file"] for each in images(answered) if "file" in each}
    assert before
    assert after.isdisjoint(before)


def test_pages_of_inputs_that_are_gone_or_changed_are_named(
    answered: Path, make_pdf: Callable[..., Path]
) -> None:
    (answered.parent / "in" / "1.pdf").unlink()
    make_pdf("in/2.pdf", "Another text altogether.")
    write(compose_report(settings(answered)))
    missing = {str(each["source"]): str(each.get("missing")) for each in images(answered)}
    assert "is not in" in missing["1.pdf"]
    assert "has changed" in missing["2.pdf"]
    assert missing["3.pdf"] == "None"
    shutil.move(answered.parent / "in", answered.parent / "moved")
    shutil.rmtree(answered / "report")
    write(compose_report(settings(answered)))
    assert all("there is no such file or folder" in str(each.get("missing")) for each in images(answered))
    write(compose_report(settings(answered, f"input={quoted(answered.parent / 'moved')}")))
    assert sum("file" in each for each in images(answered)) > 0


def test_all_some_or_no_pages_are_drawn(answered: Path) -> None:
    found = {}
    for pages in ("report.pages=all", "report.most_pages=1", "report.pages=none"):
        write(compose_report(settings(answered, pages)))
        found[pages] = len(list((answered / "report" / "pages").glob("*.webp")))
    assert found["report.pages=all"] > 3
    assert list(found.values())[1:] == [1, 0]


def test_the_report_is_no_input_of_the_next_run(
    compose: Callable[..., RunSettings], make_pdf: Callable[..., Path], tmp_path: Path
) -> None:
    make_pdf("in/a.pdf", "A letter from Ada about engines.")
    given = [f"input={tmp_path / 'in'}", f"output={tmp_path / 'in' / 'output'}", "engine=embedded"]
    execute(compose(*given))
    write(compose_report(settings(tmp_path / "in" / "output")))
    assert list((tmp_path / "in" / "output" / "report" / "pages").glob("*.webp"))
    assert execute(compose(*given)).inputs == 1


# ---- marks ----

COLUMNS = ["answer_id", "source", "verdict", "correction", "marked_at"]


def save_marks(file: Path, *rows: tuple[str, ...]) -> Path:
    with file.open("w", newline="", encoding="utf-8-sig") as handle:
        csv.writer(handle).writerows([COLUMNS, *rows])
    return file


def merge(output: Path, marks: Path) -> str:
    command = [sys.executable, "-m", "pipeline.report", *settings(output, f"marks={quoted(marks)}")]
    done = subprocess.run(
        [*command, "report.pages=none"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == (1 if done.stderr else 0)
    return (done.stderr or done.stdout).splitlines()[0]


def test_marks_become_reviews_of_which_the_latest_counts(
    answered: Path, compose: Callable[..., RunSettings], tmp_path: Path
) -> None:
    table = pd.read_parquet(answered / "answers").query("status == 'ok'")
    one, two = ((row.answer_id, row.source) for row in table.head(2).itertuples())
    first = save_marks(
        tmp_path / "1.csv",
        (*one, "wrong", "", "2026-01-01T10:00:00Z"),
        (*two, "corrected", "'-3 %", "2026-01-01T10:00:00Z"),
        ("nowhere", "x.pdf", "right", "", "2026-01-01T10:00:00Z"),
    )
    told = "3 marks merged, 2 answers reviewed; 1 are about answers that are not in this output"
    assert merge(answered, first) == told
    reviews = pd.read_parquet(answered / "reviews").set_index("answer_id")
    assert reviews.loc[two[0], "correction"] == "-3 %"
    assert list(reviews.loc[[one[0], two[0]], "answer"]) == list(table["answer"].head(2))
    assert merge(answered, first) == told  # again: nothing is doubled
    assert len(pd.read_parquet(answered / "reviews")) == 2
    later = save_marks(tmp_path / "2.csv", (*one, "none", "", "2026-01-02T10:00:00+01:00"))
    assert merge(answered, later) == "1 marks merged, 1 answers reviewed"
    assert merge(answered, first) == told.replace("2 answers", "1 answers")  # older than what is there
    execute(compose(f"input={answered.parent / 'in'}", "engine=embedded"))
    assert len(pd.read_parquet(answered / "reviews")) == 2  # no run touches them
    assert [each["reviewed"] for each in details(answered) if each["reviewed"]]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("a", "b", "maybe", "", "2026-01-01"), "verdict 'maybe' must be one of"),
        (("a", "b", "right", "", "yesterday"), "marked_at must be a time"),
        (("a", "b", "right", "", "2026-01-01"), "none of its 1 marks is about an answer"),
    ],
)
def test_a_csv_that_is_not_of_marks_is_refused_in_one_line(
    answered: Path, tmp_path: Path, row: tuple[str, ...], said: str
) -> None:
    assert said in merge(answered, save_marks(tmp_path / "marks.csv", row))
    assert not (answered / "reviews").exists()


def test_a_csv_of_something_else_is_refused(answered: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("name,place\nAda,London\n")
    assert "has no column answer_id" in merge(answered, tmp_path / "other.csv")
    assert "cannot be read" in merge(answered, tmp_path / "nowhere.csv")


# ---- outputs ----


def test_the_report_is_about_all_shards_and_tasks(
    compose: Callable[..., RunSettings], make_pdf: Callable[..., Path], tmp_path: Path
) -> None:
    for number in range(6):
        make_pdf(f"in/{number}.pdf", f"Letter {number} from Ada." + 200 * number * " and more")
    given = [f"input={tmp_path / 'in'}", "engine=embedded", "shard.count=2"]
    for index in range(2):
        execute(compose(*given, f"shard.index={index}"))
        execute(compose(*given, f"shard.index={index}", "task=qa", "task.question='Who wrote the letter?'"))
    write(compose_report(settings(tmp_path / "output", "report.pages=none")))
    totals = summary(tmp_path / "output")["totals"]
    assert totals["inputs"] == 6
    assert [(each["task"], each["counts"]["rows"]) for each in totals["tasks"]] == [
        ("describe", 6),
        ("qa", 6),
    ]


def test_passwords_do_not_reach_the_page(answered: Path) -> None:
    told = json.loads((answered / "run.json").read_text())
    told["settings"]["raster"]["password"] = "open sesame"
    (answered / "run.json").write_text(json.dumps(told))
    write(compose_report(settings(answered)))
    assert "open sesame" not in (answered / "report" / "data" / "summary.js").read_text()


def test_an_output_without_answers_is_one_line(tmp_path: Path) -> None:
    report = compose_report(settings(tmp_path))
    with pytest.raises(OutputError, match="has no published answers"):
        write(report)
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers" / "shard-0000-of-0001.parquet").touch()
    with pytest.raises(OutputError, match="cannot be read"):
        write(report)
    (tmp_path / "answers" / "shard-0000-of-0001.parquet").unlink()
    for arguments in ([f"output={tmp_path}"], ["out=x"], ["report.pages=many"], ["report.quality=0"]):
        command = [sys.executable, "-m", "pipeline.report", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1, done.stderr


def test_wrong_settings_of_a_report_say_what_to_do() -> None:
    with pytest.raises(SettingsError, match=r"did you mean report\.pages"):
        compose_report(["report.page=all"])
    assert compose_report(["report.pages=all"]).report == replace(compose_report([]).report, pages="all")


def test_a_page_that_cannot_be_made_a_picture_costs_itself_not_the_report(
    answered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_images, "_ENCODE_S", 0.0001)
    write(compose_report(settings(answered)))
    images = [image for each in details(answered) for image in each["images"]]
    assert any("could not be made a picture" in str(image.get("missing")) for image in images)
