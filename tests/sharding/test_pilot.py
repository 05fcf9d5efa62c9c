"""A pilot: a sample that is like all, nothing paid twice, and what is said of all of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import scripted

from pipeline.config import RunSettings
from pipeline.records import Request
from pipeline.run import execute, pilot
from pipeline.sharding import sample
from pipeline.sharding.sample import Unit

REPLY = scripted.says('{"answer": "Ada", "pages": [1], "quote": "Its author is Ada."}')


def units(seed: int) -> tuple[list[Unit], dict[str, float]]:
    """Return 200 units of which few are most of the work, and what each really takes."""
    rng = random.Random(seed)
    found, real = [], {}
    for number in range(200):
        pages, scan = min(60, int(rng.lognormvariate(1, 0.8)) + 1), rng.random() < 0.2
        language = "" if scan else rng.choice(["en", "de"])
        predicted = pages * (2.0 if scan else 0.5)
        stratum = ("pdf", language, pages.bit_length(), f"folder{number % 5}")
        found.append(Unit(f"{number}.pdf", stratum, predicted))
        real[f"{number}.pdf"] = 1.7 * predicted * rng.lognormvariate(0, 0.3)
    return found, real


def test_the_true_total_is_in_the_interval_as_often_as_promised() -> None:
    hits = 0
    for seed in range(200):
        found, real = units(seed)
        chosen = sample.choose(found, 20, seed)
        interval = sample.total(chosen, real, sum(unit.predicted for unit in found))
        hits += interval.holds(sum(real.values()))
    assert hits >= 180


def test_the_number_of_affected_inputs_is_in_the_interval_as_often_as_promised() -> None:
    hits = 0
    for seed in range(100):
        found, _ = units(seed)
        rng = random.Random(seed)
        codes = {unit.name: {"truncated"} for unit in found if rng.random() < 0.1}
        met, others = sample.by_code(sample.choose(found, 20, seed), codes, len(found))
        hits += met["truncated"].holds(len(codes)) if met else len(codes) <= others
    assert hits >= 95


def test_a_sample_has_the_size_asked_for_and_each_kind_its_share() -> None:
    found = [Unit(f"{n}", (("pdf", "tiff")[n % 2], ("en", "de")[n % 4 // 2], 3, ""), 1.0) for n in range(200)]
    chosen = sample.choose(found, 20, seed=3)
    kinds = Counter(each.unit.stratum[:2] for each in chosen)
    assert len(chosen) == 20
    assert set(kinds.values()) == {5}
    assert len(sample.choose(found, 500)) == 200  # no more than there are


@pytest.fixture
def folder(make_pdf: Callable[..., Path]) -> Path:
    for number in range(12):
        make_pdf(
            f"in/{number % 3}/{number:02}.pdf",
            *(f"Page {n}. Its author is Ada." for n in range(1 + number % 4)),
        )
    return make_pdf("in/last.pdf", "The end. Its author is Ada.").parent


def test_a_pilot_and_then_the_rest_cost_what_all_costs(
    compose: Callable[..., RunSettings], folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = {"03.pdf"}

    def play(request: Request) -> scripted.Play:
        return scripted.fails() if Path(request.cell.subject.source).name in broken else REPLY

    def settings(*more: str) -> RunSettings:
        task = ["task=qa", "task.question=Author?", "cost.gpu_hour_price=2"]
        return compose(f"input={folder}", "engine=vllm", *task, *more)

    engine = scripted.install(monkeypatch, play)
    told = pilot(settings("pilot=4"))
    first = [request.request_id for request in engine.asked]
    assert 3 <= len(first) <= 5
    assert "of 13 that can be read are answered" in told and "GPU hours" in told
    answers = pd.read_parquet(tmp_path / "output" / "answers")
    assert len(answers) == len(first)
    left = pd.read_parquet(tmp_path / "output" / "plan.parquet")
    assert left["requests"].sum() == 13 - sum(answers["status"] == "ok")

    # The same sample again, of which only what failed is asked.
    pilot(settings("pilot=4"))
    failed = {name for name in answers.loc[answers["status"] != "ok", "answer_id"]}
    assert {request.cell.answer_id for request in engine.asked[len(first) :]} == failed
    monkeypatch.setattr(engine, "asked", [])
    broken.clear()
    execute(settings())
    rest = {request.request_id for request in engine.asked}
    whole = scripted.install(monkeypatch, play)
    execute(settings(f"output={tmp_path / 'whole'}"))
    assert rest | set(first) == {request.request_id for request in whole.asked}
    assert len(rest & set(first)) == sum(answers["status"] != "ok")
