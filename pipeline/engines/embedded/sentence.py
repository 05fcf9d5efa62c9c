"""Choose the sentences of a passage that answer."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pipeline.engines.embedded.passages import Passage, tokens

_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
_LEAST_CHARS = 250
"""An answer often stands beside the sentence that repeats the question: with fewer, more of them are lost."""


def answering(passage: Passage, weights: Mapping[str, float]) -> str:
    """Return the sentence that holds most of the question's weight, with neighbours up to a few lines."""
    sentences = [sentence for sentence in _SENTENCE.split(passage.prose) if sentence.strip()]
    held = [sum(weights.get(term, 0.0) for term in set(tokens(sentence))) for sentence in sentences]
    if not sentences or max(held) <= 0:
        return passage.prose
    first = last = held.index(max(held))
    while sum(map(len, sentences[first : last + 1])) < _LEAST_CHARS and last - first + 1 < len(sentences):
        before = held[first - 1] if first > 0 else -1.0
        after = held[last + 1] if last + 1 < len(sentences) else -1.0
        first, last = (first, last + 1) if after >= before else (first - 1, last)
    return " ".join(sentences[first : last + 1])
