"""The whole run with the real vLLM: long documents, merges, cached prefixes, second attempts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pymupdf
import pytest

from pipeline.config import RunSettings
from pipeline.run import execute, plan


def strip_pdf(path: Path, pages: int) -> None:
    """Write a document of that many pages, each a strip of text that takes few tokens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pymupdf.open() as document:
        for number in range(pages):
            document.new_page(width=400, height=16).insert_text((4, 12), f"Strip {number}", fontsize=9)
        document.save(path)


def test_long_documents_are_read_whole_and_merged(
    settings_for: Callable[..., RunSettings], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lengths = {"one.pdf": 1, "thirty.pdf": 30, "long.pdf": 31, "longer.pdf": 60, "longest.pdf": 300}
    for name, pages in lengths.items():
        strip_pdf(tmp_path / "in" / name, pages)
    questions = tmp_path / "questions.csv"
    questions.write_text("question_id,question\nkind,Which label fits?\nother,Which other label fits?\n")
    given = settings_for(
        tmp_path / "output", f"input={tmp_path / 'in'}", "task=classify", f"task.questions={questions}"
    )
    plan(given)
    planned = pd.read_parquet(tmp_path / "output" / "plan.parquet").set_index("source")
    summary = execute(given)
    answers = pd.read_parquet(tmp_path / "output" / "answers").set_index(["source", "question_id"])
    assert len(answers) == 10
    assert (answers["status"] == "ok").all(), answers["error"].tolist()
    assert answers["answer"].isin([*given.task.labels, None]).all()
    for name, pages in lengths.items():
        chunks = -(-pages // 30)
        for question in ("kind", "other"):
            row = answers.loc[(name, question)]
            assert (row["pages_read"], row["pages_total"]) == (pages, pages)
            assert row["requests"] == chunks + (chunks > 1)
            assert 0 < row["confidence"] <= 1

    requests = pd.read_parquet(tmp_path / "output" / "requests")
    assert summary.requests == len(requests) == 2 * (1 + 1 + 3 + 3 + 11)
    assert (requests["counted_tokens"] == requests["prompt_tokens"]).all()
    assert not [r for r in caplog.records if "were counted" in r.message]
    merges = requests[requests["kind"] == "merge"]
    assert len(merges) == 6
    assert (merges["pages"].map(len) == 0).all()
    asked = requests[requests["kind"] == "ask"].copy()
    # The plan said so of each document, before any was drawn.
    assert asked.groupby("source")["prompt_tokens"].sum().to_dict() == planned["prompt_tokens"].to_dict()
    assert asked.groupby("source").size().to_dict() == planned["requests"].to_dict()
    assert merges.groupby("source").size().reindex(planned.index, fill_value=0).to_dict() == (
        planned["merge_requests"].to_dict()
    )
    # Of the questions about the same pages, the first reads them and the second finds them.
    asked["first_page"] = asked["pages"].map(lambda pages: pages[0])
    for (source, _), pair in asked.groupby(["source", "first_page"]):
        cached = sorted(pair["cached_tokens"] / pair["prompt_tokens"])
        if source != "one.pdf":
            assert cached[0] < 0.2
            assert cached[1] > 0.8

    run = json.loads((tmp_path / "output" / "run.json").read_text())
    assert "Mistral AI Research License" in run["model_license"]["notice"]
    again = execute(given)
    assert (again.pages, again.requests, again.reused) == (0, 0, 10)


def test_a_reply_that_does_not_end_is_asked_for_again_and_then_an_error_with_its_text(
    settings_for: Callable[..., RunSettings], tmp_path: Path
) -> None:
    strip_pdf(tmp_path / "in" / "a.pdf", 2)
    given = settings_for(
        tmp_path / "output", f"input={tmp_path / 'in'}", "task=describe", "task.max_output_tokens=12"
    )
    summary = execute(given)
    assert summary.failed == 1
    (row,) = pd.read_parquet(tmp_path / "output" / "answers").to_dict("records")
    assert row["error_code"] in ("truncated", "repetition")
    assert row["answer"].startswith('{"')
    assert row["needs_review"]
    requests = pd.read_parquet(tmp_path / "output" / "requests")
    assert len(requests) == 2
    assert requests["text"].str.startswith('{"').all()
    assert (requests["counted_tokens"] == requests["prompt_tokens"]).all()
    assert requests["prompt_tokens"].nunique() == 2  # the second attempt says what was wrong
