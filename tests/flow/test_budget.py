"""A budget: nothing over it but what a window was misjudged by, and a run that says what is left."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import scripted

from pipeline.config import BudgetSettings, RunSettings
from pipeline.errors import OverBudget
from pipeline.flow import meter
from pipeline.flow.budget import Budget
from pipeline.records import FREE, Chunk, Document, Request, Subject
from pipeline.run import execute, plan
from pipeline.sharding.publish import publish

REPLY = scripted.says('{"answer": "Ada", "pages": [1], "quote": "Its author is Ada."}')
COUNT = 24


@pytest.fixture
def folder(make_pdf: Callable[..., Path]) -> Path:
    for number in range(COUNT):
        make_pdf(f"in/{number:02}.pdf", *("Its author is Ada." for _ in range(1 + number % 3)))
    return make_pdf("in/last.pdf", "The end.").parent


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that only the engine moves: ten seconds a page, a few more or less."""
    time = SimpleNamespace(now=0.0, rng=random.Random(1))

    def play(request: Request) -> scripted.Play:
        time.now += len(request.pages) * time.rng.uniform(7, 13)
        return REPLY

    monkeypatch.setattr(meter, "time", SimpleNamespace(monotonic=lambda: time.now))
    time.engine = scripted.install(monkeypatch, play)
    return time


def spent_s(output: Path) -> float:
    """Return the GPU seconds that all attempts at all shards have spent."""
    records = [json.loads(file.read_text()) for file in (output / "_journal").glob("*/run.json")]
    return float(sum(r["spent_before"].get("gpu_seconds", 0) + r["summary"]["gpu_seconds"] for r in records))


@pytest.mark.parametrize("shards", [1, 2])
def test_a_budget_is_exceeded_by_less_than_a_window(
    compose: Callable[..., RunSettings], folder: Path, clock: SimpleNamespace, tmp_path: Path, shards: int
) -> None:
    """Random budgets, one after the other, each higher than the one before."""
    rng = random.Random(shards)
    budgets = sorted(rng.uniform(0, 500 * 8) for _ in range(5 - shards))  # of 8 GPUs, as assumed for a plan

    def settings(*more: str) -> RunSettings:
        size = ["pack.window_tokens=20000", "engine=vllm", "task=qa", "task.question=Author?"]
        return compose(f"input={folder}", *size, f"shard.count={shards}", *more)

    if shards > 1:
        plan(settings())
    most_of_a_window = 8 * 13 * 7  # 20,000 tokens are six pages of the usual size
    stopped = 0
    for budget in budgets:
        for shard in range(shards):
            of_plan = ["shard.planned=true", f"shard.index={shard}"] if shards > 1 else []
            try:
                execute(settings(f"budget.gpu_hours={budget / 3600}", *of_plan))
            except OverBudget as error:
                stopped += 1
                assert "inputs are left" in str(error) and "budget.gpu_hours" in str(error)
        assert spent_s(tmp_path / "output") < budget + most_of_a_window
    assert stopped >= len(budgets)
    # Without a limit the rest is answered, and nothing twice.
    for shard in range(shards):
        execute(settings(*(["shard.planned=true", f"shard.index={shard}"] if shards > 1 else [])))
    asked = [request.request_id for request in clock.engine.asked]
    assert len(asked) == len(set(asked)) == COUNT + 1


def test_what_a_plan_has_spent_counts_for_the_plan_that_continues_it(
    compose: Callable[..., RunSettings], folder: Path, clock: SimpleNamespace, tmp_path: Path
) -> None:
    """As jobs/submit.sh does it: plan, answer, publish what is there, and all of it again."""

    def settings(*more: str) -> RunSettings:
        size = ["pack.window_tokens=20000", "engine=vllm", "task=qa", "task.question=Author?"]
        return compose(f"input={folder}", *size, "budget.gpu_hours=0.2", *more)

    for _ in range(3):
        plan(settings("shard.count=2"))
        for shard in range(2):
            with pytest.raises(OverBudget):
                execute(settings("shard.count=2", "shard.planned=true", f"shard.index={shard}"))
        for _ in range(2):  # publishing twice counts nothing twice
            publish(settings("shard.count=2"))
    spent = pd.read_parquet(tmp_path / "output" / "requests")["gpu_seconds"].sum()
    assert 0 < spent < 0.2 * 3600 + 8 * 13 * 7


def test_a_budget_of_money_stops_the_embedded_engine_too(
    compose: Callable[..., RunSettings], folder: Path
) -> None:
    settings = compose(f"input={folder}", "cost.core_hour_price=1", "budget.money=0", "engine=embedded")
    with pytest.raises(OverBudget, match=rf"budget.money=0: 0 are spent.*; {COUNT + 1} inputs are left"):
        execute(settings)
    record = json.loads((Path(settings.output) / "run.json").read_text())
    assert (record["state"], record["summary"]["requests"]) == ("interrupted", 0)
    assert "raise it and run again" in record["error"]
    execute(compose(f"input={folder}", "cost.core_hour_price=1", "budget.money=100", "engine=embedded"))
    assert len(pd.read_parquet(Path(settings.output) / "answers")) == COUNT + 1


def test_a_window_that_cost_nothing_does_not_make_all_others_free(tmp_path: Path) -> None:
    documents = [Document(f"{n}.pdf", Path(f"{n}.pdf"), "pdf", 1, str(n)) for n in range(3)]
    windows = [[Chunk(Subject("document", each.source, "", (), 1), (), (), 0)] for each in documents]
    holder: Any = SimpleNamespace(rate=meter.Rate(1, 1, 0.0), charged_s=0.0)
    account: Any = SimpleNamespace(spent=lambda rate: FREE, reserved=FREE)
    predictor: Any = SimpleNamespace(seconds=lambda chunk, is_scan: 6.0)
    budget = Budget(
        BudgetSettings(gpu_hours=10 / 3600, money=None), holder, account, predictor,
        is_stored=lambda request: False, is_scan=lambda source: False,
        spent_by_others=lambda: FREE, note=lambda: None,
    )  # fmt: skip
    passed = budget.within(windows)
    assert next(passed) == windows[0]
    assert next(passed) == []  # nothing is known of the first yet
    budget.answered(windows[0])  # all of it was blank
    assert next(passed) == windows[1]
    assert next(passed) == []  # both together may be more than is left
