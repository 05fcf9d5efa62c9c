"""ANLS, the average normalized Levenshtein similarity: how near an answer comes to a gold answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cpdist

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
    return float(anls_of_many([prediction], [golds], rule)[0])


def anls_of_many(
    predictions: Sequence[str], golds: Sequence[Sequence[str]], rule: Rule
) -> npt.NDArray[np.float64]:
    """Return the score of each prediction against its own gold answers."""
    pairs = [(said, known) for said, answers in zip(predictions, golds, strict=True) for known in answers]
    nearest = np.full(len(predictions), np.inf)
    if pairs:
        owners = np.repeat(np.arange(len(predictions)), [len(answers) for answers in golds])
        np.minimum.at(nearest, owners, _distances(pairs, rule))
    if rule.boundary:
        return np.where(1 - nearest >= rule.threshold, 1 - nearest, 0.0)
    return np.where(nearest < 1 - rule.threshold, 1 - nearest, 0.0)


def _distances(pairs: Sequence[tuple[str, str]], rule: Rule) -> npt.NDArray[np.float64]:
    """Return the share of each pair's letters that has to be edited; 0 where both are empty."""
    compared = _without_end if rule.strips_end else collapse
    said, known = [compared(one) for one, _ in pairs], [compared(other) for _, other in pairs]
    given = pairs if rule.length is Length.GIVEN_UPPER else zip(said, known, strict=True)
    measure = len if rule.length is Length.COMPARED else _length_in_upper_case
    lengths = np.asarray([max(measure(one), measure(other)) for one, other in given], float)
    edits = cpdist(said, known, scorer=Levenshtein.distance)
    shares: npt.NDArray[np.float64] = np.divide(edits, lengths, out=np.zeros(len(pairs)), where=lengths > 0)
    return shares


def _without_end(text: str) -> str:
    return strip_end(collapse(text))


def _length_in_upper_case(text: str) -> int:
    return len(text) if text.isascii() else len(text.upper())
