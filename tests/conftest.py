"""Real documents made on the spot, and settings composed as the command line composes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import pymupdf
import pytest
from faulty_proxy import Proxy

from pipeline import objects
from pipeline.asking import schema, tokens
from pipeline.compose import CONF, to_settings
from pipeline.config import RunSettings
from pipeline.engines.base import EngineContext
from pipeline.objects import Place
from pipeline.reading import language

SECRET = "nobody-may-see-this-secret"
SAMPLES = Path(__file__).parents[1] / "data" / "samples"


@pytest.fixture
def make_pdf(tmp_path: Path) -> Callable[..., Path]:
    """Write a PDF with one page per text; an empty text makes a blank page."""

    def make(name: str, *texts: str, width_pt: float = 595, height_pt: float = 842, rotate: int = 0) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with pymupdf.open() as document:
            for text in texts:
                page = document.new_page(width=width_pt, height=height_pt)
                page.insert_textbox(pymupdf.Rect(36, 36, width_pt - 36, height_pt - 36), text, fontsize=11)
                page.set_rotation(rotate)
            document.save(path)
        return path

    return make


@pytest.fixture
def compose(tmp_path: Path) -> Iterator[Callable[..., RunSettings]]:
    """Compose settings from overrides; the output lies in the test's own folder."""

    def make(*overrides: str) -> RunSettings:
        given = [f"output={tmp_path / 'output'}", "raster.workers=1", "engine.workers=1", *overrides]
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            return to_settings(hydra.compose("config", overrides=given))

    yield make


def engine_context(settings: RunSettings, scratch: Path, **given: Any) -> EngineContext:
    """Return what an engine of a run with these settings is told, apart from what is `given`."""
    context = EngineContext(
        model=settings.model,
        envelope=schema.envelope(settings.task),
        system_prompt="",
        max_output_tokens=settings.task.max_output_tokens,
        scratch=scratch,
        log=scratch / "engine-{}.log",
        adapt_tokenizer=tokens.skip_pixels,
        detect_language=language.detect_language,
        count_tokens=lambda pages, text: 10,
    )
    return replace(context, **given)


def quoted(path: Path) -> str:
    """Quote a path for an override."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


# ---- object storage ----


@pytest.fixture(scope="session")
def server() -> Iterator[int]:
    """Return the port of a real S3 server on this machine."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield port
    server.stop()


@pytest.fixture
def proxy(server: int) -> Iterator[Proxy]:
    """Put a proxy before the S3 server, which can fail."""
    made = Proxy(server)
    yield made
    made.close()


@pytest.fixture
def bucket(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Place]:
    """Return a new bucket, which this process and those it starts reach through the proxy."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"key-{SECRET}")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    # No pauses: what is tried again is tried at once.
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda self, context: 0)
    objects._client.cache_clear()
    name = f"bucket-{abs(hash(request.node.nodeid)):x}"
    objects._client().create_bucket(Bucket=name)
    yield Place(name, "")
    objects._client.cache_clear()
