"""Read the questions of an XLSX workbook: of each visible sheet whose first row names such a column."""

from __future__ import annotations

import datetime as dt
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.asking.plain import one_line

if TYPE_CHECKING:
    from openpyxl.worksheet._read_only import ReadOnlyWorksheet

Cell = str | int | float | bool | dt.date | dt.time | dt.timedelta | None

_MOST_BYTES = 1 << 26
"""Of the workbook's parts, unpacked: a packed file of a few KB can hold gigabytes."""
_MOST_COLUMNS = 1000
_MOST_EMPTY_ROWS = 10_000


class Sheet(NamedTuple):
    name: str
    names: list[str]
    """The first row that holds anything."""
    rows: list[list[Cell]]
    """The others that do, each with as many cells."""


def read(path: Path, has_questions: Callable[[list[str]], bool]) -> tuple[list[Sheet], list[str]]:
    """Return the sheets of questions, and the names of the others.

    Where no sheet has questions, the first visible one is returned, whose columns then say what is missing.
    Raises ValueError with the reason for what is no such workbook, whatever it holds.
    """
    _check_size(path)
    import openpyxl

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and validations, which nobody needs here
            book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
            try:
                sheets = [_sheet(each) for each in book.worksheets if each.sheet_state == "visible"]
            finally:
                book.close()
    except _Refused:
        raise
    except Exception as error:  # of any type, as damaged files go: none may end otherwise than in one line
        raise ValueError(f"cannot be read as XLSX ({one_line(error)}): save it again, or as CSV") from error
    filled = [sheet for sheet in sheets if sheet.names]
    chosen = [sheet for sheet in filled if has_questions(sheet.names)] or filled[:1]
    return chosen, [sheet.name for sheet in filled if sheet not in chosen]


class _Refused(ValueError):
    """A workbook that is sound, or may be, and holds what cannot be a table of questions."""


def _check_size(path: Path) -> None:
    """Refuse what is no workbook, or would fill the memory, before anything is unpacked."""
    with path.open("rb") as file:
        if file.read(8) == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
            raise ValueError("is encrypted, or of an old format: save it as XLSX without a password")
    try:
        with zipfile.ZipFile(path) as parts:
            size = sum(part.file_size for part in parts.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ValueError(f"is no XLSX file ({one_line(error)}): save it again, or as CSV") from error
    if size > _MOST_BYTES:
        raise ValueError(f"unpacks to {size >> 20} MiB, over {_MOST_BYTES >> 20}: save it as CSV")


def _sheet(sheet: ReadOnlyWorksheet) -> Sheet:
    sheet.reset_dimensions()  # what a file says of its own size is not to be relied on
    rows = _filled(sheet)
    head = next(rows, [])
    while head and head[-1] is None:
        head.pop()
    names = ["" if name is None else str(name) for name in head]
    return Sheet(sheet.title, names, [_fitted(row, len(names), sheet.title) for row in rows])


def _filled(sheet: ReadOnlyWorksheet) -> Iterator[list[Cell]]:
    """Yield the rows that hold anything."""
    empty = 0
    for number, row in enumerate(sheet.iter_rows(), 1):
        if len(row) > _MOST_COLUMNS:
            raise _Refused(
                f"sheet {one_line(sheet.title, 40)} has {len(row)} columns: is it a table of questions?"
            )
        cells = [_value(cell.value, cell.data_type, number, sheet.title) for cell in row]
        if any(cell is not None for cell in cells):
            empty = 0
            yield cells
        elif (empty := empty + 1) > _MOST_EMPTY_ROWS:
            raise _Refused(
                f"sheet {one_line(sheet.title, 40)} has over {_MOST_EMPTY_ROWS} empty rows: delete them"
            )


def _value(value: object, kind: str, row: int, sheet: str) -> Cell:
    if kind == "e":
        raise _Refused(f"sheet {one_line(sheet, 40)}, row {row}: a cell is {one_line(value, 20)}: correct it")
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, dt.datetime) and value.time() == dt.time():
        return value.date()  # a day, as cells have it
    if isinstance(value, str | int | float | dt.date | dt.time | dt.timedelta):
        return value
    return str(value)


def _fitted(row: list[Cell], columns: int, sheet: str) -> list[Cell]:
    if any(cell is not None for cell in row[columns:]):
        raise _Refused(f"sheet {one_line(sheet, 40)}: a row has cells to the right of its named columns")
    return [*row, *[None] * (columns - len(row))][:columns]
