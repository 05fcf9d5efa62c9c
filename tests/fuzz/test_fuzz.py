"""A hundred damaged files: each costs its own row."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_damaged_files_cost_their_own_rows_and_nothing_else(tmp_path: Path) -> None:
    # A process of its own: were it to crash, that is what is found out here.
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("batches.py")), "--files=100", f"--keep={tmp_path}"],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "nothing wrong with 100 of 100 files" in done.stdout
