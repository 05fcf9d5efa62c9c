"""Real documents made on the spot, and settings composed as the command line composes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import pymupdf
import pytest

from pipeline.asking import schema, tokens
from pipeline.compose import CONF, to_settings
from pipeline.config import RunSettings
from pipeline.engines.base import EngineContext
from pipeline.reading import language

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
