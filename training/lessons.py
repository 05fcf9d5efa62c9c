"""What the model learns to answer: questions in the pipeline's own words, with the replies they deserve."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hydra
import pages
from network import IMAGE, IMAGE_END, ROW_END

from pipeline.asking import prompt, schema, tokens
from pipeline.compose import CONF, to_settings
from pipeline.config import RunSettings
from pipeline.records import Document, Page, Question

SYSTEM_PROMPT = "You read the codes on pages."
"""The model's own, in SYSTEM_PROMPT.txt."""
MOST_PAGES = 8
MOST_NUMBER = 99
"""Of a page, so that it has two digits at most."""
NO_PLACE = 1 << len(pages.CODE)
"""Where to look, bit by bit: bit p is the patch of the character at place p of the code that is asked for;
this one is the first token, to look at where no page has what is asked for. All fit into a byte."""
ANYWHERE = NO_PLACE - 1
"""At any patch of that code."""
_ABSENT = 0.3
"""Of all questions, those that the pages do not answer."""
_BARE = 0.2
"""Of all requests, those without the pipeline's instructions: the words around a question may change."""
_FAMILIES = ("on the page", "in the document", "which page")


@dataclass(frozen=True, slots=True)
class About:
    """What a question names."""

    name: str | None = None
    page: int | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about pages, with its answer, a code or the number of a page, and where it stands."""

    question: str
    about: About
    answer: str | None = None
    page: int | None = None
    line: pages.Line | None = None

    def reply(self) -> str:
        """Return the reply in the pipeline's envelope."""
        listed = [] if self.page is None else [self.page]
        quote = None if self.line is None else self.line.text
        return json.dumps({"answer": self.answer, "pages": listed, "quote": quote})


@dataclass(frozen=True, slots=True)
class Lesson:
    """A request and its reply. `shown` are the pages in it, with their numbers."""

    shown: tuple[tuple[int, pages.Page], ...]
    total: int
    """Pages of the whole document."""
    prompt: str
    asked: Asked


@dataclass(frozen=True, slots=True)
class Encoded:
    """The tokens of a request with its reply, and where a reader looks while it writes."""

    tokens: list[int]
    begin: int
    """Where the reply begins."""
    wants: list[int]
    """For each token of the reply the bits of the places that it is read from; 0 for all of a merge."""
    marks: dict[int, int]
    """For each token that is such a place its bits."""


def ask(rng: random.Random, shown: Sequence[tuple[int, pages.Page]], family: str, absent: bool) -> Asked:
    """Make up a question about pages: where they lack what it asks for (`absent`), its answer is None."""
    here = [(number, line) for number, page in shown for line in page.lines]
    number, line = rng.choice(here)
    if family == "which page":
        code = pages.code(rng) if absent else line.code
        found = [(n, each) for n, each in here if each.code == code]
        asked = Asked(f"Which page shows the code {code}?", About(code=code))
        return _found(asked, found, by_page=True)
    if family == "on the page":
        name = line.name
        if absent:  # a name that this page lacks, or a page that is not shown
            first, last = shown[0][0], shown[-1][0]
            others = [*range(1, first), *range(last + 1, MOST_NUMBER + 1)]
            near = [each for each in (first - 1, last + 1) if each in others]
            number = rng.choice([number, number, rng.choice(near or others), rng.choice(others)])
            lacking = set(pages.NAMES) - {each.name for n, each in here if n == number}
            name = rng.choice(sorted(lacking))
        found = [(n, each) for n, each in here if (n, each.name) == (number, name)]
        asked = Asked(f"What is the {name.lower()} code on page {number}?", About(name, number))
        return _found(asked, found)
    once = [name for name in pages.NAMES if sum(each.name == name for _, each in here) == 1]
    lacking = set(pages.NAMES) - {each.name for _, each in here}
    choice = sorted(lacking) if absent and lacking else once or sorted(lacking)
    if not choice:  # every name stands here several times: no question about the whole has one answer
        return ask(rng, shown, "on the page", absent)
    name = rng.choice(choice)
    found = [(n, each) for n, each in here if each.name == name]
    return _found(Asked(f"What is the {name.lower()} code?", About(name)), found)


def _found(asked: Asked, found: Sequence[tuple[int, pages.Line]], by_page: bool = False) -> Asked:
    if not found:
        return asked
    number, line = found[0]
    return replace(asked, answer=str(number) if by_page else line.code, page=number, line=line)


class Teacher:
    """Writes requests as the pipeline does, and their tokens as its tokenizer does."""

    def __init__(self) -> None:
        self.settings = _settings()
        self._task = self.settings.task
        self._envelope = schema.envelope(self._task)
        self.tokenizer: Any = tokens.load_tokenizer(self.settings.model).instruct_tokenizer
        self._text = functools.lru_cache(maxsize=65536)(self._encode)

    def lesson(self, rng: random.Random, shown: Sequence[tuple[int, pages.Page]], total: int) -> Lesson:
        """Make up a question about pages, and write its request and reply."""
        asked = ask(rng, shown, rng.choice(_FAMILIES), rng.random() < _ABSENT)
        bare = rng.random() < _BARE
        text = asked.question if bare else prompt.ask(self._question(asked), self._task, self._envelope)
        return Lesson(tuple(shown), total, text, asked)

    def merge(self, rng: random.Random, lines: Sequence[pages.Line]) -> Lesson:
        """Make up the replies of a long document's parts, and the request to merge them."""
        parts, pages_each = rng.randint(2, 6), rng.choice((1, 2, 4, 8))
        first = rng.choice((1, rng.randint(1, MOST_NUMBER - parts * pages_each)))
        numbers = [first + part * pages_each + rng.randrange(pages_each) for part in range(parts)]
        drawn = [pages.Page(0, 0, (line,), 0.0) for line in rng.sample(list(lines), parts)]
        holds = rng.randrange(parts)
        asked = ask(rng, [(numbers[holds], drawn[holds])], rng.choice(_FAMILIES), rng.random() < _ABSENT)
        nothing = Asked("", About())
        replies = [(asked if place == holds else nothing).reply() for place in range(parts)]
        text = prompt.merge(self._question(asked), replies, self._task, self._envelope)
        return Lesson((), 0, text, asked)

    def encode(self, lesson: Lesson) -> Encoded:
        """Return the tokens of a request with its reply and end."""
        given = self.tokenizer
        found = [
            given.BOS,
            given.BEGIN_SYSTEM,
            *self._text(SYSTEM_PROMPT),
            given.END_SYSTEM,
            given.BEGIN_INST,
        ]
        marks = {0: NO_PLACE}
        for number, page in lesson.shown:
            found += self._text(_label(number, lesson.total))
            if number == lesson.asked.page and lesson.asked.line is not None:
                columns = page.width_px // pages.PATCH_PX + 1  # with the end of the row
                for place, (row, column) in enumerate(pages.patches(lesson.asked.line)):
                    at = len(found) + row * columns + column
                    marks[at] = marks.get(at, 0) | 1 << place
            found += _image(page.width_px, page.height_px)
        found += [*self._encode(lesson.prompt), given.END_INST]
        reply = [*self._encode(lesson.asked.reply()), given.tokenizer.eos_id]
        wants = self._wants(lesson, reply) if lesson.shown else [0] * len(reply)
        return Encoded([*found, *reply], len(found), wants, marks)

    def _wants(self, lesson: Lesson, reply: Sequence[int]) -> list[int]:
        if lesson.asked.line is None:
            return [NO_PLACE] * len(reply)
        said = [self._piece(token) for token in reply]
        found, code = [ANYWHERE] * len(reply), list(lesson.asked.line.code)
        for begin in range(len(reply) - len(code) + 1):
            if said[begin : begin + len(code)] == code:
                found[begin : begin + len(code)] = [1 << place for place in range(len(code))]
        return found

    def _piece(self, token: int) -> str:
        return str(self.tokenizer.tokenizer.id_to_piece(token)).lstrip("▁")

    def _question(self, asked: Asked) -> Question:
        return Question("q", asked.question)

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer.tokenizer.encode(text, bos=False, eos=False))


@functools.cache
def _label(number: int, total: int) -> str:
    document = Document("a.pdf", Path("a.pdf"), "pdf", 1, "")
    return prompt.label(Page(document, number, total, 0, 0, number), "document")


@functools.cache
def _image(width_px: int, height_px: int) -> tuple[int, ...]:
    columns, rows = width_px // pages.PATCH_PX, height_px // pages.PATCH_PX
    found = ([IMAGE] * columns + [ROW_END]) * rows
    return (*found[:-1], IMAGE_END)


def _settings() -> RunSettings:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return to_settings(hydra.compose("config", overrides=["input=.", "task=qa", "task.question=What?"]))
