"""ANLS, the average normalized Levenshtein similarity: how near an answer comes to a gold answer."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from rapidfuzz.distance import Levenshtein

from pipeline.evaluating.metrics.text import collapse, strip_end


class Length(Enum):
    """Which texts' lengths the number of edits is divided by."""

    COMPARED = "of the texts as they are compared"
    COMPARED_UPPER = "of these in upper case, in which `ß` is two letters"
    GIVEN_UPPER = "of the texts as they were given, in upper case"


@dataclass(frozen=True, slots=True)
class Rule:
    """What ANLS is computed by. Credit is given from a similarity of `threshold` (τ) on."""

    threshold: float
    boundary: bool
    """Whether a similarity of exactly `threshold` gets credit."""
    strips_end: bool
    """Whether punctuation at the end is ignored."""
    length: Length


MISTRAL_EVALS = Rule(threshold=0.0, boundary=True, strips_end=True, length=Length.COMPARED)
"""No threshold: every letter in common counts."""
OFFICIAL = Rule(threshold=0.5, boundary=True, strips_end=False, length=Length.GIVEN_UPPER)
"""As lmms-eval and VLMEvalKit compute it."""
PAPER = Rule(threshold=0.5, boundary=False, strips_end=False, length=Length.COMPARED_UPPER)
"""As the paper of the metric and the package `anls` have it: half right is not enough."""


def anls(prediction: str, golds: Sequence[str], rule: Rule = OFFICIAL) -> float:
    """Return the similarity to the nearest gold answer, 0 to 1; 0 without gold answers."""
    distance = min((_distance(prediction, gold, rule) for gold in golds), default=None)
    if distance is None:
        return 0.0
    similarity = 1 - distance
    if rule.boundary:
        return similarity if similarity >= rule.threshold else 0.0
    return similarity if distance < 1 - rule.threshold else 0.0


def _distance(prediction: str, gold: str, rule: Rule) -> float:
    said, known = _compared(prediction, rule), _compared(gold, rule)
    length = _longest(prediction, gold, said, known, rule.length)
    return _edits(said, known) / length if length else 0.0


@functools.lru_cache(16)  # of one answer it is asked for by several rules
def _edits(said: str, known: str) -> int:
    return Levenshtein.distance(said, known)


def _compared(text: str, rule: Rule) -> str:
    return strip_end(collapse(text)) if rule.strips_end else collapse(text)


def _longest(prediction: str, gold: str, said: str, known: str, length: Length) -> int:
    if length is Length.COMPARED:
        return max(len(said), len(known))
    if length is Length.COMPARED_UPPER:
        return max(len(said.upper()), len(known.upper()))
    return max(len(prediction.upper()), len(gold.upper()))
