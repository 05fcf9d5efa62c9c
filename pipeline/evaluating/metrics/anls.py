"""ANLS, the average normalized Levenshtein similarity: how near an answer comes to a gold answer."""

from __future__ import annotations

import functools
import itertools
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
    said = tuple([text for text, answers in zip(predictions, golds, strict=True) for _ in answers])
    known = tuple(itertools.chain.from_iterable(golds))
    nearest = np.full(len(predictions), np.inf)
    owners = np.repeat(np.arange(len(predictions)), [len(answers) for answers in golds])
    np.minimum.at(nearest, owners, _distances(said, known, rule))
    if rule.boundary:
        return np.where(1 - nearest >= rule.threshold, 1 - nearest, 0.0)
    return np.where(nearest < 1 - rule.threshold, 1 - nearest, 0.0)


def _distances(said: tuple[str, ...], known: tuple[str, ...], rule: Rule) -> npt.NDArray[np.float64]:
    """Return the share of each pair's letters that has to be edited; 0 where both are empty."""
    *compared, edits = _compared(said, known, rule.strips_end)
    given = (said, known) if rule.length is Length.GIVEN_UPPER else compared
    lengths = np.maximum(*(_lengths(texts, rule.length is not Length.COMPARED) for texts in given))
    shares: npt.NDArray[np.float64] = np.divide(edits, lengths, out=np.zeros(len(said)), where=lengths > 0)
    return shares


@functools.lru_cache(1)  # the rules of a profile are asked one after the other about the same texts
def _compared(
    said: tuple[str, ...], known: tuple[str, ...], strips_end: bool
) -> tuple[list[str], list[str], npt.NDArray[np.uint32]]:
    """Return both sides as they are compared, and the edits between each pair."""
    form = _without_end if strips_end else collapse
    one, other = list(map(form, said)), list(map(form, known))
    return one, other, cpdist(one, other, scorer=Levenshtein.distance)


def _without_end(text: str) -> str:
    return strip_end(collapse(text))


def _lengths(texts: Sequence[str], in_upper_case: bool) -> npt.NDArray[np.float64]:
    measured = map(str.upper, texts) if in_upper_case else texts
    return np.fromiter(map(len, measured), float, len(texts))
