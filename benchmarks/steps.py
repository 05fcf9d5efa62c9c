"""The steps of an engine: how fast it reads in the middle of its work, its beginning and end apart."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_FULL_STEP = 1024
"""Tokens from which a step counts as reading: smaller ones write."""
_STOPPED = 1.6
"""Times the usual distance of full steps from which reading had stopped between two."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the engine, when it had ended."""

    ended: float
    tokens: int
    images: int


def note(file: Path, step: Step) -> None:
    """Add a step to a file, from the process that makes it."""
    with file.open("a") as lines:
        print(step.ended, step.tokens, step.images, file=lines)


def noted(file: Path) -> list[Step]:
    """Take the steps out of a file."""
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return [Step(float(ended), int(tokens), int(images)) for ended, tokens, images in map(str.split, lines)]


def steady(steps: Sequence[Step], tokens_per_page: float) -> dict[str, float]:
    """Return rates in the middle of a read: from the second full step on, while one follows another.

    Where the KV cache holds fewer requests than there are, reading stops while the last replies of a batch
    are written. Such times, longer than most steps, are left out: these are the rates of an endless read.
    """
    full = [step for step in steps if step.tokens >= _FULL_STEP]
    pairs = list(itertools.pairwise(full[1:-1]))
    if len(pairs) < 2:
        return {}
    usual = statistics.median(after.ended - before.ended for before, after in pairs)
    pairs = [pair for pair in pairs if pair[1].ended - pair[0].ended <= _STOPPED * usual]
    seconds = sum(after.ended - before.ended for before, after in pairs)
    read = sum(after.tokens for _, after in pairs)
    return {
        "steady_tokens_per_second": read / seconds,
        "steady_pages_per_second": read / tokens_per_page / seconds,
        "steady_step_ms": 1000 * seconds / len(pairs),
        "steady_tokens_per_step": read / len(pairs),
        "steady_images_per_step": sum(after.images for _, after in pairs) / len(pairs),
    }
