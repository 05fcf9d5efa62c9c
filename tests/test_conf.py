from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import quoted

from pipeline.compose import CONF
from pipeline.config import RunSettings
from pipeline.errors import SettingsError

GROUPS = sorted(f"{file.parent.name}={file.stem}" for file in CONF.glob("*/*.yaml"))


@pytest.mark.parametrize("choice", GROUPS)
def test_every_choice_composes_into_typed_settings(compose: Callable[..., RunSettings], choice: str) -> None:
    extra = (
        ["task.schema={type: object, properties: {a: {type: string}}}"] if choice == "task=extract" else []
    )
    assert compose("input=.", choice, *extra).input == "."


@pytest.mark.parametrize(
    "name", ["a, b", "x=y", "(1)", "[2]", "it's", 'say "hi"', "$HOME", "日本 語", "a#b", "50%"]
)
def test_any_path_can_be_given_when_it_is_quoted(
    compose: Callable[..., RunSettings], tmp_path: Path, name: str
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    assert compose(f"input={quoted(folder)}").input == str(folder)


@pytest.mark.parametrize("option", [["--help"], ["--cfg", "job"]])
def test_help_and_the_settings_are_shown_without_loading_anything_heavy(option: list[str]) -> None:
    code = (
        "import sys, runpy; sys.argv = ['run', *sys.argv[1:]]\n"
        "heavy = {'pymupdf', 'pyarrow', 'pandas', 'mistral_common', 'numpy'}\n"
        "try: runpy.run_module('pipeline.run', run_name='__main__')\n"
        "finally: print('HEAVY', sorted(set(sys.modules) & heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code, *option], capture_output=True, text=True)
    assert done.returncode == 0
    assert "HEAVY []" in done.stdout
    assert "task" in done.stdout


def test_a_task_of_ones_own_is_one_yaml_file(tmp_path: Path) -> None:
    """A folder given with --config-dir can hold tasks: nothing of the package is touched."""
    own = tmp_path / "conf" / "task"
    own.mkdir(parents=True)
    text = (CONF / "task" / "qa.yaml").read_text().replace("name: qa", "name: signature")
    (own / "signature.yaml").write_text(text.replace("question: null ", "question: Who signed? "))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "zero.pdf").touch()
    arguments = [f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}", "task=signature"]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.run", "--config-dir", str(tmp_path / "conf"), *arguments],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "1 error" in done.stdout


@pytest.mark.parametrize(
    "given",
    [
        "engine.review_below=nan", "raster.page_timeout_s=nan", "raster.workers=-1", "engine.outage_s=-1",
        "sink.journal_seconds=nan", "shard.count=0", "budget.gpu_hours=nan", "pack.window_tokens=-5",
    ],
)  # fmt: skip
def test_a_number_that_means_nothing_is_refused_by_its_name(
    compose: Callable[..., RunSettings], given: str
) -> None:
    with pytest.raises(SettingsError, match=rf"^{given}.*: must be "):
        compose("input=.", given)
