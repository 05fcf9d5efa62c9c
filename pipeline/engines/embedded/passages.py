"""Cut pages into passages and rank them for a question, in any script."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Passage:
    page: int
    text: str


_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af"
_RUN = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+(?:[.:/@-][^\W_{_CJK}]+)*")
_WORD = re.compile(r"[^\W_]+")
# Accents that old fonts leave beside their letter, and the dotless i that goes with them.
_LOOSE_ACCENTS = str.maketrans({"´": "", "`": "", "ˆ": "", "˜": "", "¨": "", "¸": "", "ı": "i"})

# Words that make a sentence a question: rare in most documents, so that their rarity would mislead.
_ASKING = frozenset(
    """
    what which who whom whose when where why how many much is are was were do does did has have the a an of
    in on    at by for to from this that it its according about
    was welche welcher welches welchem wer wen wem wann wo warum wie viele viel ist sind wird werden hat
    der die    das den dem des ein eine im in am laut es
    que quel quelle quels quelles qui quand ou pourquoi combien est sont le la les un une du de des dans
    selon cette
    cual cuales quien quienes cuando donde cuanto cuantos cuanta cuantas como es son el los las
    una en por segun
    chi che quale quali quando dove perche quanto quanti quanta quante e sono il lo gli i nel della di per
    qual quais quem onde quanto quantos quanta quantas o os as um uma no na do da dos das em sao
    что какой какая какое какие каким кто когда где почему сколько как это есть был была было в на по из
    для о
    """.split()
)
_ASKING_CJK = re.compile(
    "是什么|什么|哪个|哪些|哪一个|哪里|多少|第几|为什么|怎么|根据|の?(?:は|を)?(?:何|どの|どれ|どこ|誰|だれ|いつ|いくつ)"
    "(?:です|ます)?か?|ですか|ますか|でしたか|무엇|언제|누구|어디|어느|얼마|몇|입니까|습니까|인가요|나요"
)

_ABOUT_ITSELF = re.compile(
    r"\b(author|date|version|title|publish|edition|autor|datum|titel|fassung|auteur|titre|fecha|titulo|autore|data\b|"
    r"versao|versione|titolo|автор|дата|верси|названи|издани)|作者|著者|日付|バージョン|版本|日期|标题|題名|표제|저자|날짜|버전|제목"
)


def tokens(text: str) -> list[str]:
    """Return index terms: words with their parts and a shortened form; character pairs in unspaced scripts.

    The first five letters stand in for a stemmer in languages that inflect, without one per language.
    """
    terms: list[str] = []
    for run in _RUN.findall(_plain(text)):
        if re.match(rf"[{_CJK}]", run):
            terms += [run[i : i + 2] for i in range(len(run) - 1)] or [run]
            continue
        words = _WORD.findall(run)
        terms += words if words == [run] else [run, *words]
        terms += [word[:5] + "~" for word in words if len(word) > 5 and word.isalpha()]
    return terms


def _plain(text: str) -> str:
    """Fold case, width and accents, so that two spellings of a word meet."""
    decomposed = unicodedata.normalize("NFKD", text.translate(_LOOSE_ACCENTS)).casefold()
    kept = "".join(c for c in decomposed if not unicodedata.combining(c))
    return unicodedata.normalize("NFC", kept)


def cut(texts: Mapping[int, str], most_chars: int) -> list[Passage]:
    """Cut each page's lines into passages of about `most_chars`, each overlapping the next by half."""
    passages = []
    for page, text in texts.items():
        joined = re.sub(r"(?<=\w)-\n(?=[a-zà-ÿа-я])", "", text)
        lines = [line for raw in joined.splitlines() if (line := " ".join(raw.split()))]
        passages += [Passage(page, run) for run in _runs(lines, most_chars)]
    return passages


def _runs(lines: Sequence[str], most_chars: int) -> list[str]:
    runs, start = [], 0
    while start < len(lines):
        end = _reach(lines, start, most_chars)
        runs.append(" ".join(lines[start:end]))
        if end == len(lines):
            break
        start = min(_reach(lines, start, most_chars // 2), end)
    return runs


def _reach(lines: Sequence[str], start: int, most_chars: int) -> int:
    """Return the end of the longest run of lines from `start` within `most_chars`, of one line at least."""
    end, size = start + 1, len(lines[start])
    while end < len(lines) and size + 1 + len(lines[end]) <= most_chars:
        size += 1 + len(lines[end])
        end += 1
    return end


def best(question: str, passages: Sequence[Passage], count: int) -> list[tuple[Passage, float]]:
    """Return the `count` passages that answer best, each with the share of the question's weight it covers.

    BM25 times that share: many repeats of one common word do not outweigh the one rare word asked for. What a
    document says of itself (its author, date, version) is looked for on its first page first.
    """
    import bm25s

    query = question_terms(question)
    corpus = [tokens(passage.text) for passage in passages]
    if not query or not any(corpus):
        return [(passage, 0.0) for passage in passages[:count]]
    index = bm25s.BM25(method="lucene")
    index.index(corpus, show_progress=False)
    weights = _weights(query, corpus)
    total = sum(weights.values())
    shares = [sum(weights[term] for term in set(terms) & weights.keys()) / total for terms in corpus]
    title_page = 3 if _ABOUT_ITSELF.search(_plain(question)) else 1
    scores = [
        float(score) * share * (title_page if passage.page == 1 else 1)
        for score, share, passage in zip(index.get_scores(query), shares, passages, strict=True)
    ]
    order = sorted(range(len(passages)), key=lambda i: (-scores[i], i))[:count]
    return [(passages[i], shares[i]) for i in order]


def question_terms(question: str) -> list[str]:
    """Return the terms of a question that say what it is about."""
    subject = _ASKING_CJK.sub(" ", question)
    terms = dict.fromkeys(tokens(subject))
    asking = {_plain(word) for word in _ASKING}
    return [t for t in terms if t not in asking] or list(dict.fromkeys(tokens(question)))


def _weights(query: Sequence[str], corpus: Sequence[Sequence[str]]) -> dict[str, float]:
    """Weigh the question's terms by rarity, as BM25 does, terms found nowhere included."""
    sets = [set(terms) for terms in corpus]
    found = {term: sum(term in terms for terms in sets) for term in query}
    return {t: math.log(1 + (len(sets) - n + 0.5) / (n + 0.5)) for t, n in found.items()}
