"""What is known to be right: a golden set, the gold answers of a run's own questions, and reviews."""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from pipeline.asking import question_file
from pipeline.asking.plain import one_line
from pipeline.errors import SettingsError
from pipeline.records import Box, Json
from pipeline.tables import reviews
from pipeline.tables.columns import Row, Value
from pipeline.tables.evaluation import AnswerRow
from pipeline.texts import matches

COLUMNS = ("question_id", "question", "document", "answer", "answers", "page", "pages", "unanswerable",
           "boxes", "fields", "group", "about")  # fmt: skip
GOLD, QUESTIONS, REVIEW = "gold", "questions", "review"
_GLOB = re.compile(r"[*?\[]")
_YES, _NO = ("true", "yes", "y", "1", "x"), ("", "false", "no", "n", "0")


_NOTHING: Mapping[str, Json] = MappingProxyType({})


class GoldAnswer(NamedTuple):
    """What is known of one answer: a tuple, for there are millions."""

    answers: tuple[str, ...] = ()
    """Each of them is right."""
    pages: tuple[int, ...] = ()
    boxes: tuple[Box, ...] = ()
    fields: Mapping[str, Json] | None = None
    unanswerable: bool = False
    """The document does not say: no answer is the right answer."""
    is_wrong: bool = False
    """Somebody has said that the answer is wrong, and not what would be right."""
    judged_by: str = GOLD
    group: str = ""
    """What scores are broken down by."""
    about: Mapping[str, Json] = _NOTHING
    """What metrics of data sets have to know of the question."""


@dataclass(frozen=True, slots=True)
class GoldRow:
    """A row of a golden set."""

    number: int
    question_id: str
    question: str
    document: str
    gold: GoldAnswer


@dataclass(slots=True)
class GoldenSet:
    """The rows of a golden set, found by question and document."""

    rows: Sequence[GoldRow]
    by_text: bool
    """By the question's text; else by its id."""
    used: set[int] = field(default_factory=set)
    """Indices of the rows that an answer was found for."""
    _named: dict[tuple[str, str], int] = field(default_factory=dict)
    _globs: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for index, row in enumerate(self.rows):
            key, name = self._key(row.question_id, row.question), _plain_name(row.document)
            if (key, name) in self._named:
                raise ValueError(f"row {row.number} repeats an earlier question and document: remove one")
            self._named[key, name] = index
            if _GLOB.search(name):
                self._globs[key].append(index)

    def of(self, answer: AnswerRow) -> GoldAnswer | None:
        """Return what is known of an answer; of one page of a document, only where that page holds it."""
        index = self._find(self._key(answer.question_id, answer.question), answer.source)
        if index is None:
            return None
        gold = self.rows[index].gold
        if answer.page is not None and gold.pages and answer.page not in gold.pages:
            return None
        self.used.add(index)
        return gold

    def _find(self, key: str, source: str) -> int | None:
        """Return the row that names a source most closely: itself, a folder, by a glob, or all."""
        for name in _names(source):
            if (key, name) in self._named:
                return self._named[key, name]
        globs = (index for index in self._globs.get(key, ()) if matches(source, self.rows[index].document))
        return next(globs, self._named.get((key, "")))

    def missing(self, sources: Sequence[str]) -> tuple[list[GoldRow], int]:
        """Return the rows without an answer whose document is an input, and how many name no input."""
        names = {"", *(name for source in sources for name in _names(source))}
        unused = [row for index, row in enumerate(self.rows) if index not in self.used]
        asked = [row for row in unused if _is_input(row.document, names, sources)]
        return asked, len(unused) - len(asked)

    def _key(self, question_id: str, question: str) -> str:
        return unicodedata.normalize("NFC", " ".join(question.split())) if self.by_text else question_id


def _plain_name(document: str) -> str:
    return unicodedata.normalize("NFC", document).removeprefix("./").rstrip("/")


def _names(source: str) -> Iterator[str]:
    """Yield what a row may call a source: its own name, and those of the folders that it lies in."""
    name = _plain_name(source)
    while name:
        yield name
        name = name.rpartition("/")[0]


def _is_input(document: str, names: Set[str], sources: Sequence[str]) -> bool:
    name = _plain_name(document)
    return name in names or (_GLOB.search(name) is not None and any(matches(s, document) for s in sources))


def read(path: Path) -> GoldenSet:
    """Read a golden set. Raises SettingsError with the row and what to do."""
    try:
        table = question_file.read(path, COLUMNS, lambda name: name in COLUMNS)
        by_text = "question" in table.columns
        if not by_text and "question_id" not in table.columns:
            raise ValueError("has neither the column question nor question_id: add one")
        rows = [_row(row, number, by_text) for number, row in enumerate(table.rows, 1)]
        if not rows:
            raise ValueError("holds no row")
        return GoldenSet(rows, by_text)
    except (OSError, ValueError) as error:
        raise SettingsError(f"gold={one_line(path)}: {one_line(error, 400)}") from error


def _row(row: Mapping[str, str], number: int, by_text: bool) -> GoldRow:
    cell = {name: row.get(name, "").strip() for name in COLUMNS}
    if not cell["question" if by_text else "question_id"]:
        raise ValueError(f"row {number} lacks {'question' if by_text else 'question_id'}")
    try:
        gold = GoldAnswer(
            answers=_answers(cell["answers"] or cell["answer"]),
            pages=_pages(cell["pages"] or cell["page"]),
            boxes=_boxes(cell["boxes"]),
            fields=_fields(cell["fields"]),
            unanswerable=_flag(cell["unanswerable"]),
            group=cell["group"],
            about=_fields(cell["about"]) or {},
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"row {number}: {error}") from error
    if not (gold.answers or gold.unanswerable or gold.fields is not None):
        raise ValueError(f"row {number} has no answer: give one, or unanswerable=true")
    if gold.answers and gold.unanswerable:
        raise ValueError(f"row {number} is unanswerable and has an answer: remove one of the two")
    return GoldRow(number, cell["question_id"], cell["question"], cell["document"], gold)


def _answers(cell: str) -> tuple[str, ...]:
    """Return answers each of which is right: `a | b`, or a JSON list of texts."""
    if cell.startswith("[") and cell.endswith("]"):
        try:
            # Numbers as they are written: 1.10 would become 1.1, and long ones lose digits.
            values = json.loads(cell, parse_int=str, parse_float=str)
            return tuple(text for each in values if each is not None and (text := str(each)).strip())
        except (ValueError, RecursionError):
            return (cell,)
    return tuple([each for part in cell.split("|") if (each := part.strip())])


def _pages(cell: str) -> tuple[int, ...]:
    """Return page numbers: `3`, `3, 5-7` or a JSON list."""
    found: list[int] = []
    for part in re.split(r"[,;\s]+", re.sub(r"\s*[-–]\s*", "-", cell.strip("[] "))):
        first, _, last = part.partition("-")
        if part and not (first.isdecimal() and (last.isdecimal() or last == "")):
            raise ValueError(f"page {part[:40]!r} is no number or range: write 3, or 3, 5-7")
        if part:
            end = int(last or first)
            # A slip such as 3-30000000 would fill the memory.
            if not 0 <= end - int(first) <= 10_000:
                raise ValueError(f"page {part[:40]!r} is no range: write the smaller number first")
            found += range(int(first), end + 1)
    return tuple(dict.fromkeys(found))


def _boxes(cell: str) -> tuple[Box, ...]:
    values = json.loads(cell) if cell else []
    if not isinstance(values, list):
        raise ValueError('boxes are no list: write [{"page": 1, "x0": …, "y0": …, "x1": …, "y1": …}]')
    return tuple(
        Box(int(each["page"]), *(float(each[side]) for side in ("x0", "y0", "x1", "y1"))) for each in values
    )


def _fields(cell: str) -> Mapping[str, Json] | None:
    values = json.loads(cell) if cell else None
    if values is not None and not isinstance(values, dict):
        raise ValueError("fields are no JSON object")
    return values


def _flag(cell: str) -> bool:
    if cell.lower() not in (*_YES, *_NO):
        raise ValueError(f"unanswerable is {cell[:40]!r}: write true or false")
    return cell.lower() in _YES


# ---- reviews, and the questions' own answers ----


@dataclass(frozen=True, slots=True)
class Known:
    """All that is known of the answers of a run; what people said about an answer counts first."""

    golden: GoldenSet | None
    reviewed: Mapping[tuple[Value, Value], Row]

    def of(self, answer: AnswerRow) -> GoldAnswer | None:
        """Return what is known of an answer, if anything is."""
        review = self.reviewed.get((answer.answer_id, answer.source))
        gold = self.golden.of(answer) if self.golden is not None else _of_questions(answer)
        if review is None or (said := _of_review(review, answer)) is None:
            return gold
        # A review says what is right, seldom where it stands.
        if gold is None:
            return said
        return gold._replace(
            answers=said.answers,
            unanswerable=said.unanswerable,
            is_wrong=said.is_wrong,
            judged_by=said.judged_by,
        )


def known(output: Path, gold: str | None) -> Known:
    """Return what is known of a run: by a golden set, or else by its own questions; and by its reviews."""
    said = {(row["answer_id"], row["source"]): row for row in reviews.load(output)}
    reviewed = {key: row for key, row in said.items() if row["verdict"] != "none"}
    return Known(read(Path(gold)) if gold else None, reviewed)


def _of_questions(answer: AnswerRow) -> GoldAnswer | None:
    """Return a gold answer as a questions file has it; of its page, the first number."""
    answers = _answers(answer.gold_answer) if answer.gold_answer else ()
    return GoldAnswer(answers, _first_page(answer.gold_page or ""), judged_by=QUESTIONS) if answers else None


@functools.lru_cache(1024)
def _first_page(written: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", written)[:1]))


def _of_review(review: Row, answer: AnswerRow) -> GoldAnswer | None:
    verdict = review["verdict"]
    if verdict == "wrong":
        # Whether another answer than the reviewed one is right, nobody has said.
        same = review["answer"] == answer.answer
        return GoldAnswer(is_wrong=True, judged_by=REVIEW) if same else None
    right = str(review["correction" if verdict == "corrected" else "answer"] or "").strip()
    return GoldAnswer((right,) if right else (), unanswerable=not right, judged_by=REVIEW)
