"""Whole runs with engine=server: merges, single questions, what tables say, and where the key is not."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

import pipeline
from pipeline.config import ModelSettings, RunSettings
from pipeline.errors import SettingsError
from pipeline.run import execute

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
import protocol
from protocol import Asked, Behaviour, ProtocolServer

KEY = "sk-this-must-be-in-no-file"
REPLY = '{"answer":"4711","pages":[1],"quote":"Page 1"}'


@pytest.fixture
def server(compose: Callable[..., RunSettings]) -> Iterator[ProtocolServer]:
    model: ModelSettings = compose("input=.").model

    def says(asked: Asked) -> list[dict[str, Any]]:
        return protocol.reply(REPLY, prompt_tokens=protocol.count_prompt(asked, model))

    made = ProtocolServer(Behaviour(says=says))
    with protocol.running(made):
        yield made


def test_a_long_document_is_merged_and_everything_is_counted(
    compose: Callable[..., RunSettings],
    make_pdf: Callable[..., Path],
    server: ProtocolServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = make_pdf("in/long.pdf", *(f"Page {n}" for n in range(1, 33)), width_pt=120, height_pt=120)
    given = [
        f"input={file}",
        "engine=server",
        "task=qa",
        "task.question=How much?",
        f"engine.urls=[{server.url}]",
    ]
    summary = execute(settings := compose(*given))
    assert (summary.requests, summary.answered, summary.failed) == (3, 1, 0)
    requests = pd.read_parquet(Path(settings.output) / "requests")
    assert sorted(requests["kind"]) == ["ask", "ask", "merge"]
    assert (requests["prompt_tokens"] == requests["counted_tokens"]).all()
    assert "were counted" not in caplog.text
    (merge,) = [asked for asked in server.asked if asked.text.startswith("A long document")]
    assert merge.images == 0
    assert str(dt.datetime.now(dt.UTC).date()) in merge.body["messages"][0]["content"]
    run = json.loads((Path(settings.output) / "run.json").read_text())
    assert (run["versions"]["served_model"], run["versions"]["server"]) == ("tiny", "0.32.0")
    # The same again asks nothing, also when no server is up any more; another version is another model.
    server.kill()
    assert execute(settings).requests == 0
    server.behaviour.version = "0.33.0"
    server.start()
    assert execute(settings).requests == 3


def test_a_question_without_a_document_is_answered(
    server: ProtocolServer, caplog: pytest.LogCaptureFixture
) -> None:
    reply = pipeline.ask("Which day is it?", engine="server", settings={"engine.urls": [server.url]})
    assert reply == REPLY
    assert server.asked[-1].text == "Which day is it?"
    assert server.asked[-1].images == 0
    assert "the reply is cut" not in caplog.text
    whole = server.behaviour.says

    def cut(asked: Asked) -> list[dict[str, Any]]:
        chunks: list[dict[str, Any]] = [*whole(asked)]
        chunks[-2]["choices"][0]["finish_reason"] = "length"
        return chunks

    server.behaviour.says = cut
    given: dict[str, object] = {"engine.urls": [server.url], "task.max_output_tokens": 3}
    assert pipeline.ask("Which day is it?", engine="server", settings=given) == REPLY
    assert "the reply is cut after 3 tokens; raise task.max_output_tokens" in caplog.text
    with pytest.raises(SettingsError, match="engine=embedded: reads documents"):
        pipeline.ask("Which day is it?", engine="embedded")


def titles_of(running: subprocess.Popen[bytes]) -> set[str]:
    """Return the titles that a command and its workers have until it ends."""
    titles: set[str] = set()
    own = psutil.Process(running.pid)
    while running.poll() is None:
        with contextlib.suppress(psutil.Error):
            titles |= {f"{each.name()} {each.cmdline()}" for each in [own, *own.children(recursive=True)]}
        time.sleep(0.1)
    return titles


def test_the_key_is_in_no_file_log_trace_or_process_title(
    make_pdf: Callable[..., Path], server: ProtocolServer, tmp_path: Path
) -> None:
    says = server.behaviour.says

    def echo(asked: Asked) -> object:
        # A server that repeats what it was sent, in an error that becomes a row.
        return (400, f"odd: Bearer {KEY}") if "odd?" in asked.text else says(asked)

    server.behaviour.key, server.behaviour.says = KEY, echo  # type: ignore[assignment]
    server.behaviour.delay_s = 0.5
    folder = make_pdf("in/a.pdf", "Page 1", width_pt=120, height_pt=120).parent
    (tmp_path / "q.csv").write_text("question_id,question\none,How much?\ntwo,Is it odd?\n")
    output = tmp_path / "output"
    command = [
        sys.executable, "-m", "pipeline.run", f"input={folder}", f"output={output}", "engine=server",
        "task=qa", f"task.questions={tmp_path / 'q.csv'}", f"engine.urls=[{server.url}]",
        "raster.workers=1", "raster.scratch=" + str(tmp_path / "scratch"),
    ]  # fmt: skip
    for name, key in {"right": KEY, "wrong": KEY + "-wrong"}.items():
        # As verbose as everything can be.
        environment = os.environ | {"DOCBATCH_SERVER_KEY": key, "OPENAI_LOG": "debug"}
        with (tmp_path / f"said-{name}").open("wb") as said:
            running = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
        assert KEY not in " ".join(titles_of(running))
    assert "refuses the key (401)" in (tmp_path / "said-wrong").read_text()
    answers = pd.read_parquet(output / "answers").set_index("question_id")
    assert answers.loc["one", "answer"] == "4711"
    assert "odd: Bearer (key)" in answers.loc["two", "error"]
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 8
    for file in files:
        assert KEY.encode() not in file.read_bytes(), file
