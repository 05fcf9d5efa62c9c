"""Documents that order what happens to the worker that reads them: the kind `fault`, in tests alone.

A file holds one order a line: `pages 3`, then any of `hang`, `memory`, `exit`, `signal`, `raise`, `rubbish`,
`junk` or `print`, with `open` or the number of the page at which it is to happen: `hang 2`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from pipeline.errors import DocumentError
from pipeline.reading import draw, kinds, raster, scratch, source
from pipeline.reading.job import Geometry, Job, Measured, Rendered, Sheet
from pipeline.records import Words

HEAD = b"pages "


class Rubbish:
    """What can be sent, and not be received."""

    def __reduce__(self) -> tuple[object, ...]:
        return _cannot_be_made, ("rubbish",)


def _cannot_be_made(what: str) -> object:
    raise RuntimeError(f"{what} came out of a worker")


class OwnError(Exception):
    """An error that cannot be made again of its arguments, like many of libraries."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} at {where}")


def obey(order: str) -> object:
    if order == "hang":
        # As native code does that is stuck in a loop: no signal but SIGKILL ends it.
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
        while True:
            time.sleep(1)
    if order == "memory":
        held = []
        while True:
            held.append(bytearray(64 << 20))
    if order == "exit":
        os._exit(7)
    if order == "signal":
        os.kill(os.getpid(), signal.SIGSEGV)
    if order == "raise":
        raise OwnError("something", "somewhere")
    if order == "junk":  # as memory that is overwritten may lead to: into whatever is open
        for handle in range(3, 32):
            with contextlib.suppress(OSError):
                os.write(handle, b"\0\0\0\x09 no pickle")
    if order == "print":
        os.write(1, b"\0\xff rubbish \x1b[2J" * 1000)
    return Rubbish() if order == "rubbish" else None


def _orders(job: Job) -> dict[str, str]:
    """Return what is to happen, by page or `open`, and how many `pages` there are."""
    lines = [line.split() for line in Path(job.path).read_text().splitlines()]
    return {"pages": lines[0][1], **{where: order for order, where in lines[1:]}}


def inspect(job: Job, geometry: Geometry) -> object:
    if job.kind != "fault":
        return draw.inspect(job, geometry)
    orders = _orders(job)
    sheets = [Sheet(number, 64, 64) for number in range(1, int(orders["pages"]) + 1)]
    return obey(orders.get("open", "")) or Measured(sheets)


def render_run(job: Job, wanted: list[tuple[Sheet, str]]) -> object:
    if job.kind != "fault":
        return draw.render_run(job, wanted)
    orders, outcomes = _orders(job), list[Rendered | DocumentError]()
    for sheet, out in wanted:
        if made := obey(orders.get(str(sheet.number), "")):
            return made
        grey = b"\x80" * (3 * sheet.width_px * sheet.height_px)
        scratch.write_image(Path(out), sheet.width_px, sheet.height_px, grey)
        outcomes.append(Rendered("", Words(), False, False, False, False, (1.0, 1.0)))
    return outcomes


class _Draw:
    """The module `draw` with the functions that know the kind."""

    Geometry, Job, Rendered = draw.Geometry, draw.Job, draw.Rendered
    first_line, prepare_worker = staticmethod(draw.first_line), staticmethod(draw.prepare_worker)
    inspect, render_run = staticmethod(inspect), staticmethod(render_run)


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs of this process read `.fault` files, in its workers too."""
    by_ending, recognise = kinds.by_ending, kinds.recognise
    monkeypatch.setattr(source, "by_ending", lambda path: _kind(path) or by_ending(path))
    monkeypatch.setattr(source, "recognise", lambda path: _kind(path) or recognise(path))
    monkeypatch.setattr(raster, "draw", _Draw)


def _kind(path: Path) -> str | None:
    return "fault" if path.suffix == ".fault" else None
