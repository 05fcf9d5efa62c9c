"""Turn records into rows: what each column of `answers`, `documents` and `requests` holds."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pipeline.records import Answer, Box, Charge, Completion, DocumentRow, Failure, Request
from pipeline.tables import columns
from pipeline.tables.columns import Row
from pipeline.texts import clean_text


@dataclass(frozen=True, slots=True)
class Stamp:
    """The columns that are the same in every row of a run."""

    model: str
    engine: str
    task: str
    run_id: str
    settings_hash: str


def of_request(request: Request, completion: Completion, stamp: Stamp) -> Row:
    """Return the row of `requests`."""
    return {
        "request_id": request.request_id,
        "answer_id": request.cell.answer_id,
        "document_id": request.cell.subject.document_id,
        "source": request.cell.subject.source,
        "question_id": request.cell.question.question_id,
        "kind": request.kind,
        "attempt": request.attempt,
        "pages": [page.ordinal for page in request.pages],
        "text": completion.text,
        **_status(completion.failure),
        "finish_reason": completion.finish_reason,
        "counted_tokens": request.prompt_tokens,
        "prompt_tokens": completion.prompt_tokens,
        "cached_tokens": completion.cached_tokens,
        "output_tokens": completion.output_tokens,
        "confidence": completion.confidence,
        "token_ends": list(completion.token_ends),
        "token_probabilities": list(completion.token_probabilities),
        "boxes": [box._asdict() for box in completion.boxes],
        "engine_seconds": completion.engine_seconds,
        **charged(completion.charge),
        "model": stamp.model,
        "engine": stamp.engine,
        "task": stamp.task,
        "run_id": stamp.run_id,
        "created_at": dt.datetime.now(dt.UTC),
    }


def of_document(row: DocumentRow) -> Row:
    """Return the row of `documents`."""
    return {**asdict(row), "languages": list(row.languages)}


def of_answer(answer: Answer, stamp: Stamp, field_kinds: Mapping[str, str]) -> Row:
    """Return the row of `answers`, with a column for each field of the task."""
    subject, question = answer.cell.subject, answer.cell.question
    row: Row = {
        "answer_id": answer.cell.answer_id,
        "document_id": subject.document_id,
        "source": subject.source,
        "scope": subject.scope,
        "page": subject.page,
        "question_id": question.question_id,
        "question": question.text,
        **_status(answer.failure, answer.status),
        "answer": answer.answer,
        "fields": None,
        "evidence_pages": list(answer.evidence_pages),
        "evidence_found": answer.evidence_found,
        "evidence_quote": answer.evidence_quote,
        "evidence_boxes": [box._asdict() for box in answer.evidence_boxes],
        # Of a file that cannot be opened it is not known, which is not zero.
        "pages_total": subject.pages_total or None,
        "pages_read": answer.pages_read,
        "requests": answer.requests,
        "finish_reason": answer.finish_reason,
        "confidence": answer.confidence,
        "engine_confidence": answer.engine_confidence,
        "page_quality": answer.page_quality,
        "needs_review": answer.needs_review,
        "prompt_tokens": answer.prompt_tokens,
        "cached_tokens": answer.cached_tokens,
        "output_tokens": answer.output_tokens,
        "engine_seconds": answer.engine_seconds,
        **charged(answer.charge),
        "model": stamp.model,
        "engine": stamp.engine,
        "task": stamp.task,
        "run_id": stamp.run_id,
        "settings_hash": stamp.settings_hash,
        "created_at": dt.datetime.now(dt.UTC),
        "gold_answer": question.gold_answer,
        "gold_page": question.gold_page,
    }
    fields = answer.fields or {}
    try:
        row["fields"] = json.dumps(answer.fields, ensure_ascii=False) if answer.fields is not None else None
        typed = {f"field_{name}": columns.value(fields.get(name), kind) for name, kind in field_kinds.items()}
    except (OverflowError, TypeError, ValueError) as error:
        return refused(row, str(error))
    return {**row, **typed}


def refused(row: Row, reason: str) -> Row:
    """Return the row of an answer that its columns cannot hold: an error that keeps what can be kept."""
    kept = ("answer_id", "document_id", "source", "scope", "page", "question_id", "question", "pages_total",
            "pages_read", *SPENT, "model", "engine", "task", "run_id", "settings_hash",
            "created_at")  # fmt: skip
    kept_answer = row["fields"] or row["answer"]
    message = f"{row['source']}, {row['question_id']}: the answer does not fit the table ({reason})"
    return {
        **{name: row[name] for name in kept},
        "status": "error",
        "error_code": "schema_invalid",
        "error": clean_text(message),
        "answer": None if kept_answer is None else clean_text(str(kept_answer)),
        "evidence_pages": [],
        "evidence_boxes": [],
        "needs_review": True,
    }


def refused_reply(row: Row, reason: str) -> Row:
    """Return the row of a request whose columns cannot hold what an engine noted: an error, asked again."""
    message = (
        f"{row['source']}, {row['question_id']}: what the engine noted does not fit the table ({reason})"
    )
    return {**row, "status": "error", "error_code": "engine_failed", "error": clean_text(message)}


def refused_document(row: Row, reason: str) -> Row:
    """Return the row of an input whose columns cannot hold what was found out about it: an error."""
    message = f"{row['source']}: what was found does not fit the table ({reason})"
    return {**row, "status": "error", "error_code": "unreadable", "error": clean_text(message)}


REFUSED = {"answers": refused, "requests": refused_reply, "documents": refused_document}
"""What becomes of a row of each table that its columns cannot hold."""


def to_completion(row: Mapping[str, object]) -> Completion:
    """Return what an engine said, from its row of `requests`."""
    boxes = tuple(Box(**box) for box in row.get("boxes") or ())  # type: ignore[attr-defined]
    # Outputs of before costs were noted have nulls.
    known = [row[name] for name in Charge._fields]
    given = {name: row[name] for name in _COMPLETION}
    return Completion(
        **given,  # type: ignore[arg-type]
        boxes=boxes,
        charge=None if None in known else Charge(*known),  # type: ignore[arg-type]
        token_ends=tuple(row.get("token_ends") or ()),  # type: ignore[arg-type]
        token_probabilities=tuple(row.get("token_probabilities") or ()),  # type: ignore[arg-type]
    )


SPENT = (
    "requests",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "engine_seconds",
    "gpu_seconds",
    "cost",
)
"""The columns of an answer that say what it took."""


def charged(charge: Charge | None) -> Row:
    """Return the columns of what something cost, null where that is not known."""
    return dict(charge._asdict()) if charge else dict.fromkeys(Charge._fields)


def add_charge(row: Row, charge: Charge) -> None:
    """Add to what a row cost; what is not known stays so."""
    for name, more in charge._asdict().items():
        known = row[name]
        row[name] = known + more if isinstance(known, float) else None


_COMPLETION = ("text", "finish_reason", "prompt_tokens", "cached_tokens", "output_tokens", "confidence",
               "engine_seconds")  # fmt: skip


def _status(failure: Failure | None, status: str = "ok") -> Row:
    if failure is None:
        return {"status": status, "error_code": None, "error": None}
    return {"status": "error", "error_code": failure.code, "error": failure.message}
