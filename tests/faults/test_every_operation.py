"""A run survives whatever happens at any of its file operations."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
STRIDE = 47
"""Every how many-th fault is tried here: `python benchmarks/faults.py` tries them all, in minutes."""


def commits() -> int:
    """Return how many commits there are: each tries other faults, and always the same ones."""
    command = ["git", "-C", str(ROOT), "rev-list", "--count", "HEAD"]
    counted = subprocess.run(command, capture_output=True, text=True, check=False)
    return int(counted.stdout or 0)


def test_nothing_is_lost_doubled_or_half_written_whichever_operation_fails(tmp_path: Path) -> None:
    # In a process of its own: it forks, and a process that does so must have one thread.
    given = [str(tmp_path), f"--stride={STRIDE}", f"--offset={commits()}"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "faults" / "explore.py"), *given],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    tried = int(done.stdout.splitlines()[-1].split()[0])
    assert tried >= 20
