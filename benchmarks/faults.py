"""Let each file operation of a run fail, in each way, and check after each what is left. Takes minutes.

python benchmarks/faults.py [--kinds full,error,kill,power] [--stride N]

Prints how many operations there are, how many faults were tried, and what was wrong after any of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    begin = time.monotonic()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        done = subprocess.run(
            [sys.executable, str(ROOT / "tests" / "faults" / "explore.py"), folder, *sys.argv[1:]],
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
            check=False,
        )
    print(f"{time.monotonic() - begin:.0f} s")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
