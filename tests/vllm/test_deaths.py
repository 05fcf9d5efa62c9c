"""Engines that die: what was not to blame is answered, and what was finished is kept."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pandas as pd
import psutil
import pytest
from check import read
from documents import write

from pipeline.config import RunSettings
from pipeline.engines.vllm.host import Host, Llm, PromptQueue
from pipeline.engines.vllm.messages import Prompt, Rendering, Reply, Sampling
from pipeline.errors import EngineLost
from pipeline.run import execute

if TYPE_CHECKING:
    from conftest import Bench


def engine_processes() -> list[psutil.Process]:
    """List all processes of engines that this one has started."""
    return [p for p in psutil.Process().children(recursive=True) if "EngineCore" in " ".join(p.cmdline())]


@contextlib.contextmanager
def killing_engines(output: Path, after: int, most: int | None = None) -> Iterator[None]:
    """Kill the processes of engines, or so many of them, once so many parts of the journal are written."""

    def kill() -> None:
        while len(list((output / "_journal").rglob("*answers*"))) < after:
            time.sleep(0.05)
        for process in engine_processes()[:most]:
            process.kill()

    killer = threading.Thread(target=kill, daemon=True)  # which waits in vain where nothing is answered
    killer.start()
    yield
    killer.join()


def test_a_request_that_kills_engines_fails_alone(
    open_bench: Callable[..., Bench], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = open_bench(tmp_path, "task=transcribe", "+engine.args.scheduler_cls=poison.PoisonedScheduler")
    good = made.request("good", [made.page(1, 64, 64)], "Is this harmless?")
    bad = made.request("bad", [made.page(2, 64, 64)], "Is this one quite as harmless as the other one?")
    monkeypatch.setenv("POISON_TOKENS", str(bad.prompt_tokens))
    with made.engine:
        done = made.answer(good, bad)
        assert done["good"].failure is None
        assert done["bad"].failure is not None
        assert done["bad"].failure.code == "engine_failed"
        assert "a.pdf, bad" in done["bad"].failure.message
        later = made.answer(made.request("later", [made.page(3, 64, 64)], "And now?"), window_number=1)
        assert later["later"].failure is None
    assert not engine_processes()


def test_giving_up_keeps_what_is_finished_and_the_next_run_does_the_rest(
    reader_for: Callable[..., RunSettings], tmp_path: Path
) -> None:
    gold = write(tmp_path / "in", [2] * 8, seed=105)
    given = reader_for(tmp_path, "engine.max_restarts=0", "pack.window_tokens=1", "sink.journal_seconds=0")
    lost = pytest.raises(EngineLost, match=r"max_restarts.*see .*engine-.*\.log")
    with lost, killing_engines(tmp_path / "output", after=2):
        execute(given)
    kept = pd.read_parquet(tmp_path / "output" / "answers")
    assert 0 < len(kept) < len(gold)
    assert (kept["status"] == "ok").all()
    assert not engine_processes()

    summary = execute(given)
    assert (summary.reused, summary.answered) == (len(kept), len(gold) - len(kept))
    read(tmp_path / "output", gold).assert_right()
    before = kept.set_index("question_id")["created_at"]
    whole = pd.read_parquet(tmp_path / "output" / "answers").set_index("question_id")
    assert (whole.loc[before.index, "created_at"] == before).all()


@pytest.mark.parametrize("is_dead", [True, False])
def test_a_prompt_that_fails_is_refused_unless_the_engine_is_dead(is_dead: bool) -> None:
    """Of a dead engine vLLM may say only that a socket is closed: the prompt is not to blame then."""
    ours, theirs = multiprocessing.Pipe()

    def enqueue_chat(*given: object, **options: object) -> None:
        raise OSError("Socket operation on non-socket")

    core = SimpleNamespace(resources=SimpleNamespace(engine_dead=is_dead))
    failing = SimpleNamespace(llm_engine=SimpleNamespace(engine_core=core), enqueue_chat=enqueue_chat)
    sampling = Sampling("Answer.", 10, None, 0, 0)
    host = Host(cast(Llm, failing), sampling, theirs, PromptQueue(theirs))
    with pytest.raises(OSError, match="Socket") if is_dead else contextlib.nullcontext():
        host._enqueue(Prompt("first", (), "What is it?", 0, 1.0))
    assert isinstance(ours.recv(), Rendering)
    assert ours.poll() is not is_dead
    if not is_dead:
        assert ours.recv() == Reply("first", refusal="Socket operation on non-socket")
    ours.send(None)
