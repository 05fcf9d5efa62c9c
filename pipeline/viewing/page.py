"""The page about what a run has answered."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from pipeline.errors import OutputError
from pipeline.tables import journal

_COUNTED = ["answer_id", "question_id", "question", "status", "error_code", "needs_review", "confidence"]


_SHOWN = ["source", "page", "question", "answer", "evidence_pages", "evidence_found", "confidence"]


_INPUTS = ["source", "kind", "status", "error_code", "error", "pages", "text_layer_pages", "blank_pages"]


_BARS = 20


_MOST_QUESTIONS = 50


_MOST_REVIEWED = 100


_MOST_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of the histogram of confidence."""

    low: float
    high: float
    answers: int
    height: float
    """Share of the highest bar."""
    doubtful: bool
    """Below the confidence under which answers are marked for review."""


def write(output: Path) -> Path:
    """Write OUTPUT/report.html, whole, and return where it is. Raises OutputError without answers."""
    target = output / "report.html"
    page = render(output)
    with journal.disk_errors(output):
        journal.write_text(target, page)
    return target


def render(output: Path) -> str:
    """Return the page. Memory is bounded by the counted columns, not by the text of all answers."""
    if not any((output / "answers").glob("shard-*.parquet")):
        raise OutputError(f"output={output}: has no published answers; run or publish first")
    try:
        run = json.loads((output / "run.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise OutputError(f"output={output}: has no run.json, which tells what was asked") from error
    answers = pd.read_parquet(output / "answers", columns=_COUNTED, dtype_backend="pyarrow")
    documents = pd.read_parquet(output / "documents", columns=_INPUTS, dtype_backend="pyarrow")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # names, questions and answers are other people's text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    ok = answers["status"] == "ok"
    return environment.get_template("page.html.j2").render(
        run=run,
        inputs=len(documents),
        inputs_failed=int((documents["status"] != "ok").sum()),
        rows=len(answers),
        ok=int(ok.sum()),
        doubtful=int((ok & answers["needs_review"]).sum()),
        failed=int((~ok).sum()),
        questions=_questions(answers),
        questions_in_all=answers["question_id"].nunique(),
        errors=_errors(output, answers),
        bars=_histogram(answers.loc[ok, "confidence"], run["settings"]["engine"]["review_below"]),
        kinds=_kinds(documents),
        failing=_failing(documents),
        review=_to_review(output, answers[ok & answers["needs_review"]]),
        has_summary=(output / "summary.md").exists(),
    )


def _questions(answers: pd.DataFrame) -> list[dict[str, Any]]:
    """Count the answers to each question, those with most to look at first."""
    marked = answers.assign(
        ok=(answers["status"] == "ok").astype(int),
        review=((answers["status"] == "ok") & answers["needs_review"]).astype(int),
    )
    counted = marked.groupby("question_id", sort=True).agg(
        question=("question", "first"),
        rows=("ok", "size"),
        ok=("ok", "sum"),
        review=("review", "sum"),
        confidence=("confidence", "median"),
    )
    counted["open"] = counted["rows"] - counted["ok"] + counted["review"]
    counted = counted.sort_values("open", ascending=False, kind="stable").head(_MOST_QUESTIONS)
    return _records(counted.reset_index())


def _errors(output: Path, answers: pd.DataFrame) -> list[dict[str, Any]]:
    """Count the error rows by code, each with what a few of them say."""
    counts = answers.loc[answers["status"] == "error", "error_code"].value_counts()
    found = []
    for code, rows in counts.items():
        chosen = answers.loc[answers["error_code"] == code, "answer_id"].head(_MOST_EXAMPLES)
        examples = _read(output, chosen, ["source", "error"]).drop_duplicates("source")
        found.append({"code": code, "rows": int(rows), "examples": _records(examples)})
    return found


def _histogram(confidence: pd.Series[float], review_below: float) -> list[Bar]:
    """Return the bars of a histogram from 0 to 1; none when no answer has a confidence."""
    known = confidence.dropna()
    places = (known * _BARS).astype(int).clip(upper=_BARS - 1).value_counts()
    if places.empty:
        return []
    highest = int(places.max())
    heights = [int(places.get(place, 0)) for place in range(_BARS)]
    return [
        Bar(place / _BARS, (place + 1) / _BARS, n, n / highest, (place + 0.5) / _BARS < review_below)
        for place, n in enumerate(heights)
    ]


def _failing(documents: pd.DataFrame) -> list[dict[str, Any]]:
    """Count the inputs that could not be read whole by code, asked about or not, each with what a few say."""
    failed = documents[documents["status"] != "ok"]
    return [
        {"code": code, "inputs": len(rows), "examples": list(rows["error"].head(_MOST_EXAMPLES))}
        for code, rows in failed.groupby("error_code", sort=True)
    ]


def _kinds(documents: pd.DataFrame) -> list[dict[str, Any]]:
    """Count inputs and pages by kind of file."""
    marked = documents.assign(failed=(documents["status"] != "ok").astype(int))
    counted = marked.groupby("kind", sort=True).agg(
        inputs=("source", "size"),
        failed=("failed", "sum"),
        pages=("pages", "sum"),
        text_layer_pages=("text_layer_pages", "sum"),
        blank_pages=("blank_pages", "sum"),
    )
    return _records(counted.reset_index())


def _to_review(output: Path, doubtful: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the doubtful answers of least confidence; those without one come first."""
    first = doubtful.sort_values("confidence", na_position="first", kind="stable").head(_MOST_REVIEWED)
    shown = _read(output, first["answer_id"], ["answer_id", *_SHOWN])
    place = {answer_id: number for number, answer_id in enumerate(first["answer_id"])}
    order = shown["answer_id"].map(place).sort_values(kind="stable").index
    return _records(shown.loc[order])


def _read(output: Path, answer_ids: pd.Series[str], columns: list[str]) -> pd.DataFrame:
    """Read some columns of a few answers."""
    if answer_ids.empty:
        return pd.DataFrame(columns=columns)
    chosen = [("answer_id", "in", list(answer_ids))]
    return pd.read_parquet(output / "answers", columns=columns, filters=chosen, dtype_backend="pyarrow")


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as plain values, with None for what is missing."""
    return [{str(name): _plain(value) for name, value in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    if isinstance(value, str) or not pd.api.types.is_scalar(value):
        return value
    return None if pd.isna(value) else value
