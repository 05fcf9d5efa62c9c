"""What has changed between two runs: every answer of either, once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from pipeline.compose import compose_diff
from pipeline.config import RunSettings
from pipeline.run import execute
from pipeline.viewing import changes

QUESTIONS = "question_id,document,question,answer\ntotal,,What is the total?,300 euros\n"


@pytest.fixture
def runs(
    compose: Callable[..., RunSettings], make_pdf: Callable[..., Path], tmp_path: Path
) -> tuple[Path, Path]:
    """Two runs, between which one input is another, one is gone and one is new, and a question was added."""
    questions = tmp_path / "questions.csv"
    for number in range(4):
        make_pdf(f"in/{number}.pdf", f"Invoice {number}. The total is {number}00 euros.")
    found = []
    for name in ("old", "new"):
        more = "pages,0.pdf,Which invoice is this?,\n" if name == "new" else ""
        questions.write_text(QUESTIONS + more)
        given = [f"input={tmp_path / 'in'}", f"output={tmp_path / name}", "engine=embedded"]
        execute(compose(*given, "task=qa", f"task.questions={questions}"))
        found.append(tmp_path / name)
        if name == "old":
            make_pdf("in/3.pdf", "Invoice 3. The total is 77 dollars.")
            (tmp_path / "in" / "2.pdf").unlink()
            (tmp_path / "in" / "1.pdf").write_bytes(b"%PDF-1.7 torn")
            make_pdf("in/4.pdf", "Invoice 4. The total is 400 euros.")
    return found[0], found[1]


def diff(old: Path, new: Path) -> str:
    command = [sys.executable, "-m", "pipeline.diff", f"old={old}", f"new={new}", "raster.workers=1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == (1 if done.stderr else 0)
    return done.stdout + done.stderr


def test_every_answer_of_either_run_is_told_once(runs: tuple[Path, Path]) -> None:
    said = diff(*runs)
    assert "answers: 2 changed, 2 appeared, 1 vanished, 1 same" in said
    table = pd.read_parquet(runs[1] / "diff" / "changes.parquet")
    assert not table.duplicated(["task", "source", "page", "question_id"]).any()
    total = table[table["question_id"] == "total"].set_index("source")
    assert total["change"].to_dict() == {
        "0.pdf": "same", "1.pdf": "changed", "2.pdf": "vanished", "3.pdf": "changed", "4.pdf": "appeared",
    }  # fmt: skip
    assert "ok → error" in total.loc["1.pdf", "flips"]
    assert "right → wrong" in total.loc["3.pdf", "flips"]
    for name, run in (("old", runs[0]), ("new", runs[1])):
        answers = pd.read_parquet(run / "answers").set_index(["source", "question_id"])["answer"]
        told = table[table[f"{name}_answer_id"].notna()].set_index(["source", "question_id"])[
            f"{name}_answer"
        ]
        pd.testing.assert_series_equal(told.sort_index(), answers.sort_index(), check_names=False)


def test_a_run_is_the_same_as_itself(runs: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(runs[1], tmp_path / "copy")
    compared, page = changes.write(
        compose_diff([f"old={runs[1]}", f"new={tmp_path / 'copy'}", "report.pages=none"])
    )
    assert set(compared.counts) == {"same"}
    assert page == tmp_path / "copy" / "diff" / "index.html"
    assert changes.describe(compared) == "answers: 0 changed, 0 appeared, 0 vanished, 5 same"


def test_the_totals_of_the_page_are_those_of_the_new_run(runs: tuple[Path, Path]) -> None:
    changes.write(compose_diff([f"old={runs[0]}", f"new={runs[1]}", "report.pages=none"]))
    text = (runs[1] / "diff" / "data" / "summary.js").read_text(encoding="utf-8")
    found = json.loads(text.removeprefix("docbatch.begin(").removesuffix(");\n"))
    assert found["rows"] == 6  # with the one that vanished
    assert found["totals"]["counts"]["rows"] == len(pd.read_parquet(runs[1] / "answers"))
    assert found["totals"]["tasks"][0]["requests"] == len(pd.read_parquet(runs[1] / "requests"))


def test_what_cannot_be_compared_is_said_in_one_line(tmp_path: Path) -> None:
    for said in (diff(tmp_path, tmp_path / "nowhere"), diff(tmp_path, Path("???"))):
        assert len(said.splitlines()) == 1


def test_an_answer_that_vanished_under_one_of_two_names_of_the_same_bytes_is_shown_once(
    compose: Callable[..., RunSettings], make_pdf: Callable[..., Path], tmp_path: Path
) -> None:
    make_pdf("in/a.pdf", "The total is 100 euros.")
    shutil.copy(tmp_path / "in" / "a.pdf", tmp_path / "in" / "b.pdf")
    for name in ("old", "new"):
        given = [f"input={tmp_path / 'in'}", f"output={tmp_path / name}", "engine=embedded"]
        execute(compose(*given, "task=qa", "task.question=What is the total?"))
        (tmp_path / "in" / "b.pdf").unlink(missing_ok=True)
    changes.write(compose_diff([f"old={tmp_path / 'old'}", f"new={tmp_path / 'new'}", "report.pages=none"]))
    text = (tmp_path / "new" / "diff" / "data" / "summary.js").read_text(encoding="utf-8")
    found = json.loads(text.removeprefix("docbatch.begin(").removesuffix(");\n"))
    assert found["rows"] == 2
    assert found["difference"]["counts"] == {"same": 1, "vanished": 1}
