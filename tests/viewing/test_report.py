"""The HTML page: its counts are those of the tables, and what documents say stays text."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from pipeline.config import RunSettings
from pipeline.errors import OutputError
from pipeline.run import execute
from pipeline.viewing.page import write

Rows = list[list[str]]


class Page(HTMLParser):
    """The headings, tiles and tables of a page, as text."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.tiles: list[str] = []
        self.tables: dict[str, Rows] = {}
        self.bars = 0
        self._heading = ""
        self._inside = ""
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.bars += tag == "rect"
        if tag == "h2":
            self._heading = ""
        elif tag == "tr":
            self.tables.setdefault(self._heading.partition(",")[0], []).append([])
        elif tag in ("td", "th"):
            self.tables[self._heading.partition(",")[0]][-1].append("")
        elif tag == "li":
            self.tiles.append("")
        self._inside = tag if tag in ("h2", "td", "th", "li") else self._inside

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside == "h2":
            self._heading += data
        elif self._inside == "li":
            self.tiles[-1] += data
        elif self._inside:
            self.tables[self._heading.partition(",")[0]][-1][-1] += data


def rows(page: Page, heading: str) -> Rows:
    """Return the rows under a heading, without the first, which names the columns."""
    return [[" ".join(cell.split()) for cell in row] for row in page.tables[heading][1:]]


@pytest.fixture
def answered(compose: Callable[..., RunSettings], make_pdf: Callable[..., Path], tmp_path: Path) -> Path:
    """An output with answers to two questions, one of which hardly any document answers, and with errors."""
    for number in range(4):
        make_pdf(f"in/{number}.pdf", f"Invoice {number}. The total is {number}00 euros.", "The end.")
    (tmp_path / "in" / "<img src=x onerror=alert(1)>.pdf").write_bytes(b"%PDF-1.7 torn")
    questions = tmp_path / "questions.csv"
    with questions.open("w", newline="") as handle:
        csv.writer(handle).writerows(
            [
                ("question_id", "question"),
                ("total", "What is the total?"),
                ("evil", "<script>alert('Which lighthouse?')</script>"),
            ]
        )
    execute(compose(f"input={tmp_path / 'in'}", "task=qa", f"task.questions={questions}", "engine=embedded"))
    return tmp_path / "output"


def test_the_page_counts_what_the_tables_hold(answered: Path) -> None:
    page = Page(write(answered))
    table = pd.read_parquet(answered / "answers")
    ok = table["status"] == "ok"
    review = ok & table["needs_review"]
    assert len(table) == 10
    assert review.sum() > 0
    assert page.tiles == [
        "5 inputs, 1 with an error", "10 questions asked", "80.0 % answered", f"{review.sum()} to review",
        "2 errors",
    ]  # fmt: skip
    for text, question_id, asked, answers, to_review, confidence in (
        [*row[0].rsplit(" ", 1), *row[1:]] for row in rows(page, "Questions")
    ):
        own = table[table["question_id"] == question_id]
        assert text == own["question"].iloc[0]
        assert (asked, answers) == ("5", "4")
        assert int(to_review) == (review & (table["question_id"] == question_id)).sum()
        assert float(confidence) == pytest.approx(own["confidence"].median(), abs=0.005)
    ((code, count, example),) = rows(page, "Errors")
    assert (code, count) == ("corrupt", "2")
    assert example == table.loc[~ok, "error"].iloc[0]
    assert rows(page, "Inputs") == [["pdf", "5", "1", "8", "8", "0"]]
    assert page.bars == 20


def test_inputs_that_could_not_be_read_are_named_by_code(answered: Path) -> None:
    failed = pd.read_parquet(answered / "documents").query("status == 'error'")
    assert len(failed)
    shown = {row[0]: row for row in rows(Page(write(answered)), "Inputs that could not be read")}
    for code, group in failed.groupby("error_code"):
        assert shown[str(code)][1] == str(len(group))
        assert group["error"].iloc[0] in shown[str(code)][2]


def test_the_least_certain_answers_come_first(answered: Path) -> None:
    page = Page(write(answered))
    confidences = [float(row[-1]) for row in rows(page, "To review")]
    table = pd.read_parquet(answered / "answers")
    assert len(confidences) == (table["needs_review"] & (table["status"] == "ok")).sum()
    assert confidences == sorted(confidences)


def test_what_documents_and_questions_say_cannot_become_markup(answered: Path) -> None:
    page = Page(write(answered))
    assert not {"script", "img"} & set(page.tags)
    assert any("<script>alert('Which lighthouse?')</script>" in row[0] for row in rows(page, "Questions"))
    assert "<img src=x onerror=alert(1)>.pdf" in rows(page, "Errors")[0][2]


def test_the_page_needs_no_other_file(answered: Path) -> None:
    text = write(answered).read_text()
    assert "src=" not in text.replace("&lt;img src=", "")
    assert "<link" not in text
    assert "@import" not in text


def test_the_page_is_about_all_shards(
    compose: Callable[..., RunSettings], make_pdf: Callable[..., Path], tmp_path: Path
) -> None:
    for number in range(6):
        make_pdf(f"in/{number}.pdf", f"Letter {number} from Ada." + 200 * number * " and more")
    for index in range(2):
        execute(
            compose(f"input={tmp_path / 'in'}", "engine=embedded", "shard.count=2", f"shard.index={index}")
        )
    page = Page(write(tmp_path / "output"))
    assert page.tiles[:3] == ["6 inputs", "6 questions asked", "100.0 % answered"]


def test_an_output_without_answers_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="has no published answers"):
        write(tmp_path)
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers" / "shard-0000-of-0001.parquet").touch()
    with pytest.raises(OutputError, match=r"has no run\.json"):
        write(tmp_path)
    (tmp_path / "answers" / "shard-0000-of-0001.parquet").unlink()
    for arguments in ([f"output={tmp_path}"], ["out=x"], []):
        command = [sys.executable, "-m", "pipeline.report", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1, done.stderr
