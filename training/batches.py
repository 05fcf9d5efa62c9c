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
from lessons import Lesson, Teacher
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

IGNORED = -100
_MERGES = 0.08
"""Of all batches, those of merges, which have no pages."""
_POOL = 2000
"""Pages of a size that a worker keeps: each request has new ones and some that were shown before."""
_NEW = 1.5
"""Pages drawn for each request, on average."""


class Batch(NamedTuple):
    """Requests of as many pages of one size each."""

    tokens: NDArray[np.int64]
    """(requests, tokens), padded with 0 at the end."""
    targets: NDArray[np.int64]
    """(requests, tokens): the token that comes next, or IGNORED where no reply is."""
    images: NDArray[np.uint8]
    """(images, height, width); none for merges."""
    characters: NDArray[np.int64]
    """(images, patches, place in the code), as pages.characters."""
    names: NDArray[np.int64]
    """(images, patches), as pages.names."""


@dataclass
class Drawn:
    """A page with its image and what is where on it."""

    page: pages.Page
    image: NDArray[np.uint8]
    characters: NDArray[np.int64]
    names: NDArray[np.int64]


class Lessons(IterableDataset[Batch]):
    """Batches without end, made in worker processes. `most` pages a request is shared with them."""

    def __init__(self, fonts: Sequence[str], tokens_per_step: int, seed: int, most: Tensor) -> None:
        self._fonts, self._tokens, self._seed, self._most = fonts, tokens_per_step, seed, most
        self._pools: dict[tuple[int, int], deque[Drawn]] = {}

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
        length = len(teacher.encode(self._lesson(rng, teacher, first[:count]))[0]) + 20
        requests = requests or max(1, self._tokens // length)
        shown = [self._choose(rng, size, count) for _ in range(requests)]
        lessons = [self._lesson(rng, teacher, each) for each in shown]
        drawn = [each for some in shown for each in some]
        tokens, targets = _padded(teacher, lessons)
        return Batch(
            tokens, targets, np.stack([each.image for each in drawn]),
            np.stack([each.characters for each in drawn]), np.stack([each.names for each in drawn]),
        )  # fmt: skip

    def _lesson(self, rng: random.Random, teacher: Teacher, shown: Sequence[Drawn]) -> Lesson:
        start = rng.choice((1, rng.randint(1, 120)))
        numbered = [(start + place, each.page) for place, each in enumerate(shown)]
        return teacher.lesson(rng, numbered, start + len(shown) - 1 + rng.choice((0, rng.randint(0, 60))))

    def _choose(self, rng: random.Random, size: tuple[int, int], count: int) -> list[Drawn]:
        pool = self._pools.setdefault(size, deque(maxlen=_POOL))
        drawn = int(_NEW + rng.random())
        pool.extend(self._draw(rng, size) for _ in range(max(drawn, count - len(pool))))
        return rng.sample(pool, count)

    def _draw(self, rng: random.Random, size: tuple[int, int]) -> Drawn:
        page = pages.page(rng, size, self._fonts)
        characters = pages.characters(page).reshape(-1, len(pages.CODE))
        return Drawn(page, pages.draw(page), characters, pages.names(page).reshape(-1))

    def merges(self, rng: random.Random, teacher: Teacher) -> Batch:
        """Make a batch of merges."""
        made = [pages.page(rng, (256, 160), self._fonts) for _ in range(200)]
        lines = [line for page in made for line in page.lines]
        tokens, targets = _padded(teacher, [teacher.merge(rng, lines) for _ in range(self._tokens // 500)])
        nothing = np.zeros((0, 1), np.int64)
        return Batch(tokens, targets, np.zeros((0, 16, 16), np.uint8), nothing[..., None], nothing)


def _padded(teacher: Teacher, lessons: Sequence[Lesson]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    encoded = [teacher.encode(lesson) for lesson in lessons]
    # A whole number of 32s: few lengths in all.
    length = math.ceil(max(len(tokens) for tokens, _ in encoded) / 32) * 32
    tokens, targets = np.zeros((len(encoded), length), np.int64), np.full((len(encoded), length), IGNORED)
    for row, (each, begin) in enumerate(encoded):
        tokens[row, : len(each)] = each
        targets[row, begin - 1 : len(each) - 1] = each[begin:]
    return tokens, targets
