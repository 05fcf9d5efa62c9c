"""Every engine that runs without a GPU passes the contract; tests/vllm has the real vLLM pass it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import process
import protocol
import pytest
import scripted
from conftest import engine_context
from contract import ContractBench, EngineContract, InOrder, draw_page

from pipeline.config import RunSettings
from pipeline.engines.base import Engine, Served
from pipeline.engines.embedded.engine import EmbeddedEngine
from pipeline.engines.server.engine import ServerEngine
from pipeline.engines.vllm import engine as vllm
from pipeline.engines.vllm import host as vllm_host
from pipeline.engines.vllm.launch import Launch
from pipeline.engines.vllm.messages import Sampling
from pipeline.records import Request


def bench_of(engine: Engine, folder: Path) -> ContractBench:
    texts = ("Ports and ships.", "Cranes and trucks.", "")
    pages = [draw_page(folder, "a", text, number) for number, text in enumerate(texts, 1)]
    return ContractBench(engine, pages, draw_page(folder, "unreadable"))


class TestEmbedded(EngineContract, InOrder):
    @pytest.fixture
    def bench(self, compose: Callable[..., RunSettings], tmp_path: Path) -> Iterator[ContractBench]:
        settings = compose("input=.", "task=qa", "task.question='?'")
        with EmbeddedEngine(settings.engine.embedded, engine_context(settings, tmp_path)) as engine:
            yield bench_of(engine, tmp_path)


class TestVllmWithAScriptedProcess(EngineContract, InOrder):
    @pytest.fixture
    def bench(
        self,
        compose: Callable[..., RunSettings],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Iterator[ContractBench]:
        monkeypatch.setattr(vllm_host, "main", process.scripted)
        launch = Launch({}, Sampling("", 16, None, 0, 0), None, tmp_path / "engine-0.log", print)
        monkeypatch.setattr(vllm, "launches", lambda *_: [launch])
        settings = compose("input=.", "engine=vllm", "task=transcribe")
        with vllm.VllmEngine(settings.engine.vllm, engine_context(settings, tmp_path)) as engine:
            yield bench_of(engine, tmp_path)


class TestServer(EngineContract):
    @pytest.fixture(params=["data", "file"])
    def bench(
        self, compose: Callable[..., RunSettings], tmp_path: Path, request: pytest.FixtureRequest
    ) -> Iterator[ContractBench]:
        server = protocol.ProtocolServer()
        given = [f"engine.urls=[{server.url}]", f"engine.images={request.param}", "engine.load_timeout_s=5"]
        settings = compose("input=.", "engine=server", "task=transcribe", *given)
        context = engine_context(settings, tmp_path, served=Served("tiny", "0.32.0"))
        with protocol.running(server), ServerEngine(settings.engine.server, context) as engine:
            yield bench_of(engine, tmp_path)


class TestScripted(EngineContract, InOrder):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[ContractBench]:
        def play(request: Request) -> scripted.Play:
            if any("unreadable" in str(page.image) for page in request.pages):
                return scripted.fails(message=f"{request.cell.subject.source}: cannot be read")
            return scripted.says("fine")

        with scripted.ScriptedEngine(play) as engine:
            yield bench_of(engine, tmp_path)
