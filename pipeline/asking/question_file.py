"""Read a file of questions: rows of texts by column, from CSV, XLSX, YAML, JSON or Parquet."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import logging
import numbers
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from pipeline.asking import csv_text, workbook
from pipeline.asking.plain import once, one_line
from pipeline.texts import clean_text

log = logging.getLogger("pipeline")

Row = dict[str, str]
_MOST_BYTES = 1 << 28
_BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\x00\x00", "utf-32"), (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"),
)  # fmt: skip
_STRUCTURED = ("answers", "pages", "boxes", "fields", "about")
"""Columns of golden sets that may hold lists and objects: they are read as JSON."""
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_OTHER_SPREADSHEETS = (".xls", ".xlsb", ".ods", ".numbers")
_MOSTLY_ASCII = 0.2
"""Share of bytes beyond ASCII under which a text is taken for one in Latin letters."""


@dataclass(frozen=True, slots=True)
class Table:
    columns: tuple[str, ...]
    """All names, without case and surrounding space."""
    rows: list[Row]
    """Texts of the columns that were wanted, where there are any."""


def read(path: Path, wanted: Collection[str], known: Callable[[str], bool]) -> Table:
    """Return what a file of questions holds in the columns `wanted`; `known` tells other names of theirs.

    Raises OSError, or ValueError with the reason, for what is no such file.
    """
    ending = path.suffix.lower()
    if ending in _OTHER_SPREADSHEETS:
        raise ValueError(f"{ending} is not read: save it as XLSX or CSV")
    if not path.is_file():
        raise ValueError("there is no such file")
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"is larger than {_MOST_BYTES >> 20} MiB")
    if ending in (".parquet", ".pq"):
        return _of_objects(_read_parquet(path), wanted)
    if ending in (".xlsx", ".xlsm"):
        return _of_workbook(path, wanted)
    text = _decode(path)
    if ending in (".yaml", ".yml"):
        return _of_objects(_listed(_read_yaml(text)), wanted)
    if ending == ".json":
        return _of_objects(_listed(_read_json(text)), wanted)
    if ending in (".jsonl", ".ndjson"):
        return _of_objects([_read_json(line) for line in text.split("\n") if line.strip()], wanted)
    names, lines = csv_text.read(text, known)
    rows = (zip(names, line, strict=True) for line in lines)
    return Table(tuple(names), [{n: clean_text(cell) for n, cell in row if n in wanted} for row in rows])


def _decode(path: Path) -> str:
    data = path.read_bytes()
    encoding = next((name for mark, name in _BOMS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise ValueError(f"is not the {encoding} that its first bytes announce") from error
        text, found = _guess(data)
        if _CONTROL.search(text):
            raise ValueError("is not text: save it as CSV in UTF-8") from error
        log.warning("task.questions=%s: is not UTF-8, read as %s; save it as UTF-8", one_line(path), found)
    if "\0" in text:
        raise ValueError("holds NUL characters: save it as CSV in UTF-8")
    return text


def _guess(data: bytes) -> tuple[str, str]:
    """Return a text that is not UTF-8, and the name of the encoding it is read in."""
    # What Excel writes on Windows when nobody chooses UTF-8. Of other scripts most bytes are not ASCII.
    if sum(byte > 127 for byte in data) <= _MOSTLY_ASCII * len(data):
        with contextlib.suppress(UnicodeDecodeError):
            return data.decode("cp1252"), "Windows-1252"
    import charset_normalizer

    best = charset_normalizer.from_bytes(data).best()
    if best is None:
        raise ValueError("is not text: save it as CSV in UTF-8")
    return str(best), best.encoding


# ---- workbooks ----


def _of_workbook(path: Path, wanted: Collection[str]) -> Table:
    """Return the rows of all sheets that have questions, one sheet after the other."""
    sheets, others = workbook.read(path, lambda names: "question" in map(csv_text.tidy, names))
    if others:
        log.info("task.questions=%s: the sheets %s are not used", one_line(path), one_line(", ".join(others)))
    columns: dict[str, None] = {}
    rows: list[Row] = []
    for sheet in sheets:
        header = csv_text.header(sheet.names)
        columns.update(dict.fromkeys(header))
        for cells in sheet.rows:
            values = {
                n: _text(v, len(rows) + 1, n) for n, v in zip(header, cells, strict=True) if n in wanted
            }
            rows.append({name: text for name, text in values.items() if text is not None})
    return Table(tuple(columns), rows)


# ---- YAML, JSON, Parquet ----


def _read_yaml(text: str) -> object:
    import yaml

    class Texts(getattr(yaml, "CBaseLoader", yaml.BaseLoader)):  # type: ignore[misc]
        """Takes every value as it is written: 0060 stays 0060, `yes` and 12:30 are texts."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
            return once(self.construct_pairs(node, deep=True))

    null = "tag:yaml.org,2002:null"
    Texts.add_implicit_resolver(null, re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
    Texts.add_constructor(null, lambda loader, node: None)
    try:
        return yaml.load(text, Texts)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"cannot be read ({one_line(error)})") from error


def _read_json(text: str) -> object:
    try:
        # Numbers stay as written: a gold answer "12.50" is not 12.5.
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"cannot be read ({one_line(error)})") from error


def _read_parquet(path: Path) -> list[object]:
    import pandas

    try:
        # Nullable dtypes: else a column of page numbers with a gap comes back as 3.0.
        table = pandas.read_parquet(path, dtype_backend="numpy_nullable")
        named = [name for name in table.index.names if name is not None]
        rows = (table.reset_index(named) if named else table).to_dict("records")
    except Exception as error:  # of any type, as damaged files go: none may end otherwise than in one line
        raise ValueError(f"cannot be read ({one_line(error)})") from error
    isna = pandas.isna
    return [
        {name: None if pandas.api.types.is_scalar(v) and isna(v) else v for name, v in row.items()}
        for row in rows
    ]


def _listed(loaded: object) -> list[object]:
    if not isinstance(loaded, list):
        raise ValueError("must be a list of rows with question_id and question")
    return loaded


def _of_objects(loaded: Iterable[object], wanted: Collection[str]) -> Table:
    columns: dict[str, None] = {}
    rows: list[Row] = []
    for number, given in enumerate(loaded, 1):
        if not isinstance(given, dict):
            raise ValueError(
                f"row {number} is no row: it must have names and values, as question_id and question"
            )
        header = csv_text.header([str(name) for name in given])
        columns.update(dict.fromkeys(header))
        csv_text.header(list(columns))
        named = zip(header, given.values(), strict=True)
        values = {name: _text(value, number, name) for name, value in named if name in wanted}
        rows.append({name: text for name, text in values.items() if text is not None})
    return Table(tuple(columns), rows)


def _text(value: object, row: int, name: str) -> str | None:
    """Return a value as text: whole numbers without a point, as tables hold page numbers as floats."""
    if value is None or isinstance(value, str):
        return value if value is None else clean_text(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real):
        number = float(value)
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else str(value)
    if isinstance(value, dt.date | dt.time | dt.timedelta | Decimal):
        return str(value)
    if name in _STRUCTURED:
        # Parquet gives lists as arrays.
        return json.dumps(getattr(value, "tolist", lambda: value)(), ensure_ascii=False, default=str)
    raise ValueError(f"row {row}: its {name} is not a text")
