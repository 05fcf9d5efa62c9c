"""Tell which rows a person has to look at, though nothing failed."""

from __future__ import annotations

from collections.abc import Set

from pipeline.records import Answer, Json

_LOST = "\ufffd"
"""Stands for characters that could not be read or written."""


def needs_review(answer: Answer, doubtful: Set[int], review_below: float) -> bool:
    """Tell whether an answer must not be taken as it is.

    `doubtful` are its pages with hardly visible marks, and those of which something could not be decoded.
    """
    return (
        # Each of these alone has let wrong answers through as "ok": one is enough.
        answer.confidence is None
        or answer.confidence < review_below
        or answer.finish_reason != "stop"
        or answer.evidence_found is False
        or _says_nothing(answer.answer)
        or (answer.fields is not None and _says_nothing(answer.fields))
        or any(_LOST in text for text in (answer.answer or "", answer.evidence_quote or ""))
        or _holds_lost(answer.fields)
        or bool(doubtful & set(answer.evidence_pages) if answer.evidence_pages else doubtful)
    )


def _says_nothing(value: Json) -> bool:
    """Tell whether a value is null or empty, or holds nothing else."""
    if isinstance(value, dict):
        return all(map(_says_nothing, value.values()))
    if isinstance(value, list):
        return all(map(_says_nothing, value))
    return value is None or (isinstance(value, str) and not value.strip())


def _holds_lost(value: Json) -> bool:
    if isinstance(value, dict):
        return any(_LOST in key or _holds_lost(inner) for key, inner in value.items())
    if isinstance(value, list):
        return any(map(_holds_lost, value))
    return isinstance(value, str) and _LOST in value
