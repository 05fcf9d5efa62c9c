"""Time and memory of scoring a million answers on one core.

python benchmarks/scores.py FOLDER [ANSWERS]

Writes answers with gold answers of their own into FOLDER, each with its own question and words, half of
which hold their gold answer. Scores them as `docbatch evaluate run=` does, and prints the time and the peak
memory of that process.
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

_BEGINNINGS = "ka ri mon te lu vár san do pré sel ini tor ba che um net gra vi os ley stra fen ju".split()
_ENDINGS = "ka ri mon te lu san ini tor che umnet gra vi os ley strafen".split()
_WORDS = [f"{one}{two}{three}" for one in _BEGINNINGS for two in _ENDINGS for three in ("", *_ENDINGS[::3])]
_WORDS += [word.title() for word in _WORDS] + [f"{word}," for word in _WORDS]


def write(output: Path, answers: int) -> None:
    """Write tables of answers, four to a document."""
    chance = random.Random(0)
    schema = columns.ANSWERS
    (output / "answers").mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(output / "answers" / "shard-0000-of-0001.parquet", schema) as writer:
        for start in range(0, answers, 50_000):
            rows = [_row(number, chance) for number in range(start, min(start + 50_000, answers))]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    documents = range((answers + 3) // 4)
    sources = [
        {"source": f"{number // 50}/{number}.pdf", "kind": "pdf", "status": "ok"} for number in documents
    ]
    (output / "documents").mkdir(exist_ok=True)
    table = pa.Table.from_pylist(sources, schema=columns.DOCUMENTS)
    pq.write_table(table, output / "documents" / "shard-0000-of-0001.parquet")


def _row(number: int, chance: random.Random) -> columns.Row:
    """Return an answer to a question about its own document, which half of the time holds the gold answer."""
    gold = _gold(chance)
    said = " ".join(chance.choices(_WORDS, k=chance.randint(1, 20)))
    source, place = f"{number // 4 // 50}/{number // 4}.pdf", chance.randint(0, len(said))
    failed = chance.random() < 0.02
    return {
        "answer_id": f"{number:032x}", "source": source, "question_id": f"q{number}", "task": "qa",
        "question": f"What is the {chance.choice(_WORDS)} of {chance.choice(_WORDS)} in part {number % 4}?",
        "status": "error" if failed else "ok", "error_code": "truncated" if failed else None,
        "answer": None if failed else f"{said[:place]} {gold} {said[place:]}" if number % 2 else said,
        "finish_reason": "length" if failed else "stop", "evidence_pages": [1 + number % 3],
        "confidence": chance.random(), "page_quality": chance.choice(("text", "clean scan", "poor scan")),
        "created_at": dt.datetime(2026, 11, 27, tzinfo=dt.UTC), "gold_answer": gold, "gold_page": "1",
    }  # fmt: skip


def _gold(chance: random.Random) -> str:
    """Return an amount, a share, a date, yes or no, or some words."""
    kind, amount = chance.randrange(10), chance.random() * 10 ** chance.randint(1, 6)
    if kind < 3:
        return chance.choice((f"{amount:,.2f}", f"{amount:.0f}", f"${amount:,.0f}"))
    if kind < 4:
        return f"{amount % 100:.1f} %"
    if kind < 5:
        return f"{chance.randint(1, 28)} March {chance.randint(1900, 2030)}"
    if kind < 6:
        return chance.choice(("yes", "no"))
    return " ".join(chance.choices(_WORDS, k=chance.randint(1, 4)))


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
