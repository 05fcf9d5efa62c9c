"""Tables in other formats: what is read back is what was written."""

from __future__ import annotations

import csv
import datetime as dt
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.compose import compose_export
from pipeline.config import RunSettings
from pipeline.errors import OutputError, SettingsError
from pipeline.run import execute
from pipeline.tables import columns
from pipeline.viewing.formats import write

TIME = dt.datetime(2026, 11, 25, 12, 30, 15, tzinfo=dt.timezone(dt.timedelta(hours=2)))
TEXTS = [
    "=1+2", "+cmd|' /C calc'!A0", "-3", "-3 %", "@SUM(A1)", "\tx", "http://example.org", "007",
    'ok\n"and", more', "日本\x01",
]  # fmt: skip


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """An output whose answers are what spreadsheets misunderstand."""
    rows = [
        {"answer_id": f"a{number}", "source": f"in/{number:02}.pdf", "status": "ok", "answer": text,
         "task": "qa", "question_id": "q", "question": "What?", "page": number, "evidence_pages": [1, 2],
         "needs_review": True, "confidence": 0.25, "prompt_tokens": 2**53 + 1, "created_at": TIME}
        for number, text in enumerate(TEXTS, 1)
    ]  # fmt: skip
    schema = pa.schema([*columns.ANSWERS, pa.field("field_total", pa.float64())])
    tables = {"answers": (rows, schema), "documents": ([], columns.DOCUMENTS)}
    for name, (some, kinds) in tables.items():
        (tmp_path / "output" / name).mkdir(parents=True)
        file = tmp_path / "output" / name / "shard-0000-of-0001.parquet"
        pq.write_table(pa.Table.from_pylist(some, schema=kinds), file)
    return tmp_path / "output"


def test_no_text_of_a_csv_is_a_formula(output: Path) -> None:
    write(compose_export([f"output={output}"]))
    with (output / "export" / "answers.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    for row, text in zip(rows, TEXTS, strict=True):
        assert row["answer"].removeprefix("'") == text
        assert row["answer"] == text or text[0] in "=+-@\t"
        assert row["answer"][0] not in "=+@\t\r"
        assert (row["needs_review"], row["evidence_pages"], row["field_total"]) == ("true", "1, 2", "")
    assert [row["answer"] for row in rows[2:4]] == ["-3", "-3 %"]
    assert dt.datetime.fromisoformat(rows[0]["created_at"]) == TIME


def test_a_workbook_has_typed_cells_and_texts_as_they_are(output: Path) -> None:
    (file,) = write(compose_export([f"output={output}", "format=xlsx"]))
    book = openpyxl.load_workbook(file)
    assert book.sheetnames == ["answers", "documents"]
    head, *rows = book["answers"].iter_rows()
    names = [cell.value for cell in head]
    assert "created_at (UTC)" in names
    for row, text in zip(rows, TEXTS, strict=True):
        cells = dict(zip(names, row, strict=True))
        assert cells["answer"].data_type == "s"
        assert cells["answer"].value == text.replace("\x01", "_x0001_") or cells["answer"].value == text
        assert cells["answer"].hyperlink is None
        assert (cells["needs_review"].value, cells["confidence"].value) == (True, 0.25)
        assert cells["created_at (UTC)"].value == dt.datetime(2026, 11, 25, 10, 30, 15)
        assert cells["prompt_tokens"].value == str(2**53 + 1)  # a number of a sheet would be another
        assert cells["field_total"].value is None


def test_json_lines_hold_every_value(output: Path) -> None:
    write(compose_export([f"output={output}", "format=jsonl", "tables=[answers]"]))
    lines = (output / "export" / "answers.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line)["answer"] for line in lines if line] == TEXTS
    assert json.loads(lines[0])["evidence_pages"] == [1, 2]


def test_a_transcription_is_a_markdown_file_for_each_document(
    compose: Callable[..., RunSettings], make_pdf: Callable[..., Path], tmp_path: Path
) -> None:
    make_pdf("in/letters/one.pdf", "Dear Ada,", "Yours, Charles")
    (tmp_path / "in" / "letters" / "torn.pdf").write_bytes(b"%PDF-1.7 torn")
    (tmp_path / "in" / ("long" * 60 + ".pdf")).write_bytes(
        (tmp_path / "in" / "letters" / "one.pdf").read_bytes()
    )
    execute(compose(f"input={tmp_path / 'in'}", "task=transcribe", "engine=embedded"))
    files = write(
        compose_export([f"output={tmp_path / 'output'}", "format=markdown", f"to={tmp_path / 'texts'}"])
    )
    assert len(files) == 3
    text = (tmp_path / "texts" / "letters" / "one.pdf.md").read_text(encoding="utf-8")
    assert text.split("\n## Page ")[0] == "# letters/one.pdf\n"
    pages = pd.read_parquet(tmp_path / "output" / "answers").query("source == 'letters/one.pdf'")
    for page, answer in zip(pages["page"], pages["answer"], strict=True):
        assert f"## Page {page:.0f}\n\n{answer}\n" in text
    assert "corrupt:" in (tmp_path / "texts" / "letters" / "torn.pdf.md").read_text(encoding="utf-8")


def test_what_cannot_be_exported_is_said_in_one_line(output: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="must be one of csv"):
        compose_export(["format=pdf"])
    with pytest.raises(SettingsError, match="must be among answers"):
        compose_export(["tables=[people]"])
    with pytest.raises(OutputError, match="is of answers"):
        write(compose_export([f"output={output}", "format=markdown", "tables=[documents]"]))
    with pytest.raises(OutputError, match="has no published requests"):
        write(compose_export([f"output={output}", "tables=[requests]"]))
    command = [sys.executable, "-m", "pipeline.export", f"output={tmp_path / 'nowhere'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


def test_a_question_that_was_not_asked_is_said_so_in_markdown(output: Path, tmp_path: Path) -> None:
    file = output / "answers" / "shard-0000-of-0001.parquet"
    table = pq.read_table(file)
    nothing = pa.nulls(table.num_rows, pa.string())
    for name, column in (("status", pa.array(["not_asked"] * table.num_rows)), ("answer", nothing)):
        table = table.set_column(table.column_names.index(name), name, column)
    pq.write_table(table, file)
    written = write(compose_export([f"output={output}", "format=markdown", "tables=[answers]"]))
    text = written[0].read_text(encoding="utf-8")
    assert "*not asked*" in text
    assert "None" not in text
