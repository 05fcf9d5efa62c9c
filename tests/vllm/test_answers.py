"""Answers are right: every page of many documents, in any order, in parts, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from check import read
from documents import write
from test_deaths import killing_engines

from pipeline.config import RunSettings
from pipeline.run import execute


@pytest.mark.parametrize("is_cached", [True, False])
def test_every_page_of_thirty_documents_in_any_order(
    reader_for: Callable[..., RunSettings], tmp_path: Path, is_cached: bool
) -> None:
    lengths = [1 + number % 8 for number in range(30 if is_cached else 8)]
    gold = write(tmp_path / "in", lengths, seed=101)
    given = reader_for(
        tmp_path, f"+engine.args.enable_prefix_caching={is_cached}", "pack.window_tokens=20000"
    )  # fmt: skip
    execute(given)
    read(tmp_path / "output", gold).assert_right()
    requests = pd.read_parquet(tmp_path / "output" / "requests")
    assert (requests["counted_tokens"] == requests["prompt_tokens"]).all()
    is_much_cached = requests["cached_tokens"].sum() > requests["prompt_tokens"].sum() / 4
    assert bool(is_much_cached) is is_cached


def test_parts_of_long_documents_are_read_and_merged(
    reader_for: Callable[..., RunSettings], tmp_path: Path
) -> None:
    gold = write(tmp_path / "in", [9, 11, 16, 5, 12, 7], seed=102)
    # Windows are smaller than a document: parts of one come and go.
    given = reader_for(tmp_path, "pack.max_images=4", "pack.window_tokens=1")
    execute(given)
    read(tmp_path / "output", gold).assert_right(answers=0.9, pages=0.9)
    requests = pd.read_parquet(tmp_path / "output" / "requests")
    # The same question under two names is asked once.
    asked = {(each.document, each.question) for each in gold}
    assert (requests["kind"] == "merge").sum() == len(asked)


def test_a_copy_that_dies_changes_no_answer(reader_for: Callable[..., RunSettings], tmp_path: Path) -> None:
    gold = write(tmp_path / "in", [3] * 10, seed=103)
    given = reader_for(tmp_path, "engine.replicas=2", "pack.window_tokens=1", "sink.journal_seconds=0")
    with killing_engines(tmp_path / "output", after=1, most=1):
        execute(given)
    read(tmp_path / "output", gold).assert_right()
    assert len(list((tmp_path / "output" / "logs").glob("engine-*.log"))) == 2
