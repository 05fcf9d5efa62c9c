"""Rank passages for a question, and tell how sure that the best is the right one."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from pipeline.engines.embedded.passages import Passage, plain, question_terms, tokens

_ABOUT_ITSELF = re.compile(
    r"\b(author|date|version|title|publish|edition|autor|datum|titel|fassung|auteur|titre|fecha|titulo|autore|data\b|"
    r"versao|versione|titolo|автор|дата|верси|названи|издани)|作者|著者|日付|バージョン|版本|日期|标题|題名|표제|저자|날짜|버전|제목"
)
# Of BM25: how soon repeats of a term count no more, and how far a long passage is discounted.
_REPEATS, _LENGTH = 1.5, 0.75


@dataclass(frozen=True, slots=True)
class Counts:
    """How common a question's terms are: counts over the passages of a document, or of a part of it."""

    passages: int = 0
    tokens: int = 0
    holding: dict[str, int] = field(default_factory=dict)
    """How many passages hold each term."""

    def __add__(self, other: Self) -> Counts:
        holding = Counter(self.holding) + Counter(other.holding)
        return Counts(self.passages + other.passages, self.tokens + other.tokens, dict(holding))


class Ranked(NamedTuple):
    passage: Passage
    share: float
    """Of the question's weight, what the passage holds."""
    score: float


class Index:
    """The terms of passages, counted once: hundreds of questions may be asked about the same pages."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages
        terms = [Counter(tokens(passage.prose)) for passage in passages]
        self._lengths = [each.total() for each in terms]
        self._holders: dict[str, list[tuple[int, int]]] = {}
        """Term → the passages that hold it, by number, and how often each does."""
        for number, each in enumerate(terms):
            for term, times in each.items():
                self._holders.setdefault(term, []).append((number, times))

    def count(self, question: str) -> Counts:
        """Count how many passages hold each term of a question."""
        held = {term: len(self._holders[term]) for term in question_terms(question) if term in self._holders}
        return Counts(len(self._passages), sum(self._lengths), held)

    def rank(self, question: str, counts: Counts) -> list[Ranked]:
        """Return the best passage of each page, the best of all first.

        The score is BM25 times the share: many repeats of one common word do not outweigh the one rare word
        asked for. What a document says of itself (its author, date, version) is looked for on its first page
        first.
        """
        title_page = 3 if _ABOUT_ITSELF.search(plain(question)) else 1
        scored = self._scores(weigh(question, counts), counts)
        best: dict[int, Ranked] = {}
        for number, passage in enumerate(self._passages):
            share, score = scored.get(number, _NOTHING)
            ranked = Ranked(passage, share, score * share * (title_page if passage.page == 1 else 1))
            if passage.page not in best or ranked.score > best[passage.page].score:
                best[passage.page] = ranked
        return sorted(best.values(), key=lambda ranked: -ranked.score)

    def _scores(self, weights: dict[str, float], counts: Counts) -> dict[int, tuple[float, float]]:
        """Return, of passages that hold any of it, the share of the question's weight and the BM25 score."""
        usual = counts.tokens / counts.passages if counts.passages else 0
        total = sum(weights.values()) or 1
        held: dict[int, list[float]] = {}
        for term, weight in weights.items():
            for number, times in self._holders.get(term, ()):
                damping = _REPEATS * (1 - _LENGTH + _LENGTH * self._lengths[number] / (usual or 1))
                sums = held.setdefault(number, [0.0, 0.0])
                sums[0] += weight
                sums[1] += weight * times / (times + damping)
        return {number: (weight / total, score) for number, (weight, score) in held.items()}


_NOTHING = (0.0, 0.0)


def confidence(ranked: Sequence[Ranked]) -> float:
    """Return how sure it is that the first passage is the one, from 0 to 1.

    What it holds of the question, times how far it leads the best passage of any other page, times how well
    it could be read: to hold all of the question says little when another page holds as much. Where a passage
    is more numbers than words, as the labels of a chart are, it states nothing, whatever it holds.
    """
    if not ranked or ranked[0].score <= 0:
        return 0.0
    best = ranked[0]
    lead = 1 - ranked[1].score / best.score if len(ranked) > 1 else 1.0
    stated = _OF_LABELS if _is_labels(best.passage) else 1.0
    return best.share * lead * best.passage.legibility * stated


# Low enough for the default `review_below`: such answers are always looked at.
_OF_LABELS = 0.3
_NUMBER = re.compile(r"\b\d[\d.,]*\b")
_WORD = re.compile(r"[^\W\d_]{2,}")


_FEWEST_LINES, _SHORT_LINE = 6, 18


def _is_labels(passage: Passage) -> bool:
    """Tell whether a passage names things rather than states anything, as the words of a chart do.

    It has more numbers than words, or OCR read it as many short lines. A character of an unspaced script
    counts as half a word, and as two characters of a line.
    """
    words = _WORD.findall(passage.prose)
    count = sum(1 if word.isascii() else max(1, len(word) // 2) for word in words)
    if len(_NUMBER.findall(passage.prose)) > count:
        return True
    lines = [line for line in passage.text.splitlines() if line.strip()]
    # Lines of a text layer end where the page's do, those of OCR where a gap is: a label is a line there.
    if not passage.places or len(lines) < _FEWEST_LINES:
        return False
    return sum(1 + (c >= "\u3040") for line in lines for c in line) < _SHORT_LINE * len(lines)


def weigh(question: str, counts: Counts) -> dict[str, float]:
    """Weigh the question's terms by rarity, as BM25 does, terms found nowhere included."""
    found = {term: counts.holding.get(term, 0) for term in question_terms(question)}
    return {t: math.log(1 + (counts.passages - n + 0.5) / (n + 0.5)) for t, n in found.items()}
