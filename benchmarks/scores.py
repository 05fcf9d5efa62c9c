"""Time and memory of scoring a million answers on one core.

python benchmarks/scores.py FOLDER [ANSWERS]

Writes answers with gold answers of their own into FOLDER, scores them as `docbatch evaluate run=` does, and
prints the time and the peak memory of that process.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.tables import columns

_WORDS = "invoice total march report ship yard cellar Purdue 1994 14.5 % Debian roof pier anchor".split()


def write(output: Path, answers: int) -> None:
    """Write tables of answers, four to a document, half of which hold their gold answer."""
    chance = random.Random(0)
    schema = columns.ANSWERS
    (output / "answers").mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(output / "answers" / "shard-0000-of-0001.parquet", schema) as writer:
        for start in range(0, answers, 50_000):
            rows = [_row(number, chance) for number in range(start, min(start + 50_000, answers))]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    documents = range((answers + 3) // 4)
    sources = [{"source": f"{number}.pdf", "kind": "pdf", "status": "ok"} for number in documents]
    (output / "documents").mkdir(exist_ok=True)
    table = pa.Table.from_pylist(sources, schema=columns.DOCUMENTS)
    pq.write_table(table, output / "documents" / "shard-0000-of-0001.parquet")


def _row(number: int, chance: random.Random) -> columns.Row:
    gold = " ".join(chance.choices(_WORDS, k=chance.randint(1, 3)))
    answer = " ".join(chance.choices(_WORDS, k=chance.randint(1, 20)))
    return {
        "answer_id": f"{number:032x}", "source": f"{number // 4}.pdf", "question_id": f"q{number % 4}",
        "question": f"What is the value number {number % 4}?", "status": "ok", "task": "qa",
        "answer": f"{answer} {gold}" if number % 2 else answer, "finish_reason": "stop",
        "evidence_pages": [1 + number % 3], "confidence": chance.random(), "page_quality": "text",
        "created_at": dt.datetime(2026, 11, 27, tzinfo=dt.UTC), "gold_answer": gold, "gold_page": "1",
    }  # fmt: skip


def main() -> None:
    folder, answers = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    if not (folder / "answers").exists():
        write(folder, answers)
    (folder / "run.json").write_text(json.dumps(_RECORD), encoding="utf-8")
    begun = time.monotonic()
    command = [sys.executable, "-m", "pipeline.evaluate", f"run={folder}"]
    one_core = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": "."}
    subprocess.run(command, check=True, env=one_core, stdout=subprocess.DEVNULL)
    seconds, used = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{answers:,} answers: {used.ru_utime + used.ru_stime:.1f} s of processor, {seconds:.1f} s, ", end=""
    )
    print(f"{used.ru_maxrss / 1024:.0f} MB at most")


_RECORD = {
    **dict.fromkeys(("run_id", "begun", "ended", "prompt_date", "settings_hash", "model"), ""),
    **dict.fromkeys(("error", "job", "node", "plan_id", "model_license")),
    "state": "complete", "engine": "embedded", "summary": {}, "earlier_attempts": [], "missing": {},
    "settings": {}, "versions": {},
}  # fmt: skip


if __name__ == "__main__":
    main()
