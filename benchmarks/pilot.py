"""Measure how often the truth lies in what a pilot says: `python -m benchmarks.pilot [--documents 200]`.

Answers generated documents (texts in three languages, and pages that need OCR, of one to a dozen pages) with
the embedded engine, all of them after a real pilot of 20. Then samples of 20 are drawn, 20 and 1,000 of them,
and what each says of time and money is compared with what all documents took. Last, how far budgets are
exceeded, by one run and by the shards of a plan.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pymupdf

from pipeline.compose import compose_settings
from pipeline.config import RunSettings
from pipeline.errors import OverBudget
from pipeline.run import execute, pilot, plan
from pipeline.sharding import sample, shards

_TEXTS = (
    "The annual report of the harbour office. Its author is Ada Lovelace, who wrote it in the spring. ",
    "Der Jahresbericht des Hafenamts. Seine Verfasserin ist Ada Lovelace, die ihn im Frühjahr schrieb. ",
    "Le rapport annuel du bureau du port. Son autrice est Ada Lovelace, qui l'a écrit au printemps. ",
)


def main() -> None:
    """Print how many samples held the truth, and the largest overshoot of a budget."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--budgets", type=int, default=20)
    parser.add_argument("--scans", type=float, default=0.06, help="share of the documents that need OCR")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number in range(given.documents):
            _write(root / "in" / f"{number % 7}" / f"{number:03}.pdf", random.Random(number), given.scans)
        print(pilot(_settings(root, "pilot=20")))
        asked = len(pd.read_parquet(root / "out" / "requests"))
        execute(_settings(root))
        requests = pd.read_parquet(root / "out" / "requests")
        execute(_settings(root, output="whole"))
        whole = pd.read_parquet(root / "whole" / "requests")
        print(f"requests: {asked} by the pilot, {len(requests)} with the rest, "
              f"{len(whole)} without a pilot")  # fmt: skip
        _coverage(root, whole)
        for count in (1, 3) if given.budgets else ():
            _budgets(root, requests, given.budgets, count)


def _settings(root: Path, *more: str, output: str = "out") -> RunSettings:
    task = ["task=qa", "task.question='Who is the author?'", "engine=embedded", "cost.core_hour_price=100"]
    return compose_settings(
        [f"input={root}/in", f"output={root}/{output}", *task, "pack.window_tokens=60000", *more]
    )


def _write(path: Path, rng: random.Random, scans: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    is_scan, text = rng.random() < scans, rng.choice(_TEXTS)
    with pymupdf.open() as document:
        for _ in range(1 if is_scan else min(12, 1 + int(rng.lognormvariate(0.8, 0.8)))):
            page = document.new_page()
            page.insert_textbox(pymupdf.Rect(50, 50, 545, 792), text * rng.randint(3, 12))
            if is_scan:  # the same page as a picture
                picture, area = page.get_pixmap(dpi=100), page.rect
                document.delete_page(-1)
                document.new_page().insert_image(area, pixmap=picture)
        document.save(path)


def _coverage(root: Path, requests: pd.DataFrame) -> None:
    """Draw samples of the run without a pilot: of the other, 20 documents had a start of their own."""
    settings = _settings(root)
    about = json.loads((root / "out" / "run.json").read_text())
    units = shards.read_units(Path(settings.output), about["settings_hash"])
    predicted = sum(unit.predicted for unit in units)
    for name in ("engine_seconds", "cost"):
        real = requests.groupby("source")[name].sum().to_dict()
        true, largest = sum(real.values()), max(real.values())
        intervals = [sample.total(sample.choose(units, 20, seed), real, predicted) for seed in range(1000)]
        held = [interval.holds(true) for interval in intervals]
        width = sum(each.high - each.low for each in intervals) / len(intervals) / true
        print(
            f"{name}: the truth, {true:.4g}, is in {sum(held[:20])} of 20 intervals, in {sum(held)} of 1,000,"
        )
        print(f"  on average {width:.0%} of it wide; one document is {largest / true:.0%} of it")


def _budgets(root: Path, requests: pd.DataFrame, budgets: int, count: int) -> None:
    """Raise budgets on the same output, over shards where there are several."""
    whole, output = float(requests["cost"].sum()), f"budget-{count}"
    if count > 1:
        plan(_settings(root, f"shard.count={count}", output=output))
    limits = sorted(random.Random(count).uniform(0, whole) for _ in range(budgets))
    over = [_overshoot(root, output, limit, count) for limit in limits]
    window = whole * 60000 / requests["prompt_tokens"].sum()
    print(f"{budgets} budgets, {count} shards: over by at most {max(over):.4g}, under by {-min(over):.4g}")
    print(f"  all costs {whole:.4g}, a full window about {window:.4g}")


def _overshoot(root: Path, output: str, limit: float, count: int) -> float:
    for shard in range(count):
        more = [f"shard.index={shard}", f"shard.count={count}", "shard.planned=true"] if count > 1 else []
        with contextlib.suppress(OverBudget):
            execute(_settings(root, f"budget.money={limit}", *more, output=output))
    return _spent(sorted((root / output / "_journal").glob("*/run.json"))) - limit


def _spent(records: Sequence[Path]) -> float:
    read = [json.loads(file.read_text()) for file in records]
    return float(sum(each["spent_before"].get("cost", 0) + each["summary"]["cost"] for each in read))


if __name__ == "__main__":
    main()
