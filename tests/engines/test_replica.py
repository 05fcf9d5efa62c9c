"""Engines that die, hang or are given up, played by a process that follows a script in vLLM's place.

The same is shown with the real vLLM in tests/vllm; here each death comes at an exact moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import process
import pytest
from conftest import engine_context

from pipeline.config import RunSettings
from pipeline.engines.vllm import engine as vllm
from pipeline.engines.vllm import host as vllm_host
from pipeline.engines.vllm.engine import VllmEngine
from pipeline.engines.vllm.launch import Launch
from pipeline.engines.vllm.messages import Sampling
from pipeline.errors import EngineLost
from pipeline.records import Cell, Completion, Document, Page, Question, Request, Subject


def request(name: str, *pages: Page) -> Request:
    subject = Subject("document", "a.pdf", "id", pages, len(pages))
    return Request(name, Cell(name, subject, Question(name, "?")), "ask", pages, "?", 10)


@pytest.fixture
def open_engine(
    compose: Callable[..., RunSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., VllmEngine]:
    """Make an engine of one or more scripted copies."""
    monkeypatch.setattr(vllm_host, "main", process.scripted)
    sampling = Sampling("", 16, None, 0, 0)

    def make(*overrides: str, copies: int = 1) -> VllmEngine:
        settings = compose("input=.", "engine=vllm", *overrides)
        made = [Launch({}, sampling, None, tmp_path / f"engine-{n}.log", print) for n in range(copies)]
        monkeypatch.setattr(vllm, "launches", lambda *_: made)
        return VllmEngine(settings.engine.vllm, engine_context(settings, tmp_path, envelope=None))

    return make


def take_all(engine: VllmEngine, count: int) -> dict[str, Completion]:
    done: dict[str, Completion] = {}
    while len(done) < count:
        done |= {asked.request_id: completion for asked, completion in engine.take()}
    return done


def starts(folder: Path) -> int:
    return sum(file.read_text().count("started") for file in folder.glob("engine-*.log"))


def test_among_many_the_one_that_kills_engines_is_found_and_nothing_else_fails(
    open_engine: Callable[..., VllmEngine], tmp_path: Path
) -> None:
    names = [*map(str, range(10)), "die", *map(str, range(10, 15))]
    with open_engine() as engine:
        engine.put([request(name) for name in names], 0)
        done = take_all(engine, len(names))
        failed = {name: c.failure for name, c in done.items() if c.failure}
        assert list(failed) == ["die"]
        assert failed["die"].code == "engine_failed"
        assert "a.pdf, die" in failed["die"].message
        engine.put([request("later")], 1)
        assert take_all(engine, 1)["later"].text == "fine"
    assert starts(tmp_path) <= 1 + 3  # 16 are eight times 2, then 1


@pytest.mark.parametrize("places", [(0, 255), (17, 18, 200), (0, 1, 2, 3, 4)])
def test_requests_that_kill_engines_cost_exactly_their_own_rows(
    open_engine: Callable[..., VllmEngine], places: tuple[int, ...]
) -> None:
    names = [f"die {n}" if n in places else str(n) for n in range(256)]
    with open_engine() as engine:
        engine.put([request(name) for name in names], 0)
        done = take_all(engine, len(names))
    assert {name for name, completion in done.items() if completion.failure} == {f"die {n}" for n in places}
    assert len(done) == 256


def test_an_engine_that_dies_of_every_request_ends_the_run_within_the_budget(
    open_engine: Callable[..., VllmEngine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_host, "main", process.die_of_everything)
    with open_engine("engine.max_restarts=5") as engine:
        engine.put([request(str(n)) for n in range(256)], 0)
        with pytest.raises(EngineLost, match=r"died 6 times without a reply in between.*max_restarts"):
            take_all(engine, 256)
    assert starts(tmp_path) == 1 + 5


def test_pages_that_kill_the_engine_whatever_is_asked_cost_their_own_rows_and_few_restarts(
    open_engine: Callable[..., VllmEngine], tmp_path: Path
) -> None:
    page = Page(Document("a.pdf", Path("a.pdf"), "pdf", 1, "id"), 1, 1, 16, 16, 1, image=Path("a.ppm"))
    names = [f"die {n}" for n in range(30)]
    with open_engine() as engine:
        engine.put([*(request(name, page) for name in names), request("other")], 0)
        done = take_all(engine, 31)
        engine.put([request("die of it later", page)], 1)
        done |= take_all(engine, 1)
    assert done.pop("other").text == "fine"
    assert {completion.failure.code for completion in done.values() if completion.failure} == {
        "engine_failed"
    }
    assert len(done) == 31
    assert starts(tmp_path) <= 1 + 7


def test_a_prompt_whose_images_kill_the_process_clears_the_others_at_once(
    open_engine: Callable[..., VllmEngine], tmp_path: Path
) -> None:
    names = [*map(str, range(8)), "die of its images", *map(str, range(8, 16))]
    with open_engine() as engine:
        engine.put([request(name) for name in names], 0)
        done = take_all(engine, len(names))
    assert [name for name, completion in done.items() if completion.failure] == ["die of its images"]
    assert starts(tmp_path) == 3


def test_an_engine_that_is_silent_for_too_long_is_built_anew(
    open_engine: Callable[..., VllmEngine], tmp_path: Path
) -> None:
    with open_engine("engine.stall_timeout_s=1") as engine:
        engine.put([request("hang, once"), request("other")], 0)
        done = take_all(engine, 2)
    assert [completion.text for completion in done.values()] == ["fine", "fine"]
    assert starts(tmp_path) == 2


def test_what_was_answered_before_the_engine_is_given_up_is_returned_first(
    open_engine: Callable[..., VllmEngine],
) -> None:
    with open_engine("engine.max_restarts=0", copies=2) as engine:
        names = ["a", "c", "b", "die after the others"]  # every other one goes to the second copy
        for name in names:
            engine.put([request(name)], 0)
        dying = engine._replicas[1]
        assert dying._process is not None
        dying._process.join(30)
        time.sleep(5 * process.TOGETHER_S)
        assert set(take_all(engine, 3)) == {"a", "b", "c"}
        with pytest.raises(EngineLost, match="max_restarts"):
            engine.take()


def test_an_engine_that_cannot_be_loaded_says_where_to_look(
    open_engine: Callable[..., VllmEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_host, "main", process.die_when_loading)
    with pytest.raises(EngineLost, match=r"could not be loaded: its process died; see .*engine-0.log"):
        open_engine().__enter__()
