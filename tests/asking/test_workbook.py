"""Questions in an XLSX workbook, whoever has made it."""

from __future__ import annotations

import datetime as dt
import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import openpyxl
import pytest

from pipeline.asking import questions
from pipeline.config import RunSettings
from pipeline.errors import SettingsError
from pipeline.records import Question

Sheets = dict[str, Sequence[Sequence[object]]]


def book(file: Path, sheets: Sheets, hidden: str = "") -> Path:
    made = openpyxl.Workbook()
    made.remove(made.active)
    for name, rows in sheets.items():
        sheet = made.create_sheet(name)
        for row in rows:
            sheet.append(row)
        sheet.sheet_state = "hidden" if name == hidden else "visible"
    made.save(file)
    return file


def changed(file: Path, part: str, change: Callable[[bytes], bytes]) -> Path:
    """Replace a part of a workbook."""
    with zipfile.ZipFile(file) as before:
        parts = {info.filename: before.read(info) for info in before.infolist()}
    parts[part] = change(parts.get(part, b""))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as after:
        for name, data in parts.items():
            after.writestr(name, data)
    return file


@pytest.fixture
def read(compose: Callable[..., RunSettings]) -> Callable[[Path], list[Question]]:
    task = compose("input=.", "task=qa").task
    return lambda file: questions.questions(replace(task, questions=str(file)))


Read = Callable[[Path], list[Question]]


def test_cells_are_read_as_people_see_them(read: Read, tmp_path: Path) -> None:
    rows: list[Sequence[object]] = [
        [None, None, None, None, None],
        ["Question_ID ", "question", "document", "answer", "page"],
        ["a", "Wie viel?", "x/*.pdf", "0060", 7],
        [2, "合計は？", None, 12.5, None],
        [None] * 5,
        ["c", "When?", None, dt.datetime(2024, 5, 1), 3.0],
        ["d", "Is it?", None, True, None],
    ]
    assert read(book(tmp_path / "q.xlsx", {"Sheet": rows})) == [
        Question("a", "Wie viel?", "x/*.pdf", gold_answer="0060", gold_page="7"),
        Question("2", "合計は？", gold_answer="12.5"),
        Question("c", "When?", gold_answer="2024-05-01", gold_page="3"),
        Question("d", "Is it?", gold_answer="true"),
    ]


def test_every_visible_sheet_of_questions_is_read_and_the_others_are_named(
    read: Read, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sheets: Sheets = {
        "Notes": [["made by", "me"]],
        "Money": [["question"], ["How much?"]],
        "Old": [["question"], ["No more?"]],
        "People": [["question", "document"], ["Who?", "b.pdf"]],
    }
    caplog.set_level("INFO")
    found = read(book(tmp_path / "q.xlsx", sheets, hidden="Old"))
    assert found == [Question("q1", "How much?"), Question("q2", "Who?", "b.pdf")]
    assert "the sheets Notes are not used" in caplog.text


def test_a_workbook_without_a_column_of_questions_says_what_it_has(read: Read, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="column id: is this `question_id`"):
        read(book(tmp_path / "q.xlsx", {"Sheet": [["id", "text"], ["a", "b"]]}))


def sparse(sheet: bytes) -> bytes:
    return sheet.replace(b"</sheetData>", b'<row r="1048576"><c r="A1048576"><v>1</v></c></row></sheetData>')


def wide(sheet: bytes) -> bytes:
    return sheet.replace(b"</sheetData>", b'<row r="9"><c r="XFD9"><v>1</v></c></row></sheetData>')


def entities(sheet: bytes) -> bytes:
    levels = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    start = f'<!DOCTYPE x [<!ENTITY a0 "{"x" * 100}">{levels}]>'.encode()
    return start + sheet.replace(b"<v>0</v>", b"<v>&a9;</v>").replace(b"</sheetData>", b"&a9;</sheetData>")


@pytest.mark.parametrize(
    ("part", "change", "says"),
    [
        ("xl/worksheets/sheet1.xml", sparse, "empty rows"),
        ("xl/worksheets/sheet1.xml", wide, "16384 columns"),
        ("xl/worksheets/sheet1.xml", entities, "cannot be read as XLSX"),
        ("xl/worksheets/sheet1.xml", lambda data: data[: len(data) // 2], "cannot be read as XLSX"),
        ("xl/workbook.xml", lambda data: b"<no", "cannot be read as XLSX"),
        ("xl/media/bomb", lambda data: bytes(80 << 20), "unpacks to 8. MiB, over 64"),
    ],
)
def test_a_hostile_workbook_is_refused_in_one_line(
    read: Read, tmp_path: Path, part: str, change: Callable[[bytes], bytes], says: str
) -> None:
    file = book(tmp_path / "q.xlsx", {"Sheet": [["question", "answer"], ["How much?", 1]]})
    with pytest.raises(SettingsError, match=says) as refused:
        read(changed(file, part, change))
    assert len(str(refused.value).splitlines()) == 1


def test_a_cell_that_is_an_error_is_named(read: Read, tmp_path: Path) -> None:
    file = book(tmp_path / "q.xlsx", {"Sheet": [["question"], ["#REF!"]]})
    with pytest.raises(SettingsError, match="sheet Sheet, row 2: a cell is #REF!: correct it"):
        read(file)


def test_a_workbook_with_a_password_says_so(read: Read, tmp_path: Path) -> None:
    file = tmp_path / "q.xlsx"
    file.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    with pytest.raises(SettingsError, match="is encrypted, or of an old format"):
        read(file)


def test_any_damage_to_a_workbook_ends_in_one_line_or_in_questions(read: Read, tmp_path: Path) -> None:
    whole = io.BytesIO(book(tmp_path / "q.xlsx", {"Sheet": [["question"], ["How much?"]]}).read_bytes())
    data = whole.getvalue()
    for place in range(0, len(data), 97):
        damaged = bytearray(data)
        damaged[place : place + 3] = b"\xff\x00\x7f"
        (tmp_path / "q.xlsx").write_bytes(damaged)
        try:
            read(tmp_path / "q.xlsx")
        except SettingsError as error:
            assert len(str(error).splitlines()) == 1
