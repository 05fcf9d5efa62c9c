"""Which questions are asked of a document: those whose pattern names it, each once."""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from pipeline.records import Question

_MAGIC = re.compile(r"[*?\[]")
_WILD = re.compile(r"\[!?\]?[^\]]*\]|[*?]")
# How exactly a pattern names a document, the least first; of two alike, the longer says more.
_ANY, _GLOB, _FOLDER, _EXACT = range(4)
_Rank = tuple[int, int]
_Hit = tuple[int, _Rank]


def same_documents(pattern: str) -> str:
    """Return the pattern in the form in which two that name the same documents are equal."""
    return unicodedata.normalize("NFC", pattern).removeprefix("./").rstrip("/")


class Selection:
    """Finds the questions for a document without trying every pattern; `texts.matches` is its meaning."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self._questions = tuple(questions)
        self._any: list[int] = []
        self._exact: dict[str, list[int]] = defaultdict(list)
        self._folders: dict[str, list[int]] = defaultdict(list)
        self._globs: dict[tuple[str, str], list[tuple[int, int, re.Pattern[str]]]] = defaultdict(list)
        """By the letters before the first sign with a meaning, and those after the last."""
        for index, question in enumerate(self._questions):
            self._add(index, question.document)
        # Globs are found by the letters before their first wildcard: thousands cost a lookup for each length.
        self._fixed_lengths = sorted({(len(first), len(last)) for first, last in self._globs})
        self._of_any = self._most_specific([])

    @property
    def leaders(self) -> frozenset[str]:
        """Ids of the questions whose answers decide whether others are asked."""
        waited = {each.when.question_id for each in self._questions if each.when}
        # The same words under another id have the same answer, which may come under that id alone.
        texts = {each.text for each in self._questions if each.question_id in waited}
        return frozenset(each.question_id for each in self._questions if each.text in texts)

    def _add(self, index: int, pattern: str) -> None:
        if not pattern:
            self._any.append(index)
            return
        wanted = unicodedata.normalize("NFC", pattern).removeprefix("./")
        self._exact[wanted].append(index)
        self._folders[wanted.rstrip("/")].append(index)
        if magic := _MAGIC.search(wanted):
            literal = len(_WILD.sub("", wanted))
            compiled = re.compile(fnmatch.translate(wanted))
            last = wanted[max(wanted.rfind(sign) for sign in "*?]") + 1 :]
            ends = wanted[: magic.start()], last if "[" not in last else ""
            self._globs[ends].append((index, literal, compiled))

    def of(self, source: str) -> tuple[Question, ...]:
        """Return the questions of a document, in their order; of several with one id, the most specific."""
        hits = list(self._named(source))
        return self._most_specific(hits) if hits else self._of_any

    def _most_specific(self, hits: Sequence[_Hit]) -> tuple[Question, ...]:
        """Return, of the questions hit and those of any document, one per id; of two equal ones the first."""
        best: dict[str, _Hit] = {}
        for index, rank in sorted([*((index, (_ANY, 0)) for index in self._any), *hits]):
            known = best.get(self._questions[index].question_id)
            if known is None or rank > known[1]:
                best[self._questions[index].question_id] = (index, rank)
        return tuple(self._questions[index] for index in sorted(index for index, _ in best.values()))

    def unmatched(self, sources: Iterable[str]) -> tuple[Question, ...]:
        """Return the questions, in their order, whose pattern names none of the documents."""
        named: set[int] = set()
        for number, source in enumerate(sources):
            named.update(self._any if number == 0 else ())
            named.update(index for index, _ in self._named(source))
        return tuple(q for index, q in enumerate(self._questions) if index not in named)

    def _named(self, source: str) -> Iterator[_Hit]:
        """Yield the questions whose pattern, if they have one, names a document, and how exactly it does."""
        name = unicodedata.normalize("NFC", source)
        yield from ((index, (_EXACT, 0)) for index in self._exact.get(name, ()))
        for slash in (at for at, character in enumerate(name) if character == "/"):
            # The deeper folder says more.
            yield from ((index, (_FOLDER, slash)) for index in self._folders.get(name[:slash], ()))
        for first, last in self._fixed_lengths:
            if first + last > len(name):
                continue
            for index, literal, pattern in self._globs.get((name[:first], name[len(name) - last :]), ()):
                if pattern.match(name):
                    yield index, (_GLOB, literal)
