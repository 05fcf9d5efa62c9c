"""Read what vLLM wrote: the text, and which token wrote which part of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from pipeline.engines.vllm.messages import Reply

_FAR = 256
"""Characters that a token is looked for ahead of what is written: bounds the work per token."""


class _Token(Protocol):
    """vLLM's `Logprob`."""

    logprob: float
    decoded_token: str | None


class _Written(Protocol):
    """vLLM's `CompletionOutput`."""

    text: str
    token_ids: Sequence[int]
    finish_reason: str | None
    logprobs: Sequence[Mapping[int, _Token] | None] | None


class _Times(Protocol):
    scheduled_ts: float
    last_token_ts: float


class Output(Protocol):
    """vLLM's `RequestOutput`, as far as it is read here."""

    outputs: Sequence[_Written]
    prompt_token_ids: Sequence[int] | None
    num_cached_tokens: int | None
    metrics: _Times | None


def read_reply(request_id: str, output: Output) -> Reply:
    """Return the reply to a request that vLLM has finished."""
    written, times = output.outputs[0], output.metrics
    chosen, text = _chosen(written), without_first_space(written.text)
    return Reply(
        request_id=request_id,
        text=text,
        finish_reason=written.finish_reason or "error",
        prompt_tokens=len(output.prompt_token_ids or ()),
        cached_tokens=output.num_cached_tokens or 0,
        output_tokens=len(written.token_ids),
        token_ends=token_ends(text, [token.decoded_token or "" for token in chosen]),
        token_probabilities=tuple(_probability(token.logprob) for token in chosen),
        seconds=max(0.0, times.last_token_ts - times.scheduled_ts) if times else 0.0,
    )


def without_first_space(text: str) -> str:
    """Return a reply without the space with which SentencePiece begins every text."""
    return text.removeprefix(" ")


def _chosen(written: _Written) -> list[_Token]:
    """Return the tokens that were chosen, in order; none when vLLM has not scored them all."""
    scores = written.logprobs or []
    found = [(scored or {}).get(token) for token, scored in zip(written.token_ids, scores, strict=False)]
    chosen = [token for token in found if token is not None]
    return chosen if len(chosen) == len(written.token_ids) else []


def _probability(logprob: float) -> float:
    # Rounding leaves some sums of probabilities a little over 1; a masked token has no probability at all.
    return 0.0 if math.isnan(logprob) else math.exp(min(0.0, logprob))


def token_ends(text: str, pieces: Iterable[str]) -> tuple[int, ...]:
    """Return how many characters of `text` are written after each token, given each token as decoded alone.

    A token decoded alone is not always a part of the text: it may be one byte of a character, spell a space
    as U+2581 or be the end of the reply. Such tokens share what lies between those found around them.
    """
    ends: list[int] = []
    written = unplaced = slack = 0
    for piece in pieces:
        place = _find(text, piece, written, slack)
        if place is None:
            unplaced += 1
            slack = min(_FAR, slack + (1 if _is_byte(piece) else max(1, len(piece))))
            continue
        ends += _spread(written, place[0], unplaced)
        written, unplaced, slack = place[1], 0, 0
        ends.append(written)
    ends += _spread(written, len(text), unplaced)
    if ends:
        ends[-1] = len(text)
    return tuple(ends)


def _find(text: str, piece: str, written: int, slack: int) -> tuple[int, int] | None:
    """Return where a token's text begins and ends, at most `slack` and a space after what is written."""
    forms = [form for form in _forms(piece) if form]
    for form in forms:
        if text.startswith(form, written):
            return written, written + len(form)
    for form in forms:
        start = text.find(form, written, written + slack + 1 + len(form))
        if start >= 0:
            return start, start + len(form)
    return None


def _forms(piece: str) -> Iterator[str]:
    """Yield what a token may look like in the text, the likeliest first."""
    if _is_byte(piece):
        return
    whole = piece.strip("\ufffd")  # halves of characters at its ends
    yield whole
    spaced = whole.replace("▁", " ")  # SentencePiece's space
    if spaced != whole:
        yield spaced
    if spaced.startswith(" "):
        yield spaced.lstrip()  # the first space of a reply is not kept


def _is_byte(piece: str) -> bool:
    """Tell whether a token is one byte of a character, as SentencePiece spells it: <0xE7>."""
    return len(piece) == 6 and piece.startswith("<0x")


def _spread(begin: int, end: int, count: int) -> list[int]:
    """Return the ends of `count` tokens that wrote the characters from `begin` to `end` together."""
    return [begin + (end - begin) * number // count for number in range(1, count + 1)]
