"""A question without a document: `docbatch ask`."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from pipeline.config import RunSettings
from pipeline.engines import choose
from pipeline.engines.base import EngineContext
from pipeline.errors import EngineLost
from pipeline.flow import single
from pipeline.records import Completion, Request


class Engine:
    """Writes a line into its log, and answers, or is lost."""

    window_tokens, windows_ahead = 1000, 0

    def __init__(self, context: EngineContext, is_lost: bool) -> None:
        self._log = Path(str(context.log).format(0))
        self._is_lost = is_lost

    def __enter__(self) -> Self:
        self._log.write_text("what vLLM said")
        if self._is_lost:
            raise EngineLost(f"the engine could not be loaded; see {self._log}")
        return self

    def __exit__(self, *error: object) -> None: ...

    def put(self, requests: list[Request], window_number: int) -> None:
        self._requests = requests

    def take(self) -> list[tuple[Request, Completion]]:
        return [(request, Completion("Friday", "stop")) for request in self._requests]


@pytest.fixture
def ask(
    compose: Callable[..., RunSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[bool], str]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def asked(is_lost: bool) -> str:
        monkeypatch.setattr(choose, "build", lambda name, settings, context: Engine(context, is_lost))
        return single.ask(compose("input=.", "engine=vllm"), "Which day was yesterday?")

    return asked


def test_nothing_is_left_of_a_question_that_was_answered(ask: Callable[[bool], str], tmp_path: Path) -> None:
    assert ask(False) == "Friday"
    assert list(tmp_path.glob("docbatch-ask-*")) == []


def test_the_log_that_a_lost_engine_names_is_still_there(ask: Callable[[bool], str]) -> None:
    with pytest.raises(EngineLost) as raised:
        ask(True)
    named = re.search(r"see (\S+)", str(raised.value))
    assert named is not None
    assert Path(named[1]).read_text() == "what vLLM said"
