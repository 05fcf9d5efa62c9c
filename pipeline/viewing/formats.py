"""Write tables in the formats that spreadsheets and scripts read."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from pathlib import Path

from pipeline import store
from pipeline.config import ExportSettings
from pipeline.errors import OutputError
from pipeline.tables import read
from pipeline.tables.columns import Row, Value
from pipeline.tables.read import Table

_READ: Mapping[str, Callable[[Path], Table]] = {
    "answers": read.answers,
    "documents": read.documents,
    "requests": read.requests,
}
_BATCH_ROWS = 4096
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)*\s?%?")
_MOST_ROWS = 1_048_575
"""Rows of a sheet under its heads."""
_MOST_CHARS = 32_767
"""Characters of a cell of a sheet."""
_MOST_NAME_BYTES = 200


def write(settings: ExportSettings) -> list[Path]:
    """Write the files beside their place, then put them there; return them. Raises OutputError."""
    output = store.folder(settings.output)
    to = store.folder(settings.to) if settings.to else output / "export"
    tables = {name: _READ[name](output) for name in settings.tables}
    aside = to / ".aside"
    with store.disk_errors(to):
        # An export that was killed may have left it.
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        _WRITERS[settings.format](tables, aside)
        files = sorted(file.relative_to(aside) for file in aside.rglob("*") if file.is_file())
        for file in files:
            (to / file).parent.mkdir(parents=True, exist_ok=True)
            (aside / file).replace(to / file)
        shutil.rmtree(aside)
        for file in files:
            store.send_all(to / file)
    return [to / file for file in files]


def _rows(table: Table) -> Iterator[Row]:
    for start in range(0, table.num_rows, _BATCH_ROWS):
        yield from table.slice(start, _BATCH_ROWS).to_pylist()


# ---- CSV and JSON Lines ----


def _csv(tables: Mapping[str, Table], folder: Path) -> None:
    for name, table in tables.items():
        # The mark at the beginning is what tells Excel that this is UTF-8.
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8-sig") as file:
            lines = csv.writer(file)
            lines.writerow(table.column_names)
            lines.writerows([_cell(value) for value in row.values()] for row in _rows(table))


def _cell(value: Value) -> str:
    """Return a value as CSV has it; a text that a spreadsheet would calculate gets an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, str):
        # A number may begin with a sign and stays one.
        formula = value[:1] in ("=", "+", "-", "@", "\t", "\r") and not _NUMBER.fullmatch(value)
        return f"'{value}" if formula else value
    return _text(value)


def _text(value: Value) -> str:
    """Return a list as its items, and what is nested as JSON."""
    if isinstance(value, list) and not any(isinstance(item, (list, dict)) for item in value):
        return ", ".join("" if item is None else str(item) for item in value)
    return (
        str(value) if isinstance(value, (int, float)) else json.dumps(value, ensure_ascii=False, default=str)
    )


def _jsonl(tables: Mapping[str, Table], folder: Path) -> None:
    for name, table in tables.items():
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for row in _rows(table):
                kept = {key: _plain(value) for key, value in row.items()}
                file.write(json.dumps(kept, ensure_ascii=False, allow_nan=False) + "\n")


def _plain(value: Value) -> Value:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no word for it
    return [_plain(item) for item in value] if isinstance(value, list) else value


# ---- XLSX ----


def _xlsx(tables: Mapping[str, Table], folder: Path) -> None:
    import xlsxwriter

    # Without these, texts become links and formulas; `constant_memory` writes row by row.
    kept_as_text = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    options = kept_as_text | {"constant_memory": True, "default_date_format": "yyyy-mm-dd hh:mm:ss"}
    with xlsxwriter.Workbook(folder / "tables.xlsx", options) as book:
        bold = book.add_format({"bold": True})
        for name, table in tables.items():
            for start in range(0, max(table.num_rows, 1), _MOST_ROWS):
                sheet = book.add_worksheet(f"{name} {start // _MOST_ROWS + 1}" if start else name)
                sheet.freeze_panes(1, 0)
                sheet.write_row(0, 0, [_head(field) for field in table.schema], bold)
                for line, row in enumerate(_rows(table.slice(start, _MOST_ROWS)), 1):
                    for column, value in enumerate(row.values()):
                        _write_cell(sheet, line, column, value)


def _head(field: object) -> str:
    """Return a column's name; of times with the zone, which cells have none for."""
    return f"{field.name} (UTC)" if "timestamp" in str(field.type) else str(field.name)  # type: ignore[attr-defined]


def _write_cell(sheet: object, line: int, column: int, value: Value) -> None:
    write = sheet.write_string, sheet.write_boolean, sheet.write_number, sheet.write_datetime  # type: ignore[attr-defined]
    string, boolean, number, time = write
    if isinstance(value, bool):
        boolean(line, column, value)
    elif isinstance(value, (int, float)):
        # A cell holds 15 digits: longer numbers would change without a word.
        exact = math.isfinite(value) and (isinstance(value, float) or abs(value) < 10**15)
        number(line, column, value) if exact else string(line, column, str(value))
    elif isinstance(value, dt.datetime):
        time(line, column, value.astimezone(dt.UTC).replace(tzinfo=None))
    elif value is not None:
        text = value if isinstance(value, str) else _text(value)
        string(line, column, text if len(text) <= _MOST_CHARS else text[: _MOST_CHARS - 2] + " …")


# ---- Markdown ----


def _markdown(tables: Mapping[str, Table], folder: Path) -> None:
    """Write a file for each document, named as it is."""
    answers = tables.get("answers")
    if answers is None:
        raise OutputError("format=markdown: is of answers; set tables=[answers]")
    for source, rows in groupby(_rows(answers), lambda row: str(row["source"])):
        file = folder / _file_of(source)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# {source}\n" + "".join(map(_section, rows)), encoding="utf-8")


def _section(row: Row) -> str:
    head = f"Page {row['page']}" if row["page"] else ""
    if row["task"] != "transcribe":
        head = ": ".join(filter(None, [head, " ".join(str(row["question"]).split())]))
    said = str(row["answer"] or "")
    if row["status"] == "not_asked":
        said = "*not asked*"
    elif row["status"] != "ok":
        said = f"{said}\n\n*{row['error_code']}: {row['error']}*".strip()
    return (f"\n## {head}\n" if head else "") + f"\n{said}\n"


def _file_of(source: str) -> Path:
    """Return a name below the folder, whatever the source is called."""
    parts = [part for part in source.split("/") if part not in ("", ".", "..")]
    return Path(*(_short(part) for part in parts[:-1]), _short(parts[-1] if parts else "folder") + ".md")


def _short(name: str) -> str:
    name = name.replace("\0", "")
    if len(name.encode()) <= _MOST_NAME_BYTES:
        return name
    told_apart = hashlib.sha256(name.encode()).hexdigest()[:12]
    return name.encode()[: _MOST_NAME_BYTES - 13].decode("utf-8", "ignore") + "-" + told_apart


_WRITERS: Mapping[str, Callable[[Mapping[str, Table], Path], None]] = {
    "csv": _csv,
    "xlsx": _xlsx,
    "jsonl": _jsonl,
    "markdown": _markdown,
}
