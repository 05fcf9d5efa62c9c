"""Fetching from a hub, played by a real HTTP server."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

FILES = {
    "params.json": b"{}",
    "consolidated.safetensors": b"weights" * 1000,
    "model-00001-of-00001.safetensors": b"the same again, in another format",
    "README.md": b"# A model",
}
COMMIT = "0" * 40


class Hub(BaseHTTPRequestHandler):
    gated = False

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        if self.gated:
            self.send_response(403)
            self.send_header("X-Error-Code", "GatedRepo")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        name = self.path.split("?")[0].rpartition("/")[2]
        if "/tree/" in self.path:
            rows = [{"type": "file", "path": n, "size": len(c), "oid": "0"} for n, c in FILES.items()]
            content = json.dumps(rows).encode()
        elif self.path.startswith("/api/"):
            siblings = [{"rfilename": file} for file in FILES]
            content = json.dumps({"id": "mistralai/x", "sha": COMMIT, "siblings": siblings}).encode()
        else:
            content = FILES[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def hub() -> Iterator[type[Hub]]:
    handler = type("Handler", (Hub,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        handler.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
        yield handler
        server.shutdown()


def fetch(hub: type[Hub] | None, cache: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    url = hub.url if hub else "http://127.0.0.1:9"  # type: ignore[attr-defined]
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pipeline.fetch", *overrides], env=environment, capture_output=True, text=True
    )


def test_what_vllm_reads_is_fetched_and_no_more(hub: type[Hub], tmp_path: Path) -> None:
    target = tmp_path / "weights"
    done = fetch(hub, tmp_path, "model=pixtral_large", f"model.path={target}")
    assert done.returncode == 0, done.stderr
    assert (target / "consolidated.safetensors").read_bytes() == FILES["consolidated.safetensors"]
    assert not (target / "model-00001-of-00001.safetensors").exists()
    assert f"model.path={target}" in done.stdout
    assert "Licensed by Mistral AI under the Mistral AI Research License" in done.stdout


def test_a_gated_model_says_which_licence_and_where_the_token_goes(hub: type[Hub], tmp_path: Path) -> None:
    hub.gated = True
    done = fetch(hub, tmp_path, "model=pixtral_large")
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    for part in ("Mistral AI Research License", "Pixtral-Large-Instruct-2411", "HF_TOKEN"):
        assert part in line


def test_no_network_and_wrong_names_are_one_line(tmp_path: Path) -> None:
    for overrides in ((), ("model=pixtral_huge",)):
        done = fetch(None, tmp_path, *overrides)
        assert done.returncode == 1
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
