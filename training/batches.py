"""Batches of lessons, made in worker processes while the model learns."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pages
from lessons import MOST_NUMBER, About, Lesson, Teacher
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

IGNORED = -100
_MERGES = 0.08
"""Of all batches, those of merges, which have no pages."""
_POOL = 2000
"""Pages of a size that a worker keeps: each request has new ones and some that were shown before."""
_NEW = 1.0
"""Pages drawn for each request, on average."""


class Batch(NamedTuple):
    """Requests of as many pages of one size each."""

    tokens: NDArray[np.int64]
    """(requests, tokens), padded with 0 at the end."""
    targets: NDArray[np.int64]
    """(requests, tokens): the token that comes next, or IGNORED where no reply is."""
    wants: NDArray[np.uint8]
    """(requests, tokens): from which places the token that comes next is read, as in lessons.Encoded."""
    marks: NDArray[np.uint8]
    """(requests, tokens): which of these places the token is."""
    about: NDArray[np.uint8]
    """(requests, 1 + 2 + length of a code): the name, page and code that the question names, 0 if none:
    1 + place in NAMES, 1 + tens, 1 + ones, 1 + place in CHARACTERS."""
    images: NDArray[np.uint8]
    """(images, height, width); none for merges."""
    seen: NDArray[np.uint8]
    """(images, patches, …), as pages.seen."""
    numbers: NDArray[np.uint8]
    """(images, 2): the tens and ones of the number of the page."""


@dataclass
class Drawn:
    """A page with its image and what is where on it."""

    page: pages.Page
    image: NDArray[np.uint8]
    seen: NDArray[np.uint8]


class Lessons(IterableDataset[Batch]):
    """Batches without end, made in worker processes. `most` pages a request is shared with them."""

    def __init__(self, fonts: Sequence[str], tokens_per_step: int, seed: int, most: Tensor) -> None:
        self._fonts, self._tokens, self._seed, self._most = fonts, tokens_per_step, seed, most
        self._pools: dict[tuple[int, int], deque[Drawn]] = {}
        self._painter = pages.Painter()

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        rng = random.Random(self._seed * 1000 + (worker.id if worker else 0))
        teacher = Teacher()
        while True:
            most = int(self._most)
            if rng.random() < _MERGES:
                yield self.merges(rng, teacher)
            else:
                # As often as not all that there may be: those take longest to learn.
                count = rng.choice((1, rng.randint(1, most), most))
                yield self.of(rng, teacher, count, rng.choice(pages.SIZES_PX))

    def of(
        self,
        rng: random.Random,
        teacher: Teacher,
        count: int,
        size: tuple[int, int],
        requests: int | None = None,
    ) -> Batch:
        """Make a batch of requests of `count` pages each."""
        first = [self._draw(rng, size) for _ in range(count + 1)]
        length = len(teacher.encode(self._lesson(rng, teacher, first[:count])).tokens) + 20
        requests = requests or max(1, self._tokens // length)
        shown = [self._choose(rng, size, count) for _ in range(requests)]
        lessons = [self._lesson(rng, teacher, each) for each in shown]
        drawn = [each for some in shown for each in some]
        numbers = [divmod(number, 10) for lesson in lessons for number, _ in lesson.shown]
        return Batch(
            *_padded(teacher, lessons), np.stack([each.image for each in drawn]),
            np.stack([each.seen for each in drawn]), np.array(numbers, np.uint8),
        )  # fmt: skip

    def _lesson(self, rng: random.Random, teacher: Teacher, shown: Sequence[Drawn]) -> Lesson:
        start = rng.choice((1, rng.randint(1, MOST_NUMBER + 1 - len(shown))))
        numbered = [(start + place, each.page) for place, each in enumerate(shown)]
        last = start + len(shown) - 1
        return teacher.lesson(rng, numbered, rng.choice((last, rng.randint(last, MOST_NUMBER))))

    def _choose(self, rng: random.Random, size: tuple[int, int], count: int) -> list[Drawn]:
        pool = self._pools.setdefault(size, deque(maxlen=_POOL))
        drawn = int(_NEW + rng.random())
        pool.extend(self._draw(rng, size) for _ in range(max(drawn, count - len(pool))))
        return rng.sample(pool, count)

    def _draw(self, rng: random.Random, size: tuple[int, int]) -> Drawn:
        page = pages.page(rng, size, self._fonts)
        seen = pages.seen(page)
        return Drawn(page, self._painter.draw(page), seen.reshape(-1, seen.shape[-1]))

    def merges(self, rng: random.Random, teacher: Teacher) -> Batch:
        """Make a batch of merges."""
        made = [pages.page(rng, (256, 160), self._fonts) for _ in range(200)]
        lines = [line for page in made for line in page.lines]
        lessons = [teacher.merge(rng, lines) for _ in range(self._tokens // 500)]
        nothing = np.zeros((0, 16, 16), np.uint8)
        return Batch(*_padded(teacher, lessons), nothing, nothing, nothing[:, 0])


def _padded(
    teacher: Teacher, lessons: Sequence[Lesson]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    encoded = [teacher.encode(lesson) for lesson in lessons]
    # A whole number of 32s: few lengths in all.
    length = math.ceil(max(len(each.tokens) for each in encoded) / 32) * 32
    tokens, targets = np.zeros((len(encoded), length), np.int64), np.full((len(encoded), length), IGNORED)
    wants, marks = np.zeros((2, len(encoded), length), np.uint8)
    for row, each in enumerate(encoded):
        reply = slice(each.begin - 1, len(each.tokens) - 1)
        tokens[row, : len(each.tokens)] = each.tokens
        targets[row, reply] = each.tokens[each.begin :]
        wants[row, reply] = each.wants
        marks[row, list(each.marks)] = list(each.marks.values())
    return (
        tokens,
        targets,
        wants,
        marks,
        np.array([_about(lesson.asked.about) for lesson in lessons], np.uint8),
    )


def _about(given: About) -> list[int]:
    name = 0 if given.name is None else 1 + pages.NAMES.index(given.name)
    page = [0, 0] if given.page is None else [1 + digit for digit in divmod(given.page, 10)]
    code = [0] * len(pages.CODE)
    if given.code is not None:
        code = [1 + pages.CHARACTERS.index(character) for character in given.code]
    return [name, *page, *code]
