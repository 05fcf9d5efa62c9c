"""Merge what people have marked in the page, saved as a CSV, into the reviews of an output."""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.tables import reviews
from pipeline.tables.columns import Row
from pipeline.texts import clean_text
from pipeline.viewing.finished import Finished

VERDICTS = ("right", "wrong", "corrected", "none")
"""`none` takes an earlier mark back."""
_NEEDED = ("answer_id", "source", "verdict", "correction", "marked_at")
_Key = tuple[object, object]


@dataclass(frozen=True, slots=True)
class Merged:
    """What merging has done."""

    marks: int
    reviews: int
    """How many there are now."""
    unknown: int
    """Marks about answers that this output does not have."""

    def __str__(self) -> str:
        """Say it in a line."""
        rest = f"; {self.unknown} are about answers that are not in this output" if self.unknown else ""
        return f"{self.marks} marks merged, {self.reviews} answers reviewed{rest}"


def merge(run: Finished, marks: Path) -> Merged:
    """Add a CSV of marks to the reviews; of two marks of an answer the later counts.

    The answer itself is taken from the tables, not from the CSV, and stays beside the correction. Raises
    SettingsError for a file that is no CSV of marks.
    """
    known = _answers(run)
    kept = {(row["answer_id"], row["source"]): row for row in reviews.load(run.output)}
    read = unknown = 0
    for mark in _read(marks):
        read += 1
        key = mark["answer_id"], mark["source"]
        if key not in known:
            unknown += 1
        # By the time of marking: files of several people may be merged in any order, and twice.
        elif key not in kept or _time(kept[key]) <= _time(mark):
            kept[key] = known[key] | mark
    # Marks of another output: merging nothing without a word would look like success.
    if read and unknown == read:
        raise SettingsError(f"marks={marks}: none of its {read} marks is about an answer of {run.output}")
    reviews.save(run.output, [kept[key] for key in sorted(kept, key=str)])
    return Merged(read, sum(row["verdict"] != "none" for row in kept.values()), unknown)


def of(run: Finished) -> dict[_Key, Row]:
    """Return the reviews of an output that say something, by answer_id and source."""
    found = ((row["answer_id"], row["source"], row) for row in reviews.load(run.output))
    return {(answer_id, source): row for answer_id, source, row in found if row["verdict"] != "none"}


def _answers(run: Finished) -> dict[_Key, Row]:
    names = ["answer_id", "source", "page", "question_id", "question", "task", "answer", "run_id"]
    rows: list[Row] = run.answers.select(names).to_pylist()
    return {(row["answer_id"], row["source"]): row for row in rows}


def _read(marks: Path) -> Iterator[Row]:
    try:
        with marks.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            if missing := [name for name in _NEEDED if name not in (table.fieldnames or ())]:
                raise SettingsError(
                    f"marks={marks}: has no column {missing[0]}; give a CSV that the page saved"
                )
            for line, row in enumerate(table, 2):
                yield _mark(row, f"marks={marks}, line {line}")
    except (OSError, UnicodeError, csv.Error) as error:
        raise SettingsError(
            f"marks={marks}: cannot be read ({error}); give a CSV that the page saved"
        ) from error


def _mark(row: dict[str, str | None], where: str) -> Row:
    verdict = row["verdict"] or ""
    if verdict not in VERDICTS:
        raise SettingsError(f"{where}: verdict {verdict!r} must be one of {', '.join(VERDICTS)}")
    correction = clean_text(_unquoted(row["correction"] or "")) if verdict == "corrected" else None
    try:
        marked_at = dt.datetime.fromisoformat(row["marked_at"] or "")
    except ValueError as error:
        raise SettingsError(f"{where}: marked_at must be a time like 2026-11-25T12:00:00Z") from error
    if marked_at.tzinfo is None:  # spreadsheets take the zone away
        marked_at = marked_at.replace(tzinfo=dt.UTC)
    mark: Row = {"answer_id": row["answer_id"], "source": _unquoted(row["source"] or ""), "verdict": verdict}
    return mark | {"correction": correction, "marked_at": marked_at}


def _unquoted(cell: str) -> str:
    """Undo what the page does so that no spreadsheet takes a cell for a formula."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in tuple("=+-@\t\r'") else cell


def _time(row: Row) -> dt.datetime:
    time = row["marked_at"]
    assert isinstance(time, dt.datetime)
    return time
