"""Kill a run again and again, finish it, and compare its tables with those of an undisturbed run.

python benchmarks/crashes.py INPUT QUESTIONS.csv [KILLS]

Each kill is SIGKILL to the whole process group at a random moment. Prints the rows of both runs, how many of
them agree, and how many requests were made twice.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd


def start(source: str, questions: str, output: Path) -> subprocess.Popen[bytes]:
    """Start a run in a process group of its own."""
    command = [sys.executable, "-m", "pipeline.run", f"input={source}", "task=qa", f"output={output}"]
    return subprocess.Popen(
        [*command, f"task.questions={questions}"],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def rows(output: Path) -> pd.DataFrame:
    """Return what must not depend on when a run was killed."""
    table = pd.read_parquet(output / "answers")
    table["evidence_pages"] = table["evidence_pages"].map(tuple)
    return table[
        [
            "source",
            "question_id",
            "answer_id",
            "status",
            "error_code",
            "answer",
            "evidence_pages",
            "pages_read",
        ]
    ]


def main() -> None:
    source, questions = sys.argv[1:3]
    kills = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    chance = random.Random(int(os.environ.get("SEED", "1")))
    with tempfile.TemporaryDirectory() as folder:
        calm, rough = Path(folder, "calm"), Path(folder, "rough")
        begin = time.monotonic()
        assert start(source, questions, calm).wait() == 0
        whole = time.monotonic() - begin
        for number in range(kills):
            run = start(source, questions, rough)
            time.sleep(chance.uniform(1.0, max(3.0, whole * 0.25)))
            ended = run.poll()
            os.killpg(run.pid, signal.SIGKILL) if ended is None else None
            run.wait()
            parts = len(list(rough.glob("_journal/*/part-*")))
            print(
                f"kill {number + 1}: journal parts {parts}, {'had ended' if ended is not None else 'killed'}"
            )
        assert start(source, questions, rough).wait() == 0
        expected, got = rows(calm), rows(rough)
        key = ["source", "question_id"]
        merged = expected.merge(got, how="outer", on=list(expected.columns), indicator=True)
        requests = [pd.read_parquet(output / "requests") for output in (calm, rough)]
        print(f"rows {len(expected)} and {len(got)}; equal {(merged['_merge'] == 'both').sum()}")
        print(f"duplicates {got.duplicated(key).sum()}; requests {len(requests[0])} and {len(requests[1])}")
        if len(expected) != len(got) or not (merged["_merge"] == "both").all():
            print(merged[merged["_merge"] != "both"].to_string())
            sys.exit(1)


if __name__ == "__main__":
    main()
