"""Measure what the limits on documents cost: the same pages with all of them and with none, in turns.

PYTHONPATH=.:benchmarks python benchmarks/limits.py FOLDER [ROUNDS]

Every document below FOLDER that the limits let pass is measured and its pages (at most 60 of each) are drawn
by two pools of one worker: the product's, with its limits on memory, processor time, file size, pixels and
time per page, and one without them. Prints both times per round, by the clock and of the processor, that of
workers which have been replaced too, and the medians of their ratios: what else the machine does meets both
alike, and the processor's time hardly notices it.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import psutil
import rasterize
import unlimited
from pebble import ProcessFuture, ProcessPool

from pipeline import workers
from pipeline.config import ShardSettings, SourceSettings
from pipeline.reading import raster, scratch, source
from pipeline.records import Document, Outline
from pipeline.sharding.balance import balance


class Unlimited(workers.Pool):
    """A pool whose calls have no deadline, and whose processes no limits."""

    def _begin(self, function, args, timeout) -> tuple[ProcessPool, ProcessFuture[bytes]]:  # type: ignore[no-untyped-def]
        return self._pool, self._pool.schedule(unlimited.call, args=[timeout, function, *args])


@contextlib.contextmanager
def opened(limits: bool) -> Iterator[raster.Rasterizer]:
    """Open a rasterizer of one worker, with or without limits."""
    settings = rasterize.settings(workers=1)
    held = workers.Pool, workers._prepare
    if not limits:
        settings = replace(settings, max_megapixels=10**6)
        workers.Pool, workers._prepare = Unlimited, unlimited.prepare  # type: ignore[misc]
    try:
        folder = scratch.choose(None, f"docbatch-{'with' if limits else 'without'}limits-{os.getpid()}")
        rasterizer = raster.Rasterizer(settings, rasterize.GEOMETRY, folder)
        with rasterizer:
            list(rasterizer.outlines([], lambda document: None))
            yield rasterizer
    finally:
        workers.Pool, workers._prepare = held  # type: ignore[misc]


def documents(folder: str) -> list[Document]:
    found = source.find(
        folder,
        SourceSettings(include=[], exclude=[], follow_links=False),
        ShardSettings(index=0, count=1, planned=False),
        balance,
    )
    return list(found.documents)


def work(rasterizer: raster.Rasterizer, inputs: list[Document]) -> int:
    """Measure and draw everything that can be drawn; return the number of pages."""
    outlines = [
        Outline(each.document, each.pages[: rasterize.MOST_PAGES])
        for each in rasterizer.outlines(inputs, lambda document: None)
        if not each.failure
    ]
    for window in rasterizer.render(rasterize.windows(outlines)):
        rasterizer.release(window)
    return sum(len(each.pages) for each in outlines)


def readable(rasterizer: raster.Rasterizer, inputs: list[Document]) -> list[Document]:
    """Return the documents that can be drawn with limits: both pools must do the same."""
    outlines = rasterizer.outlines(inputs, lambda document: None)
    return [outline.document for outline in outlines if not outline.failure]


def processor_s() -> float:
    """Return the processor time of the worker processes, those that have ended among them."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            # Of the server of processes the last two are those of the workers that it has buried.
            total += times.user + times.system + times.children_user + times.children_system
    return total


def timed(rasterizer: raster.Rasterizer, inputs: list[Document]) -> tuple[float, float]:
    begin, used = time.perf_counter(), processor_s()
    work(rasterizer, inputs)
    return time.perf_counter() - begin, processor_s() - used


def main() -> None:
    folder, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 6
    inputs = documents(folder)
    with opened(limits=False) as without, opened(limits=True) as limited:
        inputs = readable(limited, inputs)
        pages = [work(limited, inputs), work(without, inputs)]
        assert pages[0] == pages[1], pages
        print(f"{len(inputs)} documents, {pages[0]} pages", flush=True)
        ratios = []
        for number in range(rounds):
            # By turns, so that neither always comes first.
            pools = (limited, without) if number % 2 == 0 else (without, limited)
            first, second = (timed(pool, inputs) for pool in pools)
            on, off = (first, second) if number % 2 == 0 else (second, first)
            ratios.append((on[0] / off[0], on[1] / off[1]))
            print(
                f"with limits {on[0]:.1f} s, {on[1]:.1f} s of the processor;"
                f" without {off[0]:.1f} s, {off[1]:.1f} s", flush=True,
            )  # fmt: skip
    clock, processor = (statistics.median(each) for each in zip(*ratios, strict=True))
    print(f"with limits it takes {clock:.3f} x as long, and {processor:.3f} x the processor time")


if __name__ == "__main__":
    main()
