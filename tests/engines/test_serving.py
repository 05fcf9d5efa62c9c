"""docbatch serve: a server that is there as long as clients are, however they and it end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from pipeline.engines.server import registry, serving
from pipeline.engines.server.serving import Serving
from pipeline.errors import EngineLost, SettingsError
from pipeline.serve import read

# Answers /health, dies when it is asked for /die, and writes down the key in its environment when it starts.
STAND_IN = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/die": os._exit(9)
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
open(sys.argv[1], "a").write(os.environ.get("VLLM_API_KEY", "no key") + chr(10))
http.server.HTTPServer(("127.0.0.1", int(sys.argv[-1])), Handler).serve_forever()
"""


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Serving]:
    monkeypatch.setattr(serving, "_POLL_S", 0.05)
    monkeypatch.setattr(registry, "_DEAD_AFTER_S", 1.0)

    def make(**others: object) -> Serving:
        values: dict[str, object] = {
            "command": [sys.executable, "-c", STAND_IN, str(tmp_path / "started")],
            "registry": tmp_path / "registry",
            "host": "127.0.0.1",
            "key_variable": "TEST_KEY",
            "load_timeout_s": 30.0,
            "first_client_s": 10.0,
            "next_client_s": 0.5,
            "max_restarts": 1,
        }
        return Serving(**(values | others))  # type: ignore[arg-type]

    return make


def servers(folder: Path) -> list[str]:
    return [file.read_text().strip() for file in (folder / "registry" / "servers").glob("*.url")]


@contextmanager
def client(folder: Path, beats: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that waits for a server and beats that often, and is then silent for good."""
    code = f"""
import pathlib, time
from pipeline.engines.server.registry import Client
folder = pathlib.Path({str(folder / "registry")!r})
while not list(folder.glob("servers/*.url")): time.sleep(0.02)
client = Client(folder)
for _ in range({beats}): client.beat(); time.sleep(0.1)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_server_ends_when_its_last_client_is_dead(given: Callable[..., Serving], tmp_path: Path) -> None:
    with client(tmp_path, beats=5):
        assert serving.serve(given()) == "the last client is done"
    assert servers(tmp_path) == []
    assert not [
        p for p in psutil.Process().children(recursive=True) if str(tmp_path / "started") in p.cmdline()
    ]


def test_what_a_client_of_long_ago_has_left_is_no_client(
    given: Callable[..., Serving], tmp_path: Path
) -> None:
    (tmp_path / "registry" / "clients").mkdir(parents=True)
    (tmp_path / "registry" / "clients" / "n1-123").write_text("1\n")
    assert serving.serve(given(first_client_s=0.3, next_client_s=30.0)) == "no client came"


def test_a_server_that_no_client_wants_ends(given: Callable[..., Serving]) -> None:
    assert serving.serve(given(first_client_s=0.3)) == "no client came"


def test_a_server_that_dies_is_started_again_and_given_up_at_last(
    given: Callable[..., Serving], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", "sesame")
    code = """
import pathlib, sys, time, urllib.request
seen = set()
while len(seen) < 2:
    for file in pathlib.Path(sys.argv[1]).glob("servers/*.url"):
        url = file.read_text().strip()
        if url and url not in seen:
            seen.add(url)
            try: urllib.request.urlopen(url.replace("/v1", "/die"))
            except OSError: pass
    time.sleep(0.05)
"""
    killer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "registry")])
    with pytest.raises(EngineLost, match="died 2 times"):
        serving.serve(given())
    assert killer.wait(20) == 0
    assert (
        tmp_path / "started"
    ).read_text() == "sesame\nsesame\n"  # from the environment, in no command line


def test_a_server_that_cannot_be_started_is_told(given: Callable[..., Serving]) -> None:
    with pytest.raises(SettingsError, match="no-such-command: cannot be started"):
        serving.serve(given(command=["no-such-command"]))
    with pytest.raises(EngineLost, match="ended with 3 while it loaded"):
        serving.serve(given(command=[sys.executable, "-c", "import sys; sys.exit(3)"]))


def test_a_signal_ends_the_server_and_its_address(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline.serve", f"registry={tmp_path / 'registry'}", "host=127.0.0.1"]
    served = [sys.executable, "-c", STAND_IN, str(tmp_path / "started")]
    process = subprocess.Popen([*command, "--", *served], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not servers(tmp_path):
        assert time.monotonic() < end
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "interrupted by SIGTERM: the server is ended" in said
    assert servers(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["registry=r"], "the command of a server are needed"),
        (["--", "vllm"], "registry=DIR and"),
        (["registry=r", "port=7", "--", "vllm"], "port=7: there is no such setting"),
        (["registry=r", "next_client_s=soon", "--", "vllm"], "next_client_s=soon: must be a number"),
        (["registry=r", "load_timeout_s=nan", "--", "vllm"], "load_timeout_s=nan: must be a number"),
        (["registry=r", "max_restarts=inf", "--", "vllm"], "max_restarts=inf: must be a number"),
        (["registry=r", "max_restarts=-1", "--", "vllm"], "max_restarts=-1: must be a number, 0 or more"),
        (["registry=r", "max_restarts=1.5", "--", "vllm"], "max_restarts=1.5: must be a whole number"),
    ],
)
def test_a_mistake_on_the_command_line_is_told(arguments: list[str], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        read(arguments)
