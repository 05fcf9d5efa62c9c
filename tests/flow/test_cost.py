"""What rows say that they cost, and what run.json says of all of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import scripted

from pipeline.config import RunSettings
from pipeline.run import execute, plan

REPLY = scripted.says('{"answer": "4711 euros", "pages": [1], "quote": "The profit was 4711 euros."}')
SPENT = ["prompt_tokens", "cached_tokens", "output_tokens", "gpu_seconds", "cost"]
PRICES = ["cost.gpu_hour_price=3.1", "cost.core_hour_price=0.07"]


@pytest.fixture
def folder(make_pdf: Callable[..., Path]) -> Path:
    """A report twice, and one that is read in parts."""
    report = make_pdf("in/report.pdf", "The profit was 4711 euros.", "Page two.")
    shutil.copy(report, report.with_name("copy.pdf"))
    return make_pdf("in/sub/long.pdf", *(f"Page {n}." for n in range(5))).parent.parent


def tables(output: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    return pd.read_parquet(Path(output) / "answers"), pd.read_parquet(Path(output) / "requests")


@pytest.mark.parametrize("engine", ["vllm", "embedded"])
def test_rows_sum_to_the_totals_of_the_run_exactly(
    compose: Callable[..., RunSettings], folder: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    if engine == "vllm":
        scripted.install(monkeypatch, lambda request: REPLY)
    settings = compose(
        f"input={folder}",
        f"engine={engine}",
        "task=qa",
        "task.question=Profit?",
        "pack.max_images=2",
        *PRICES,
    )
    summary = execute(settings)
    answers, requests = tables(settings.output)
    assert len(answers) == 3
    for table in (answers, requests):
        for name in SPENT:
            assert table[name].sum() == getattr(summary, name), name
    assert summary.cost > 0
    assert (summary.gpu_seconds > 0) == (engine == "vllm")
    # The same bytes under another name took nothing, whichever file is written again.
    assert sorted(answers.loc[answers["source"] != "sub/long.pdf", "cost"])[0] == 0
    (folder / "report.pdf").unlink()
    again = execute(settings)
    assert (again.requests, again.cost) == (0, 0)
    left, _ = tables(settings.output)
    assert left[SPENT].sum().tolist() == answers[SPENT].sum().tolist()


def test_tables_without_the_columns_still_load_and_say_that_they_do_not_know(
    compose: Callable[..., RunSettings], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.install(monkeypatch, lambda request: REPLY)
    settings = compose(f"input={folder}", "engine=vllm", "task=qa", "task.question=Profit?", *PRICES)
    execute(settings)
    for file in Path(settings.output).glob("*/*.parquet"):
        table = pq.read_table(file)
        pq.write_table(
            table.drop_columns([n for n in ("gpu_seconds", "cost") if n in table.column_names]), file
        )
    again = compose(
        f"input={folder}", "engine=vllm", "task=qa", "task.question=Profit?", "engine.review_below=0.99"
    )
    assert execute(again).derived == 3 - 1
    answers, _ = tables(settings.output)
    assert answers["cost"].isna().tolist().count(True) >= 2
    assert (answers["prompt_tokens"] > 0).sum() == 2


def test_a_plan_for_the_embedded_engine_says_the_tokens_that_the_run_counts(
    compose: Callable[..., RunSettings], folder: Path, make_pdf: Callable[..., Path]
) -> None:
    make_pdf("in/blank.pdf", "", "")
    make_pdf("in/partly.pdf", "The profit was 5 euros.", "", "The loss was 6 euros.")
    (folder / "broken.pdf").write_bytes(bytes(range(256)))
    questions = folder.parent / "questions.csv"
    questions.write_text("question_id,document,question\na,,Profit?\nb,,Loss?\nc,sub/long.pdf,Which page?\n")
    settings = compose(
        f"input={folder}", "engine=embedded", "task=qa", f"task.questions={questions}", "pack.max_images=2"
    )
    text = plan(settings)
    planned = pd.read_parquet(Path(settings.output) / "plan.parquet").set_index("source").sort_index()
    summary = execute(settings)
    _, requests = tables(settings.output)
    requests["computed_tokens"] = requests["prompt_tokens"] - requests["cached_tokens"]
    asked, merges = requests.query("kind == 'ask'").groupby("source"), requests.query("kind == 'merge'")
    for name in ("prompt_tokens", "computed_tokens", "output_tokens"):
        counted = asked[name].sum().reindex(planned.index, fill_value=0)
        assert planned[name].tolist() == counted.tolist(), name
    assert planned["requests"].tolist() == asked.size().reindex(planned.index, fill_value=0).tolist()
    assert planned["merge_requests"].sum() == len(merges) == 3 + 2
    assert planned["prompt_tokens"].sum() + merges["prompt_tokens"].sum() == summary.prompt_tokens
    assert (planned["prompt_tokens"] > 0).sum() == 4  # neither the broken one, nor the copy
    assert "as a model would read them" in text
    assert "prefix cache" not in text
    assert "output tokens" not in text
