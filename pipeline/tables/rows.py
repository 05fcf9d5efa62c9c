"""Turn records into rows: what each column of `answers`, `documents` and `requests` holds."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

from pipeline.records import Answer, Completion, DocumentRow, Failure, Request
from pipeline.tables import columns

Row = dict[str, Any]


def of_request(request: Request, completion: Completion, stamp: Mapping[str, str]) -> Row:
    """Return the row of `requests`; `stamp` has the columns that are the same in every row of a run."""
    return {
        "request_id": request.request_id,
        "answer_id": request.cell.answer_id,
        "document_id": request.cell.subject.document_id,
        "source": request.cell.subject.source,
        "question_id": request.cell.question.question_id,
        "kind": request.kind,
        "pages": [page.ordinal for page in request.pages],
        "text": completion.text,
        **_status(completion.failure),
        "finish_reason": completion.finish_reason,
        "counted_tokens": request.prompt_tokens,
        "prompt_tokens": completion.prompt_tokens,
        "cached_tokens": completion.cached_tokens,
        "output_tokens": completion.output_tokens,
        "confidence": completion.confidence,
        "engine_seconds": completion.engine_seconds,
        **{key: stamp[key] for key in ("model", "engine", "task", "run_id")},
        "created_at": dt.datetime.now(dt.UTC),
    }


def of_document(row: DocumentRow) -> Row:
    """Return the row of `documents`."""
    document = row.document
    return {
        "document_id": document.document_id,
        "source": document.source,
        "kind": document.kind,
        "bytes": document.bytes,
        "pages": row.pages,
        "text_layer_pages": row.text_layer_pages,
        "blank_pages": row.blank_pages,
        "languages": list(row.languages),
        **_status(row.failure),
        "duplicate_of": document.duplicate_of,
        "raster_seconds": row.raster_seconds,
    }


def of_answer(answer: Answer, stamp: Mapping[str, str], field_kinds: Mapping[str, str]) -> Row:
    """Return the row of `answers`, with a column for each field of the task."""
    subject, question = answer.cell.subject, answer.cell.question
    fields = answer.fields or {}
    return {
        "answer_id": answer.cell.answer_id,
        "document_id": subject.document_id,
        "source": subject.source,
        "scope": subject.scope,
        "page": subject.page,
        "question_id": question.question_id,
        "question": question.text,
        **_status(answer.failure),
        "answer": answer.answer,
        "fields": json.dumps(fields, ensure_ascii=False) if answer.fields is not None else None,
        "evidence_pages": list(answer.evidence_pages),
        "evidence_found": answer.evidence_found,
        "pages_total": subject.pages_total or None,
        "pages_read": answer.pages_read,
        "requests": answer.requests,
        "finish_reason": answer.finish_reason,
        "confidence": answer.confidence,
        "needs_review": answer.needs_review,
        "prompt_tokens": answer.prompt_tokens,
        "cached_tokens": answer.cached_tokens,
        "output_tokens": answer.output_tokens,
        "engine_seconds": answer.engine_seconds,
        **stamp,
        "created_at": dt.datetime.now(dt.UTC),
        "gold_answer": question.gold_answer,
        "gold_page": question.gold_page,
        **{f"field_{name}": columns.value(fields.get(name), kind) for name, kind in field_kinds.items()},
    }


def to_completion(row: Row) -> Completion:
    """Return what an engine said, from its row of `requests`."""
    return Completion(
        text=row["text"],
        finish_reason=row["finish_reason"],
        prompt_tokens=row["prompt_tokens"],
        cached_tokens=row["cached_tokens"],
        output_tokens=row["output_tokens"],
        confidence=row["confidence"],
        engine_seconds=row["engine_seconds"],
    )


def _status(failure: Failure | None) -> Row:
    if failure is None:
        return {"status": "ok", "error_code": None, "error": None}
    return {"status": "error", "error_code": failure.code, "error": failure.message}
