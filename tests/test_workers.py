"""Worker processes that die: what they were to do is done by others."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline import workers
from pipeline.errors import WorkersLost


@pytest.fixture
def pool() -> Iterator[workers.Pool]:
    opened = workers.Pool(2, 100)
    yield opened
    opened.close()


def children() -> list[psutil.Process]:
    own = psutil.Process().pid
    return [process for process in psutil.Process().children(recursive=True) if process.ppid() != own]


def kill_all() -> None:
    found = children()
    assert found
    for process in found:
        process.kill()


def die() -> None:
    os._exit(1)


def test_workers_killed_while_they_have_nothing_to_do_are_replaced(pool: workers.Pool) -> None:
    assert pool.schedule(int, ["1"], timeout=60).result() == 1
    for turn in range(8):  # more often than a pool may break without doing anything
        kill_all()
        time.sleep(0.5)
        assert pool.schedule(int, [str(turn)], timeout=60).result() == turn


def test_tasks_that_wait_when_all_workers_are_killed_are_done_once_asked_for(pool: workers.Pool) -> None:
    pool.schedule(int, ["1"], timeout=60).result()
    kill_all()
    tasks = [pool.schedule(int, [str(number)], timeout=60) for number in range(50)]
    assert [task.result() for task in tasks] == list(range(50))


def test_workers_that_die_as_soon_as_they_start_end_with_an_error() -> None:
    opened = workers.Pool(1, 100, die)
    try:
        with pytest.raises(WorkersLost, match="several times in a row"):
            opened.schedule(int, ["1"], timeout=60).result()
    finally:
        opened.close()


def test_a_task_too_long_and_one_that_fails_are_told_apart(pool: workers.Pool) -> None:
    slow = pool.schedule(time.sleep, [60], timeout=0.5)
    bad = pool.schedule(int, ["x"], timeout=60)
    with pytest.raises(TimeoutError):
        slow.result()
    with pytest.raises(ValueError, match="invalid literal"):
        bad.result()


def test_a_pool_closed_while_its_workers_start_prints_nothing(tmp_path: Path) -> None:
    # In a process of its own: workers print to where the one printed that first opened a pool.
    script = tmp_path / "script.py"
    script.write_text(
        "import functools, itertools, time\n"
        "from pipeline import workers\n"
        "late = itertools.count()\n"
        "class OneAfterTheOther:\n"
        "    def __reduce__(self): return time.sleep, (0.01 * next(late),)\n"
        "if __name__ == '__main__':\n"
        "    pool = workers.Pool(24, 100, functools.partial(repr, OneAfterTheOther()))\n"
        "    pool.schedule(int, ['1'], timeout=60)\n"
        "    pool.close()\n"
        "    time.sleep(0.5)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
