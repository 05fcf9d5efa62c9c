"""Kill a run again and again, finish it, and compare its tables with those of an undisturbed run.

python benchmarks/crashes.py INPUT QUESTIONS.csv [KILLS] [s3://BUCKET/PREFIX]

With a URL the outputs lie in object storage, and INPUT may too. Each kill is SIGKILL to the whole process
group at a random moment of a run. Once a run comes to its end, its tables are compared and the next one
begins with an empty output, until there were so many kills. Prints how far the killed runs were, and what was
compared.
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

import pipeline
from pipeline import objects

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


def start(source: str, questions: str, output: str, said: Path) -> subprocess.Popen[bytes]:
    """Start a run in a process group of its own; what it says on stderr goes to a file."""
    command = [sys.executable, "-m", "pipeline.run", f"input={source}", "task=qa", f"output={output}"]
    with said.open("wb") as stderr:
        return subprocess.Popen(
            [*command, f"task.questions={questions}", "sink.journal_seconds=0"],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )


def rows(output: str) -> pd.DataFrame:
    """Return the answers of a finished run."""
    table = pipeline.load(output).answers
    table["evidence_pages"] = table["evidence_pages"].map(tuple)
    return table[COLUMNS]


def names(output: str) -> list[str]:
    """List what lies in an output."""
    if objects.is_url(output):
        return [found.key for found in objects.listed(objects.parse(output).below(""))]
    return [str(path) for path in Path(output).rglob("*")]


def remove(output: str) -> None:
    """Delete an output."""
    if objects.is_url(output):
        objects.delete_below(objects.parse(output))
    else:
        shutil.rmtree(output, ignore_errors=True)


def differences(calm: str, rough: str) -> str:
    """Say what differs between two finished runs; empty when nothing does."""
    expected, got = rows(calm), rows(rough)
    merged = expected.merge(got, how="outer", on=COLUMNS, indicator=True)
    if len(expected) == len(got) and (merged["_merge"] == "both").all():
        return ""
    return str(merged[merged["_merge"] != "both"].to_string())


def stage(output: str) -> str:
    """Say how far a killed run was."""
    there = names(output)
    if any("/answers/" in name and name.endswith(".parquet") for name in there):
        return "published"
    if any("/part-" in name for name in there):
        return "journaled"
    return "begun" if any(name.endswith("run.json") for name in there) else "starting"


def main() -> None:
    source, questions = sys.argv[1:3]
    kills = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    to = sys.argv[4] if len(sys.argv) > 4 else None
    chance = random.Random(int(os.environ.get("SEED", "1")))
    stages, finished, wrong = Counter[str](), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        calm, rough = f"{to or folder}/calm", f"{to or folder}/rough"
        remove(calm), remove(rough)
        said = Path(folder, "stderr")
        begin = time.monotonic()
        assert start(source, questions, calm, said).wait() == 0
        whole = time.monotonic() - begin
        while stages.total() < kills:
            run = start(source, questions, rough, said)
            time.sleep(chance.uniform(0.2, 1.0) * whole)
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                stages[stage(rough)] += 1
                run.wait()
                continue
            finished += 1
            told = differences(calm, rough) if run.returncode == 0 else said.read_text()
            wrong += bool(told)
            print(f"{stages.total()} kills: {told or 'the tables are the same'}", flush=True)
            remove(rough)
        if names(rough):
            assert start(source, questions, rough, said).wait() == 0
            wrong += bool(differences(calm, rough))
    print(f"killed {dict(stages)}; {finished} runs came to their end between; {wrong} with other tables")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
