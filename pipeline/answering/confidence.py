"""Tell how sure the engine was of an answer: as sure as of the answer's least sure token."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence

from pipeline.answering.parse import unfenced
from pipeline.records import Completion

Span = tuple[int, int]
"""Where some characters of a text begin, and where they end."""

# One JSON string, mark, or other scalar. Only texts that were parsed are cut up: all strings are closed.
_PIECE = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},:]|[^\s\[\]{},:"]+', re.DOTALL)


def confidence(completion: Completion, spans: Sequence[Span]) -> float | None:
    """Return the least probability of the tokens that wrote these spans; the engine's own score without them.

    The least, not the mean: the digit that was a guess is not made surer by sixty sure tokens around it.
    """
    if not completion.token_probabilities:
        return _score(completion.confidence)
    ends = completion.token_ends[: len(completion.token_probabilities)]
    if not spans or not ends or ends[-1] < max(end for _, end in spans):
        return None  # the tokens of the answer are not all known
    starts = (0, *ends[:-1])
    written = [
        probability
        for start, end, probability in zip(starts, ends, completion.token_probabilities, strict=False)
        if any(_writes(start, end, span) for span in spans)
    ]
    # A probability that is no number says nothing: the token counts as a guess.
    return min((_score(p) or 0.0 for p in written), default=None)


def _writes(start: int, end: int, span: Span) -> bool:
    """Tell whether a token wrote in a span; one without characters is part of the next character."""
    return span[0] <= start < span[1] if start == end else start < span[1] and end > span[0]


def _score(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else min(max(value, 0.0), 1.0)


def spans(text: str, path: Sequence[str] | None) -> list[Span]:
    """Return where the scalars under a path of keys stand in a reply that is JSON; all of it without a path.

    Strings count without their quotation marks, which belong to the form; so do keys.
    """
    if path is None:
        return [(0, len(text))] if text else []
    found: list[Span] = []
    for keys, span in _scalars(text):
        if span is None and keys == list(path[: len(keys)]):
            found.clear()  # the same key again: the last one counts
        elif span is not None and keys[: len(path)] == list(path):
            found.append(span)
    return found


def _scalars(text: str) -> Iterator[tuple[list[str | None], Span | None]]:
    """Yield the keys above each scalar, None in a list, and where it is; also each key, without a place."""
    keys: list[str | None] = []
    lists: list[bool] = []
    is_key, last, began = False, ",", 0
    # Only what is within a fence: its own mark would pass for a scalar.
    body = unfenced(text)
    begin = text.find(body)
    for match in _PIECE.finditer(text, begin, begin + len(body)):
        piece = match.group()
        if piece in "{[":
            keys.append(None)
            lists.append(piece == "[")
        elif piece in "}]" and last in "{[":
            keys.pop()
            yield list(keys), (began, match.end())
        elif piece in "}]":
            keys.pop()
        elif piece not in ",:":
            if is_key:
                keys[-1] = _decoded(piece)
            yield list(keys), None if is_key else _inner(match)
        if piece in "}]":
            lists.pop()
            if not lists:
                return
        is_key = piece in "{," and bool(lists) and not lists[-1]
        last, began = piece, match.start()


def _inner(match: re.Match[str]) -> Span:
    quoted = match.group().startswith('"') and len(match.group()) > 2
    return match.start() + quoted, match.end() - quoted


def _decoded(key: str) -> str:
    try:
        # A key may be written with escapes: "\u0061" is the key "a".
        return str(json.loads(key))
    except ValueError:
        return key
