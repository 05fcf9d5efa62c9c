"""Write the data of the page: what its table shows, and what it shows of each answer, in files."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pipeline.records import Box, Json
from pipeline.tables import read
from pipeline.tables.columns import Row, Value
from pipeline.viewing import marks, script
from pipeline.viewing.finished import Finished
from pipeline.viewing.pages import Drawn, PageName

_FIRST_ROWS = 500
_TABLE_ROWS = 5000
"""Rows of the table in a file: the first file fills the screen at once, the others follow while one looks."""
DETAIL_ROWS = 200
"""Answers in a file that is loaded when one of them is opened."""
_MOST_SEARCHED = 40_000_000
"""Characters of all answers that the table holds, so that searching is quick and the page small enough."""
_MOST_SHOWN = 50_000
"""Characters of one text; a transcription of a long document is for Parquet."""

FACETS: list[Json] = [
    {"name": "change", "label": "Change"},
    {"name": "flips", "label": "Flips", "several": True},
    {"name": "status", "label": "Status"},
    {"name": "review", "label": "Review"},
    {"name": "gold", "label": "Against gold"},
    {"name": "mark", "label": "Marked"},
    {"name": "task", "label": "Task"},
    {"name": "question", "label": "Question"},
    {"name": "evidence", "label": "Evidence"},
    {"name": "kind", "label": "Kind"},
    {"name": "language", "label": "Language", "several": True},
    {"name": "code", "label": "Error code"},
]
"""What rows are chosen by, in this order; `mark` is what the browser knows itself."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How the answers of a run, one item of a list for each, were in another run."""

    title: str
    counted: Finished
    """The run that the totals are of: without the answers that are only in the other."""
    change: list[str]
    flips: list[str | None]
    """Of status, review and gold, a line each."""
    old: list[Json]
    counts: dict[str, int]
    questions: list[dict[str, Json]]


def write_table(run: Finished, folder: Path, difference: Difference | None) -> int:
    """Write the rows of the table; return how many files they are."""
    files = 0
    for files, columns in enumerate(_table(run, difference), 1):
        (folder / f"table-{files - 1:04d}.js").write_text(script.call("addRows", columns), encoding="utf-8")
    return files


def _table(run: Finished, difference: Difference | None) -> Iterator[Json]:
    rows = run.answers.num_rows
    # However many rows there are, the beginning of each can be searched.
    most_chars = max(200, _MOST_SEARCHED // max(rows, 1))
    documents = _documents(run)
    facets: dict[str, list[str | None]] = {
        **{name: run.text[name] for name in ("source", "question", "status", "task")},
        "code": run.text["error_code"],
        "review": ["to review" if needed else "sure" for needed in run.review],
        "gold": list(run.verdicts),
        "evidence": list(run.evidence),
        "kind": [document.kind for document in documents],
        "language": [document.languages for document in documents],
        "goldAnswer": run.text["gold_answer"],
    }
    if difference:
        facets |= {"change": list(difference.change), "flips": difference.flips}
    pages = run.answers["page"].to_pylist()
    for start, end in pairwise([0, *range(_FIRST_ROWS, rows, _TABLE_ROWS), rows]):
        some = slice(start, end)
        said = zip(run.text["answer"][some], run.text["error"][some], strict=True)
        yield {
            "first": start,
            "keys": list(run.keys[some]),
            "page": pages[some],
            "confidence": list(run.confidence[some]),
            "answer": [_clipped(answer or error or "", most_chars) for answer, error in said],
            "coded": {name: script.coded(values[some]) for name, values in facets.items()},
        }


@dataclass(frozen=True, slots=True)
class _Document:
    kind: str | None = None
    languages: str | None = None


def _documents(run: Finished) -> list[_Document]:
    """Return what is known of the document of each answer; of a folder, nothing."""
    names = ("kind", "languages")
    known = [
        _Document(kind or "unknown", "\n".join(languages or ()) or None)
        for kind, languages in zip(*(run.documents[name].to_pylist() for name in names), strict=True)
    ]
    rows = (run.document_rows.get(str(source)) for source in run.text["source"])
    return [_Document() if row is None else known[row] for row in rows]


_SHOWN = (
    "answer_id", "source", "page", "question_id", "question", "status", "error_code", "error", "answer",
    "fields", "evidence_pages", "evidence_found", "evidence_quote", "pages_total", "pages_read", "requests",
    "finish_reason", "confidence", "prompt_tokens", "cached_tokens", "output_tokens",
    "engine_seconds", "gpu_seconds", "cost", "model",
    "engine", "task", "created_at", "gold_answer", "gold_page",
)  # fmt: skip
_OF_ATTEMPTS = (
    "kind", "attempt", "pages", "text", "error_code", "error", "finish_reason", "prompt_tokens",
    "cached_tokens", "output_tokens", "engine_seconds", "gpu_seconds", "cost",
)  # fmt: skip
_OF_DOCUMENTS = (
    "kind", "bytes", "pages", "text_layer_pages", "blank_pages", "languages", "duplicate_of", "error",
    "document_id",
)  # fmt: skip


def write_details(
    run: Finished,
    pages: Sequence[Sequence[PageName]],
    drawn: Drawn,
    folder: Path,
    difference: Difference | None,
) -> None:
    """Write what is shown of each answer when it is opened."""
    reviews = marks.of(run)
    review_below = _review_below(run)
    for number, start in enumerate(range(0, run.answers.num_rows, DETAIL_ROWS)):
        indices = range(start, min(start + DETAIL_ROWS, run.answers.num_rows))
        attempts, documents = _attempts(run, indices), _facts(run, indices)
        details: list[Json] = []
        for index, row in zip(indices, read.rows(run.answers, indices), strict=True):
            # What an evaluation found to be right replaces what the questions file says.
            detail = _chosen(row, _SHOWN) | {
                "verdict": run.verdicts[index],
                "gold_answer": run.text["gold_answer"][index],
                "gold_page": run.gold_pages[index],
                "reasons": list(_reasons(row, review_below)),
                "attempts": attempts.get(str(row["answer_id"]), []),
                "document": documents.get(str(row["source"])),
                "images": [_image(page, row, run, drawn) for page in pages[index]],
                "reviewed": _reviewed(reviews.get((row["answer_id"], row["source"]))),
            }
            if difference:
                detail |= {"change": difference.change[index], "old": difference.old[index]}
            details.append(detail)
        text = script.call("addDetails", number, details)
        (folder / f"detail-{number:04d}.js").write_text(text, encoding="utf-8")


def _review_below(run: Finished) -> float:
    engine = run.run.settings.get("engine")
    given = engine.get("review_below") if isinstance(engine, dict) else None
    return float(given) if isinstance(given, (int, float)) else 0.0


def _reasons(row: Row, review_below: float) -> Iterator[str]:
    """Yield what makes a row one to look at, as far as the row itself tells."""
    if not row["needs_review"] or row["status"] == "error":
        return
    confidence = row["confidence"]
    if not row["answer"]:
        yield "there is no answer"
    if not isinstance(confidence, float):
        yield "nothing says how sure it is"
    elif confidence < review_below:
        yield f"its confidence, {confidence:.2f}, is under {review_below:g}"
    if row["evidence_found"] is False:
        yield "the quote is not on the pages that it cites"
    # A blank page is settled without a reply, which is no fault.
    if row["finish_reason"] not in ("stop", "blank"):
        yield f"the reply did not end by itself ({row['finish_reason'] or 'no reply'})"


def _attempts(run: Finished, indices: range) -> dict[str, list[Json]]:
    """Return the requests of some answers, in order. Rows taken one by one would take minutes."""
    wanted = {answer_id for index in indices if (answer_id := run.text["answer_id"][index])}
    taken = read.rows(run.requests, [row for each in wanted for row in run.request_rows.get(each, ())])
    found: dict[str, list[Json]] = {}
    for row in sorted(taken, key=lambda row: (str(row["created_at"]), str(row["kind"]))):
        found.setdefault(str(row["answer_id"]), []).append(_chosen(row, _OF_ATTEMPTS))
    return found


def _facts(run: Finished, indices: range) -> dict[str, Json]:
    sources = {source for index in indices if (source := run.text["source"][index]) in run.document_rows}
    taken = read.rows(run.documents, [run.document_rows[str(source)] for source in sources])
    return {str(row["source"]): _chosen(row, _OF_DOCUMENTS) for row in taken}


def _chosen(row: Row, names: Sequence[str]) -> dict[str, Json]:
    """Return what a row holds under some names; what is null is left out, as the page takes it."""
    return {name: _json(value) for name in names if (value := row[name]) is not None}


def _image(page: PageName, row: Row, run: Finished, drawn: Drawn) -> Json:
    """Return a page with its boxes as shares of its width and height; or why it is not shown."""
    document = run.document_rows.get(page.source)
    document_id = "" if document is None else run.document_ids[document]
    shown: dict[str, Json] = {"ordinal": page.ordinal, "number": page.number, "source": page.source}
    picture = drawn.pictures.get((document_id, page.number))
    if picture is None:
        return shown | {"missing": drawn.failures.get((document_id, page.number)) or drawn.reason or None}
    width = picture.width_px * picture.points_per_px[0]
    height = picture.height_px * picture.points_per_px[1]
    boxes: list[Json] = [
        [box.x0 / width, box.y0 / height, box.x1 / width, box.y1 / height]
        for box in _boxes(row)
        if box.page == page.ordinal
    ]
    size: dict[str, Json] = {"width": picture.width_px, "height": picture.height_px}
    return shown | size | {"file": picture.file, "boxes": boxes}


def _boxes(row: Row) -> list[Box]:
    found: list[dict[str, float]] = row["evidence_boxes"] or []  # type: ignore[assignment]
    return [Box(int(box["page"]), box["x0"], box["y0"], box["x1"], box["y1"]) for box in found]


def _reviewed(row: Row | None) -> Json:
    if row is None:
        return None
    names = ("verdict", "correction", "marked_at", "answer")
    return _chosen(row, names)


def _json(value: Value) -> Json:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, str):
        return _clipped(value, _MOST_SHOWN)
    return value  # type: ignore[return-value]  # the chosen columns hold JSON's own types beside these


def _clipped(text: str, most_chars: int) -> str:
    return text if len(text) <= most_chars else text[:most_chars] + " …"
