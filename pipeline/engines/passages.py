"""Cut pages into passages and rank them for a question, in any script."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Passage:
    page: int
    text: str


_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af"
_TOKEN = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+")


def tokens(text: str) -> list[str]:
    """Return index terms: words with a shortened form, and pairs of characters where words are not spaced.

    The first five letters stand in for a stemmer in languages that inflect, without one per language.
    """
    terms: list[str] = []
    for run in _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold()):
        if re.match(rf"[{_CJK}]", run):
            terms += [run[i : i + 2] for i in range(len(run) - 1)] or [run]
        else:
            terms.append(run)
            if len(run) > 5 and run.isalpha():
                terms.append(run[:5] + "~")
    return terms


def cut(texts: Mapping[int, str], most_chars: int) -> list[Passage]:
    """Cut each page's lines into passages of at most about `most_chars`, each overlapping the next by half."""
    passages = []
    for page, text in texts.items():
        lines = [line for raw in text.splitlines() if (line := " ".join(raw.split()))]
        passages += [Passage(page, run) for run in _runs(lines, most_chars)]
    return passages


def _runs(lines: Sequence[str], most_chars: int) -> list[str]:
    runs, start = [], 0
    while start < len(lines):
        end, size = start, 0
        while end < len(lines) and (end == start or size + len(lines[end]) <= most_chars):
            size += len(lines[end]) + 1
            end += 1
        runs.append(" ".join(lines[start:end]))
        if end == len(lines):
            break
        half, size = start, 0
        while half < end - 1 and size < most_chars // 2:
            size += len(lines[half]) + 1
            half += 1
        start = max(half, start + 1)
    return runs


def best(question: str, passages: Sequence[Passage], count: int) -> list[tuple[Passage, float]]:
    """Return the `count` passages that answer best, each with the share of the question's weight it covers."""
    import bm25s

    query = list(dict.fromkeys(tokens(question)))
    corpus = [tokens(passage.text) for passage in passages]
    if not query or not any(corpus):
        return []
    index = bm25s.BM25(method="lucene", k1=1.2, b=0.5)
    index.index(corpus, show_progress=False)
    scores = index.get_scores(query)
    order = sorted(range(len(passages)), key=lambda i: (-scores[i], i))[:count]
    weights = _weights(query, corpus)
    total = sum(weights.values())
    return [
        (passages[i], sum(weights[t] for t in set(corpus[i]) & weights.keys()) / total)
        for i in order
        if scores[i] > 0
    ]


def _weights(query: Sequence[str], corpus: Sequence[Sequence[str]]) -> dict[str, float]:
    """Weigh the question's terms by rarity, as BM25 does, terms found nowhere included."""
    import math

    sets = [set(terms) for terms in corpus]
    found = {term: sum(term in terms for terms in sets) for term in query}
    return {t: math.log(1 + (len(sets) - n + 0.5) / (n + 0.5)) for t, n in found.items()}
