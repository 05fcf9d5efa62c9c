"""Exact match and the F1 of words, as SQuAD has them."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence

from pipeline.evaluating.metrics.text import split, without_punctuation, words

_FEW = 16


def exact_match(prediction: str, golds: Sequence[str]) -> float:
    """Return 1 where the words are those of a gold answer, without case, punctuation and articles; else 0."""
    return exact_match_of_many([prediction], [golds])[0]


def token_f1(prediction: str, golds: Sequence[str]) -> float:
    """Return the F1 of words with the nearest gold answer; 1 where neither has any."""
    return token_f1_of_many([prediction], [golds])[0]


def exact_match_of_many(predictions: Sequence[str], golds: Sequence[Sequence[str]]) -> list[float]:
    """Return the exact match of each prediction with its own gold answers."""
    return [exact for exact, _ in _both_of_many(tuple(predictions), tuple(map(tuple, golds)))]


def token_f1_of_many(predictions: Sequence[str], golds: Sequence[Sequence[str]]) -> list[float]:
    """Return the F1 of each prediction with the nearest of its own gold answers."""
    return [f1 for _, f1 in _both_of_many(tuple(predictions), tuple(map(tuple, golds)))]


@functools.lru_cache(1)  # one metric is asked after the other about the same texts
def _both_of_many(
    predictions: tuple[str, ...], golds: tuple[tuple[str, ...], ...]
) -> list[tuple[float, float]]:
    return list(map(_both, predictions, golds))


def _both(prediction: str, golds: Sequence[str]) -> tuple[float, float]:
    known, plain = [words(gold) for gold in golds], without_punctuation(prediction)
    if all(known) and not any([word in plain for each in known for word in each]):
        return 0.0, 0.0  # as of most wrong answers, which need not be split into words
    said = split(plain)
    return float(said in known), max([_f1(said, each) for each in known], default=0.0)


def _f1(said: Sequence[str], known: Sequence[str]) -> float:
    if not said or not known:
        return float(said == known)
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
