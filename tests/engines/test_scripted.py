"""The scripted engine does what its script says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import scripted
from conftest import SAMPLES

from pipeline.config import RunSettings
from pipeline.errors import EngineLost
from pipeline.records import Cell, Question, Request, Subject
from pipeline.run import execute


def request(name: str) -> Request:
    subject = Subject("document", "a.pdf", "id", (), 0)
    return Request(name, Cell(name, subject, Question(name, "?")), "ask", (), "?", 10)


def test_late_replies_come_after_later_requests_and_the_last_ones_when_nothing_else_is_left() -> None:
    quick = scripted.says("fine")
    engine = scripted.ScriptedEngine(
        {
            "slow": scripted.Late(quick, 2),
            "slowest": scripted.Late(quick, 99),
            "a": quick,
            "b": quick,
            "c": quick,
        }
    )
    engine.put([request(name) for name in ("slowest", "slow", "a", "b", "c")], 0)
    names = [request.request_id for _ in range(5) for request, _ in engine.take()]
    assert names == ["a", "b", "slow", "c", "slowest"]


def test_a_second_attempt_can_be_given_another_reply_and_death_comes_at_its_request() -> None:
    engine = scripted.ScriptedEngine(
        {"q": [scripted.says("first"), scripted.says("then")], "end": EngineLost("gone")}
    )
    engine.put([request("q")], 0)
    engine.put([request("q")], 0)
    engine.put([request("end")], 0)
    assert [completion.text for _ in range(2) for _, completion in engine.take()] == ["first", "then"]
    with pytest.raises(EngineLost, match="gone"):
        engine.take()


def test_a_whole_run_takes_its_replies_from_the_script(
    compose: Callable[..., RunSettings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reply = scripted.says('{"answer": "Ada", "pages": [1], "quote": null}')
    engine = scripted.install(monkeypatch, lambda request: reply)
    execute(
        compose(f"input={SAMPLES}", "source.include=[*.png]", "engine=vllm", "task=qa", "task.question=Who?")
    )
    table = pd.read_parquet(tmp_path / "output" / "answers")
    assert len(engine.asked) == len(table) > 0
    assert set(table["answer"]) == {"Ada"}
    assert engine.closed == 1
