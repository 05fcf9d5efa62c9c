"""Whatever happens in a worker costs the document that it happens to, in the real pool."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import scripted
from faults import fault_kind
from PIL import Image

from pipeline.config import RunSettings
from pipeline.records import Request
from pipeline.run import execute

BAD = {
    "hang-open": ("pages 1\nhang open", "render_timeout", 0),
    "hang-page": ("pages 3\nhang 2", "render_timeout", 2),
    "memory-open": ("pages 1\nmemory open", "too_large", 0),
    "memory-page": ("pages 2\nmemory 1", "too_large", 1),
    "exit-open": ("pages 1\nexit open", "render_crashed", 0),
    "exit-page": ("pages 3\nexit 3", "render_crashed", 2),
    "signal-open": ("pages 1\nsignal open", "render_crashed", 0),
    "signal-page": ("pages 2\nsignal 2", "render_crashed", 1),
    "raise-open": ("pages 1\nraise open", "unreadable", 0),
    "raise-page": ("pages 2\nraise 1", "unreadable", 1),
    "rubbish-open": ("pages 1\nrubbish open", "unreadable", 0),
    "junk-open": ("pages 1\njunk open", "render_crashed", 0),
    "rubbish-page": ("pages 2\nrubbish 2", "unreadable", 1),
}
"""Orders, the code of the row, and how many pages are read all the same."""
MEANINGLESS = ["run_id", "created_at", "engine_seconds", "gpu_seconds", "cost"]


def play(request: Request) -> scripted.Play:
    pages = [page.number for page in request.pages]
    return scripted.says(json.dumps({"answer": f"{pages}", "pages": pages[:1], "quote": None}))


def answers(settings: RunSettings) -> pd.DataFrame:
    return pd.read_parquet(Path(settings.output) / "answers").drop(columns=MEANINGLESS).set_index("source")


# Of junk in its pipe, the library of the pool complains in a thread of its own.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_a_worker_does_costs_its_own_row_and_no_other(
    compose: Callable[..., RunSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_kind.register(monkeypatch)
    scripted.install(monkeypatch, play)
    for folder in ("good", "mixed"):
        (tmp_path / folder).mkdir()
        for number, name in enumerate(BAD):  # as many good ones, each beside a bad one
            Image.new("RGB", (64, 64), (20 * number, 0, 0)).save(tmp_path / folder / f"{name}-good.png")
    for name, (orders, _, _) in BAD.items():
        (tmp_path / "mixed" / f"{name}.fault").write_text(orders)
    (tmp_path / "mixed" / "talks.fault").write_text("pages 1\nprint open\n")
    given = ["engine=vllm", "task=qa", "task.question=Which?", "raster.page_timeout_s=6"]
    alone = compose(f"input={tmp_path / 'good'}", f"output={tmp_path / 'alone'}", *given)
    execute(alone)
    mixed = compose(f"input={tmp_path / 'mixed'}", "raster.workers=2", "raster.worker_memory_mb=700", *given)
    execute(mixed)
    found = answers(mixed)
    wanted = {f"{name}.fault": code for name, (_, code, _) in BAD.items()}
    assert found["error_code"][list(wanted)].to_dict() == wanted
    assert found["pages_read"][list(wanted)].to_dict() == {f"{n}.fault": p for n, (_, _, p) in BAD.items()}
    assert found["status"]["talks.fault"] == "ok"
    good = answers(alone)
    assert found.index.is_unique
    assert len(found) == len(good) + len(BAD) + 1
    pd.testing.assert_frame_equal(found.loc[good.index], good, check_dtype=False)
