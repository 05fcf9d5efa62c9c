"""Choose the sentence or the cells of a passage that answer."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pipeline.engines.embedded.passages import Passage, plain, tokens

_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|(?<=．)(?![0-9０-９])")
"""Ends of sentences: Japanese papers end them with a wide full stop, which numbers have too."""
_LEAST_CHARS = 100
"""An answer often stands beside the sentence that repeats the question: with fewer, more of them are lost."""
_LONGEST_SENTENCE = 500
"""What is longer is a list or a table, whose lines are its cells."""
_NUMBER = re.compile(r"\d[\d.,:/-]*")
_ASKS_A_NUMBER = re.compile(
    r"\b(how (many|much|old|long)|when|(what|which) (year|date|day|month|percentage|number)"
    r"|wie ?viele?n?|wann|combien|quand|cuant[oa]s?|cuando|fecha|quant[ioae]s?|quando|сколько|когда)\b"
    r"|多少|几|何(年|月|日|人|個|本|件|回|時|分|歳)|いつ|いくつ|몇|얼마|언제"
)
_NEXT_TO = 3
"""Words between a number and what it counts."""


def answering(passage: Passage, weights: Mapping[str, float], question: str) -> str:
    """Return the sentence or cell that holds most of the question, with neighbours if it is short."""
    pieces = _pieces(passage)
    scores = _scores(pieces, weights, question)
    if not pieces or max(scores) <= 0:
        return passage.prose
    first = last = scores.index(max(scores))
    while sum(map(len, pieces[first : last + 1])) < _LEAST_CHARS and last - first + 1 < len(pieces):
        before = scores[first - 1] if first > 0 else -1.0
        after = scores[last + 1] if last + 1 < len(pieces) else -1.0
        first, last = (first, last + 1) if after >= before else (first - 1, last)
    return " ".join(pieces[first : last + 1])


def _pieces(passage: Passage) -> list[str]:
    """Return the sentences of a passage, and the lines of what is too long for one."""
    pieces: list[str] = []
    for sentence in _SENTENCE.split(passage.text):
        prose = Passage(passage.page, sentence).prose
        lines = [" ".join(line.split()) for line in sentence.splitlines()]
        pieces += [prose] if len(prose) <= _LONGEST_SENTENCE else lines
    return [piece for piece in pieces if piece.strip()]


def _scores(pieces: list[str], weights: Mapping[str, float], question: str) -> list[float]:
    """Return how much of the question each piece holds; a number beside what is counted counts twice."""
    held = [sum(weights.get(term, 0.0) for term in set(tokens(piece))) for piece in pieces]
    if not _ASKS_A_NUMBER.search(plain(question)):
        return held
    known = set(_NUMBER.findall(question))
    beside = [[weights.get(term, 0.0) for term in _beside_numbers(piece, known)] for piece in pieces]
    return [each + max(more, default=0.0) for each, more in zip(held, beside, strict=True)]


def _beside_numbers(piece: str, known: set[str]) -> set[str]:
    """Return the terms within a few words of a number that is not in `known`."""
    words = piece.split()
    near: set[str] = set()
    for index, word in enumerate(words):
        found = _NUMBER.search(word)
        # What the question names itself, such as a year, is not the number that it asks for.
        if found and found[0].strip(".,:/-") not in known:
            near.update(tokens(" ".join(words[max(index - _NEXT_TO, 0) : index + 1 + _NEXT_TO])))
    return near
