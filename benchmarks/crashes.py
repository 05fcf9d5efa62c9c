"""Kill a run again and again, finish it, and compare its tables with those of an undisturbed run.

python benchmarks/crashes.py INPUT QUESTIONS.csv [KILLS]

Each kill is SIGKILL to the whole process group at a random moment of a run. Once a run comes to its end, its
tables are compared and the next one begins with an empty output, until there were so many kills. Prints how
far the killed runs were, and what was compared.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pandas as pd

COLUMNS = [
    "source",
    "question_id",
    "answer_id",
    "status",
    "error_code",
    "answer",
    "evidence_pages",
    "pages_read",
]
"""What must not depend on when a run was killed."""


def start(source: str, questions: str, output: Path) -> subprocess.Popen[bytes]:
    """Start a run in a process group of its own."""
    command = [sys.executable, "-m", "pipeline.run", f"input={source}", "task=qa", f"output={output}"]
    return subprocess.Popen(
        [*command, f"task.questions={questions}", "sink.journal_seconds=0"],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def rows(output: Path) -> pd.DataFrame:
    """Return the answers of a finished run."""
    table = pd.read_parquet(output / "answers")
    table["evidence_pages"] = table["evidence_pages"].map(tuple)
    return table[COLUMNS]


def differences(calm: Path, rough: Path) -> str:
    """Say what differs between two finished runs; empty when nothing does."""
    expected, got = rows(calm), rows(rough)
    merged = expected.merge(got, how="outer", on=COLUMNS, indicator=True)
    if len(expected) == len(got) and (merged["_merge"] == "both").all():
        return ""
    return str(merged[merged["_merge"] != "both"].to_string())


def stage(output: Path) -> str:
    """Say how far a killed run was."""
    if list(output.glob("answers/*.parquet")):
        return "published"
    if list(output.glob("_journal/*/part-*")):
        return "journaled"
    return "begun" if (output / "run.json").exists() else "starting"


def main() -> None:
    source, questions = sys.argv[1:3]
    kills = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    chance = random.Random(int(os.environ.get("SEED", "1")))
    stages, finished, wrong = Counter[str](), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        calm, rough = Path(folder, "calm"), Path(folder, "rough")
        begin = time.monotonic()
        assert start(source, questions, calm).wait() == 0
        whole = time.monotonic() - begin
        while stages.total() < kills:
            run = start(source, questions, rough)
            time.sleep(chance.uniform(0.2, 1.0) * whole)
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                stages[stage(rough)] += 1
                run.wait()
                continue
            finished += 1
            told = differences(calm, rough) if run.returncode == 0 else f"ended with {run.returncode}"
            wrong += bool(told)
            print(f"{stages.total()} kills: {told or 'the tables are the same'}", flush=True)
            shutil.rmtree(rough)
        if rough.exists():
            assert start(source, questions, rough).wait() == 0
            wrong += bool(differences(calm, rough))
    print(f"killed {dict(stages)}; {finished} runs came to their end between; {wrong} with other tables")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
