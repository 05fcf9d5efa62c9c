"""Tasks and their questions: what is asked, of which documents."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.asking import condition, question_file
from pipeline.asking.plain import one_line
from pipeline.asking.selection import same_documents
from pipeline.config import TaskSettings
from pipeline.errors import SettingsError
from pipeline.records import Question
from pipeline.texts import clean_text

log = logging.getLogger("pipeline")

SCOPES = ("page", "document", "folder")
_COLUMNS = ("question_id", "question", "document", "answer", "page", "when")
# What others call our columns: left unread, such a column would change what is asked without a word.
_OTHER_NAMES = {
    "document": "doc docs doc_id doc_name document_id document_name documents file files filename file_name "
    "filepath file_path path pdf source sources",
    "question_id": "id ids qid q_id questionid question_no question_number",
    "question": "q query queries questions question_text text prompt",
    "answer": "gold expected answers gold_answer expected_answer reference_answer ground_truth",
    "when": "condition conditions only_if only_when ask_if",
    "page": "pages page_number page_no gold_page",
}
_OURS_BY_NAME = {other: ours for ours, others in _OTHER_NAMES.items() for other in others.split()}
_SHOWN = 8


def questions(settings: TaskSettings) -> list[Question]:
    """Return the task's questions, from its file or its one `question`; each id once per pattern."""
    if settings.scope not in SCOPES:
        raise SettingsError(f"task.scope={settings.scope}: must be one of {', '.join(SCOPES)}")
    if settings.questions is None:
        if not (text := clean_text(settings.question or "").strip()):
            raise SettingsError(
                f"task={settings.name}: needs questions; give task.questions=FILE (CSV, XLSX, YAML, "
                "JSON or Parquet with the column question) or task.question='…'"
            )
        return [Question(question_id=settings.name, text=text)]
    try:
        return _from_file(settings.questions)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"task.questions={one_line(settings.questions)}: {one_line(error, 400)}"
        ) from error


def _from_file(path: str) -> list[Question]:
    table = question_file.read(Path(path), _COLUMNS, lambda name: name in _COLUMNS or _ours(name) is not None)
    _check_columns(table.columns, path)
    has_ids = "question_id" in table.columns
    found = [_question(row, number, has_ids) for number, row in enumerate(table.rows, 1)]
    if not found:
        raise ValueError("holds no question")
    seen: set[tuple[str, str]] = set()
    for question in found:
        if (key := (question.question_id, same_documents(question.document))) in seen:
            where = f" for {one_line(repr(question.document), 60)}" if question.document else ""
            raise ValueError(
                f"question_id {one_line(repr(key[0]), 60)} appears twice{where}: give each its own"
            )
        seen.add(key)
    condition.check(found)
    return found


def _check_columns(columns: Sequence[str], path: str) -> None:
    """Name the columns that are not read, and refuse those that are ours by another name."""
    others = [name for name in columns if name not in _COLUMNS and name]
    for name in others:
        if (ours := _ours(name)) and ours not in columns:
            raise ValueError(f"column {name[:60]}: is this `{ours}`? Rename it, or remove it")
    if columns and "question" not in columns:
        raise ValueError(f"has the columns {_named(columns)}, and no column question")
    if others:
        log.info("task.questions=%s: the columns %s are not used", one_line(path), _named(others))


def _named(columns: Sequence[str]) -> str:
    shown = ", ".join(one_line(name or "(no name)", 40) for name in columns[:_SHOWN])
    return shown + (f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else "")


def _ours(name: str) -> str | None:
    """Return our column of which this looks like another name, if it does."""
    joined = re.sub(r"[\W_]+", "_", name).strip("_")
    if name in _COLUMNS or len(joined) > 40:
        return None
    if ours := joined if joined in _COLUMNS else _OURS_BY_NAME.get(joined):
        return ours
    # High enough for `quesiton`, too high for a column of another meaning.
    return next(iter(difflib.get_close_matches(joined, _COLUMNS, n=1, cutoff=0.85)), None)


def _question(row: Mapping[str, str], number: int, has_ids: bool) -> Question:
    text, question_id, document = (
        row.get(name, "").strip() for name in ("question", "question_id", "document")
    )
    # By place in the file: stable for as long as questions are only added at its end.
    if not has_ids:
        question_id = f"q{number}"
    if not text or not question_id:
        raise ValueError(f"row {number} lacks question_id or question")
    gold_answer, gold_page = row.get("answer") or None, row.get("page") or None
    when = condition.parse(row.get("when", ""))
    return Question(question_id, text, document, gold_answer=gold_answer, gold_page=gold_page, when=when)
