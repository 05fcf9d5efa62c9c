"""Read CSV as spreadsheets write it, whatever the separator, and refuse what does not fit its first line."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence

from pipeline.asking.plain import one_line
from pipeline.texts import clean_text

_SEPARATORS = ",;\t|"
_MOST_COLUMNS = 1000


def read(text: str, known: Callable[[str], bool]) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns, and the rows that hold anything, each with as many texts.

    `known` tells the columns that are looked for. Raises ValueError for a row that does not fit.
    """
    separator, text = _separator(text, known)
    line_number = 0
    filled: list[list[str]] = []
    try:
        # strict: a quote that is left open would swallow the rows below it.
        lines = csv.reader(
            io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True
        )
        for line in lines:
            line_number = lines.line_num
            if any(cell.strip() for cell in line):
                filled.append(line)
    except (csv.Error, TypeError, ValueError) as error:
        reason = f"cannot be read after line {line_number} ({one_line(error)}): check its quotes"
        raise ValueError(reason) from error
    names = header(filled[0]) if filled else []
    # A row with a field too many has a comma in a text that was not quoted: all after it would be shifted.
    for number, line in enumerate(filled[1:], 1):
        if len(line) != len(names):
            raise ValueError(_misfit(number, line, names, separator))
    return names, filled[1:]


def _separator(text: str, known: Callable[[str], bool]) -> tuple[str, str]:
    """Return the separator that finds the most columns we know in the first line, and the text to read."""
    first, _, rest = text.lstrip("\r\n").partition("\n")
    if match := re.fullmatch(r"sep=(.)\r?", first):  # a line that spreadsheets write
        return match[1], rest
    # Not csv.Sniffer: it guesses from all characters and takes letters for separators in short files.
    line = first.partition("\r")[0][:10_000].replace('"', "")
    found = {each: sum(known(tidy(name)) for name in line.split(each)) for each in _SEPARATORS}
    return max(_SEPARATORS, key=lambda each: found[each]), text


def header(cells: Sequence[str]) -> list[str]:
    """Return the names of columns without case and surrounding space. Raises ValueError for two alike."""
    if len(cells) > _MOST_COLUMNS:
        raise ValueError(f"has {len(cells)} columns: is it a table of questions?")
    names = [tidy(cell) for cell in cells]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"has the column {twice[:60]!r} twice")
    return names


def _misfit(number: int, line: Sequence[str], names: Sequence[str], separator: str) -> str:
    counts = f"row {number} has {len(line)} fields where the header has {len(names)}"
    if len(line) < len(names):
        return f"{counts}: {names[len(line)][:60]!r} and what follows is missing"
    extra = one_line(repr(line[len(names)]), 60)
    return f"{counts}, {extra} is one too many: put a text that holds {separator!r} in double quotes"


def tidy(name: str) -> str:
    """Return the name of a column without case and surrounding space."""
    return clean_text(name).strip().casefold()
