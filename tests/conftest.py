"""Real documents made on the spot, and settings composed as the command line composes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import hydra
import pymupdf
import pytest

from pipeline.config import RunSettings
from pipeline.run import CONF, to_settings

SAMPLES = Path(__file__).parent.parent / "data" / "samples"


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


def quoted(path: Path) -> str:
    """Quote a path for an override."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
