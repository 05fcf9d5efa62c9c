"""Cut pages into passages, and texts into terms, in any script."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.engines.embedded.lines import Line, Place, legibility


@dataclass(frozen=True, slots=True)
class Passage:
    """A few lines of a page."""

    page: int
    text: str
    places: tuple[Place, ...] = ()
    """Where its lines stand, if the page was read by OCR."""
    legibility: float = 1.0

    @property
    def prose(self) -> str:
        """The text without its line breaks, and without the hyphens at them."""
        return " ".join(re.sub(r"(?<=\w)-\n(?=[a-zà-ÿа-я])", "", self.text).split())


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


def tokens(text: str) -> list[str]:
    """Return index terms: words with their parts and a shortened form; character pairs in unspaced scripts.

    The first five letters stand in for a stemmer in languages that inflect, without one per language.
    """
    terms: list[str] = []
    for run in _RUN.findall(plain(text)):
        if re.match(rf"[{_CJK}]", run):
            terms += [run[i : i + 2] for i in range(len(run) - 1)] or [run]
            continue
        words = _WORD.findall(run)
        terms += words if words == [run] else [run, *words]
        terms += [word[:5] + "~" for word in words if len(word) > 5 and word.isalpha()]
    return terms


def plain(text: str) -> str:
    """Fold case, width and accents, so that two spellings of a word meet."""
    decomposed = unicodedata.normalize("NFKD", text.translate(_LOOSE_ACCENTS)).casefold()
    kept = "".join(c for c in decomposed if not unicodedata.combining(c))
    # Composed again: NFKD has taken Hangul syllables apart into letters, which are not in _CJK.
    return unicodedata.normalize("NFC", kept)


def cut(pages: Mapping[int, Sequence[Line]], most_chars: int) -> list[Passage]:
    """Cut each page's lines into passages of about `most_chars`, each overlapping the next by half."""
    passages = []
    for page, lines in pages.items():
        tidy = [line._replace(text=text) for line in lines if (text := " ".join(line.text.split()))]
        passages += [_passage(page, run) for run in _runs(tidy, most_chars)]
    return passages


def _passage(page: int, lines: list[Line]) -> Passage:
    places = tuple(line.place for line in lines if line.place)
    return Passage(page, "\n".join(line.text for line in lines), places, legibility(lines))


def _runs(lines: list[Line], most_chars: int) -> list[list[Line]]:
    runs, start = [], 0
    while start < len(lines):
        end = _reach(lines, start, most_chars)
        runs.append(lines[start:end])
        if end == len(lines):
            break
        start = min(_reach(lines, start, most_chars // 2), end)
    return runs


def _reach(lines: list[Line], start: int, most_chars: int) -> int:
    """Return the end of the longest run of lines from `start` within `most_chars`, of one line at least."""
    end, size = start + 1, len(lines[start].text)
    while end < len(lines) and size + 1 + len(lines[end].text) <= most_chars:
        size += 1 + len(lines[end].text)
        end += 1
    return end


def question_terms(question: str) -> list[str]:
    """Return the terms of a question that say what it is about."""
    subject = _ASKING_CJK.sub(" ", question)
    terms = dict.fromkeys(tokens(subject))
    # Folded as the terms are: й, for one, loses its breve.
    asking = {plain(word) for word in _ASKING}
    return [t for t in terms if t not in asking] or list(dict.fromkeys(tokens(question)))
