"""Exact match and the F1 of words, as SQuAD has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pipeline.evaluating.metrics.text import words

_FEW = 16


def exact_match(prediction: str, golds: Sequence[str]) -> float:
    """Return 1 where the words are those of a gold answer, without case, punctuation and articles; else 0."""
    return float(words(prediction) in map(words, golds))


def token_f1(prediction: str, golds: Sequence[str]) -> float:
    """Return the F1 of words with the nearest gold answer; 1 where neither has any."""
    said = words(prediction)
    return max([_f1(said, words(gold)) for gold in golds], default=0.0)


def _f1(said: Sequence[str], known: Sequence[str]) -> float:
    if not said or not known:
        return float(said == known)
    if set(known).isdisjoint(said):  # as in most wrong answers
        return 0.0
    return 2 * _shared(said, known) / (len(said) + len(known))


def _shared(said: Sequence[str], known: Sequence[str]) -> int:
    """Return how many words both have, each as often as both have it."""
    if len(known) > _FEW:
        return (Counter(said) & Counter(known)).total()
    rest = list(said)  # of a short gold answer, as most are, this is quicker
    for word in known:
        if word in rest:
            rest.remove(word)
    return len(said) - len(rest)
