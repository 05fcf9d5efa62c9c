"""engine=server against a real `vllm serve`, which `docbatch serve` starts once for all tests here."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import psutil
import pytest
from check import FOLDER, read
from contract import ContractBench, EngineContract
from documents import write
from protocol import FAULTS, FaultyProxy, running

from pipeline.config import RunSettings
from pipeline.engines.server import introduction
from pipeline.engines.server.engine import ServerEngine
from pipeline.run import execute

if TYPE_CHECKING:
    from conftest import Bench

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SERVED = "the-tiny-pixtral"
KEY = "a-key-that-no-file-may-hold"
# What differs from jobs/serve.sbatch is what a CPU needs.
ARGUMENTS = """--config-format mistral --load-format mistral --tokenizer-mode mistral --enforce-eager
    --limit-mm-per-prompt {"image":30} --max-model-len 131072 --max-num-batched-tokens 8192
    --enable-prefix-caching --enable-prompt-tokens-details
    --structured-outputs-config {"backend":"xgrammar","disable_any_whitespace":true}
    --scheduler-cls pipeline.engines.vllm.scheduler.FullStepScheduler
    --worker-extension-cls pipeline.engines.vllm.served_worker.ServedWorkerAdditions
    --allowed-local-media-path / --seed 0
""".split()  # fmt: skip


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Serve the model that reads; return the folder in which its address is."""
    folder = tmp_path_factory.mktemp("serving")
    os.environ["DOCBATCH_SERVER_KEY"] = KEY
    command = [
        sys.executable, "-m", "pipeline.serve", f"registry={folder}", "host=127.0.0.1", "first_client_s=3600",
        "next_client_s=3600", "--", str(Path(sys.executable).with_name("vllm")), "serve", str(FOLDER),
        "--served-model-name", SERVED, *ARGUMENTS,
    ]  # fmt: skip
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]]),
        "VLLM_NO_USAGE_STATS": "1",
    }
    with (folder / "log").open("wb") as log:
        serving = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 600
        while not list(folder.glob("servers/*.url")):
            assert serving.poll() is None and time.monotonic() < end, (folder / "log").read_text()[-3000:]
            time.sleep(0.5)
        yield folder
    finally:
        serving.terminate()
        serving.wait(120)
        del os.environ["DOCBATCH_SERVER_KEY"]


@pytest.fixture(scope="module")
def open_server_bench(
    open_bench: Callable[..., Bench], registry: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Bench]:
    """The bench of tests of the engine, with engine=server in its place."""

    def make(*overrides: str) -> Bench:
        made: Bench = open_bench(
            tmp_path_factory.mktemp("bench"), "task=transcribe", "engine=server",
            f"engine.registry={registry}", *overrides,
        )  # fmt: skip
        given = made.settings.engine.server
        context = replace(made.context, served=introduction.served(given, None))
        made.engine = ServerEngine(given, context)  # type: ignore[assignment]
        return made

    return make


@pytest.fixture(scope="module")
def bench(open_server_bench: Callable[..., Bench]) -> Iterator[ContractBench]:
    made = open_server_bench()
    pages = [replace(made.page(n, 64, 64), label=f"Page {n} of 9") for n in (1, 2, 3)]
    torn = replace(made.page(4, 64, 64), label="Page 4 of 9")
    assert torn.image is not None
    torn.image.write_bytes(torn.image.read_bytes()[:100])
    with made.engine:
        yield ContractBench(made.engine, pages, torn, made.count)


class TestServer(EngineContract):
    """All of the contract, with page images in the requests."""


def rows(output: Path) -> pd.DataFrame:
    """Return each request with the answer that it led to."""
    answers = pd.read_parquet(output / "answers")
    chosen = answers[["source", "question_id", "status", "answer", "confidence"]]
    requests = pd.read_parquet(output / "requests").drop(columns=["status", "confidence"])
    return requests.merge(chosen, on=["source", "question_id"])


def test_the_same_rows_tokens_and_answers_as_offline(
    reader_for: Callable[..., RunSettings], registry: Path, tmp_path: Path
) -> None:
    gold = write(tmp_path / "in", [1, 3, 5], seed=106)
    # One document after the other: sums of another order come to other last bits.
    common = (
        f"input={tmp_path / 'in'}",
        f"task.questions={tmp_path / 'in' / 'questions.csv'}",
        "pack.window_tokens=1",
    )
    found: dict[str, pd.DataFrame] = {}
    for name, more in {
        "offline": ("engine=vllm",),
        "data": ("engine=server", f"engine.registry={registry}"),
        "file": ("engine=server", f"engine.registry={registry}", "engine.images=file"),
    }.items():
        execute(reader_for(tmp_path / name, *common, *more))
        read(tmp_path / name / "output", gold).assert_right()
        found[name] = rows(tmp_path / name / "output")
    key = ["source", "question_id", "kind", "attempt"]
    offline = found["offline"].sort_values(key)
    for name in ("data", "file"):
        served = found[name].sort_values(key)
        assert (served["prompt_tokens"] == served["counted_tokens"]).all()
        for column in (*key, "prompt_tokens", "output_tokens", "text", "finish_reason", "status", "answer"):
            assert served[column].tolist() == offline[column].tolist(), (name, column)
        assert served["confidence"].to_numpy() == pytest.approx(offline["confidence"].to_numpy(), abs=0.02)
        # The first question of each document reads its pages, the second finds them.
        cached = served.assign(share=served["cached_tokens"] / served["prompt_tokens"])
        assert cached.groupby("source")["share"].max().min() > 0.3
    run = json.loads((tmp_path / "data" / "output" / "run.json").read_text())
    assert run["versions"]["served_model"] == SERVED
    assert run["versions"]["server"].startswith("0.")
    written = [file for file in [*tmp_path.rglob("*"), *registry.rglob("*")] if file.is_file()]
    assert {"run.json", "log"} < {file.name for file in written}
    assert [file for file in written if KEY.encode() in file.read_bytes()] == []
    assert "images are encoded" in (registry / "log").read_text()


def test_a_faulty_way_to_the_server_loses_and_doubles_nothing(
    open_server_bench: Callable[..., Bench], registry: Path
) -> None:
    (url,) = [file.read_text().strip() for file in registry.glob("servers/*.url")]
    proxy = FaultyProxy(int(url.split(":")[2].split("/")[0]), every=23, slow_s=9.0)
    proxy.is_faulty = False
    with running(proxy):
        made = open_server_bench(
            "engine.registry=null", f"engine.urls=[{proxy.url}]", "engine.request_timeout_s=8",
            "engine.max_concurrency=16", "task.max_output_tokens=4",
        )  # fmt: skip
        with made.engine:
            proxy.is_faulty = True
            asked = [made.request(f"{n}", [made.page(n % 6, 64, 64)], f"What is {n}?") for n in range(80)]
            done = made.answer(*asked)
    assert {name: completion.failure for name, completion in done.items()} == {
        f"{n}": None for n in range(80)
    }
    assert all(proxy.failed[fault] for fault in FAULTS)
    assert {request.prompt: proxy.done[request.prompt] for request in asked} == {r.prompt: 1 for r in asked}


def run_example(folder: Path, *command: str) -> str:
    """Run a script or a command as its page says; return what it prints."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_examples_of_the_model_card_run_as_they_are_written(
    model: Path, registry: Path, tmp_path: Path
) -> None:
    for name in ("data", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (url,) = [file.read_text().strip() for file in registry.glob("servers/*.url")]
    small: dict[str, object] = {"model.path": str(model), "raster.workers": 1, "task.max_output_tokens": 8}
    offline = {
        "engine.eager": True,
        "engine.max_batched_tokens": 8192,
        "engine.args": {"load_format": "dummy"},
    }
    image = "data/samples/bar-ABC-exif-rot6.jpg"
    for script, arguments, more in (
        ("server_image.py", [url, image], {}),
        ("server_text.py", [url], {}),
        ("offline_image.py", [image], offline),
    ):
        command = [sys.executable, f"docs/examples/{script}", *arguments, json.dumps(small | more)]
        said = run_example(tmp_path, *command)
        assert said.strip()
        # Eight tokens of a model without weights are no answer, but a row.
        assert "text" in script or re.search(r"value of B\?.*(ok|error)", said)
    page = (ROOT / "docs" / "examples" / "README.md").read_text()
    commands = [command for command in re.findall(r"`(docbatch [^`]+)`", page) if "engine=server" in command]
    assert len(commands) == 2
    for written in commands:
        given = shlex.split(written.replace("http://localhost:8000/v1", url))[1:]
        overrides = [f"{name}={value}" for name, value in small.items()]
        assert run_example(tmp_path, sys.executable, "-m", "pipeline.docbatch", *given, *overrides).strip()


@contextmanager
def killed_server(registry: Path) -> Iterator[None]:
    """Kill the server's processes; `docbatch serve` starts it anew, at another port."""
    (before,) = registry.glob("servers/*.url")
    for process in psutil.Process().children(recursive=True):
        if SERVED in " ".join(process.cmdline()) and "pipeline.serve" not in process.cmdline():
            process.kill()
    yield
    assert before not in registry.glob("servers/*.url")


def test_a_server_that_is_killed_comes_back_and_nothing_is_lost(
    open_server_bench: Callable[..., Bench], registry: Path
) -> None:
    made = open_server_bench("task.max_output_tokens=16", "engine.max_concurrency=4")
    with made.engine:
        asked = [made.request(f"{n}", [made.page(n, 64, 64)], "What is it?") for n in range(24)]
        made.engine.put(asked, 0)
        done = {request.request_id: said for request, said in made.engine.take()}
        with killed_server(registry):
            while len(done) < 24:
                for request, said in made.engine.take():
                    assert request.request_id not in done
                    done[request.request_id] = said
    assert [said.failure for said in done.values()] == [None] * 24
