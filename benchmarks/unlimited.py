"""What worker processes do without any limit, for benchmarks/limits.py: the product cannot do without."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable

from pipeline import workers


def prepare(initializer: Callable[[], None] | None, memory_mb: int | None) -> None:
    """Prepare a worker as the product does, but for the limits on memory, files and processor time."""
    workers._die_with_the_run()
    warnings.simplefilter("ignore")
    if initializer is not None:
        initializer()


def call(timeout: float, function: Callable[..., object], *args: object) -> bytes:
    """Make a call and hand back what it returns, with no limit on its processor time."""
    return pickle.dumps(function(*args))
