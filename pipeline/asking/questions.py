"""Tasks and their questions: what is asked, of which documents, and the shape of a valid answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.config import TaskSettings
from pipeline.errors import SettingsError
from pipeline.records import Question, matches

SCOPES = ("page", "document", "folder")


def questions(settings: TaskSettings) -> list[Question]:
    """Return the task's questions, from its file or its one `question`; ids are unique."""
    if settings.scope not in SCOPES:
        raise SettingsError(f"task.scope={settings.scope}: must be one of {', '.join(SCOPES)}")
    if settings.questions is None:
        if not settings.question:
            raise SettingsError(
                f"task={settings.name}: needs questions; give task.questions=FILE (CSV, YAML or Parquet with "
                "the columns question_id and question) or task.question='…'"
            )
        return [Question(question_id=settings.name, text=settings.question)]
    rows = _read(Path(settings.questions))
    found = [_question(row, number, settings.questions) for number, row in enumerate(rows, 1)]
    if not found:
        raise SettingsError(f"task.questions={settings.questions}: holds no question")
    seen: set[tuple[str, str]] = set()
    for question in found:
        if (key := (question.question_id, question.document)) in seen:
            raise SettingsError(f"task.questions={settings.questions}: question_id {key[0]!r} appears twice")
        seen.add(key)
    return found


def _read(path: Path) -> list[Mapping[str, Any]]:
    import pandas
    import yaml

    try:
        if path.suffix.lower() in (".yaml", ".yml"):
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
            if not (isinstance(loaded, list) and all(isinstance(row, dict) for row in loaded)):
                raise SettingsError(f"task.questions={path}: must be a list of question_id and question")
            return loaded
        if path.suffix.lower() == ".parquet":
            table = pandas.read_parquet(path)
        else:
            table = pandas.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise SettingsError(f"task.questions={path}: there is no such file") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SettingsError(
            f"task.questions={path}: cannot be read ({str(error).splitlines()[0]})"
        ) from error
    return [
        {str(k): v for k, v in row.items() if not (pandas.api.types.is_scalar(v) and pandas.isna(v))}
        for row in table.to_dict("records")
    ]


def _question(row: Mapping[str, Any], number: int, path: str) -> Question:
    text, question_id = (str(row.get(name) or "").strip() for name in ("question", "question_id"))
    if not text or not question_id:
        raise SettingsError(f"task.questions={path}: row {number} lacks question_id or question")
    gold = {name: str(row[name]) if row.get(name) not in (None, "") else None for name in ("answer", "page")}
    document = str(row.get("document") or "")
    return Question(question_id, text, document, gold_answer=gold["answer"], gold_page=gold["page"])


class Selection:
    def __init__(self, questions: list[Question]) -> None:
        self._questions = questions
        self.count = len(questions)

    def of(self, source: str) -> list[Question]:
        return [q for q in self._questions if matches(source, q.document)]

    def unmatched(self, sources: Sequence[str]) -> list[Question]:
        return [q for q in self._questions if q.document and not any(matches(s, q.document) for s in sources)]
