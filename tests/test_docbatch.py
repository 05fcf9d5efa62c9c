"""The installed command: help that explains, exit 0 for it, a path alone as the input."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import usage
from pipeline.compose import with_input
from pipeline.docbatch import COMMANDS
from pipeline.errors import SettingsError
from pipeline.flow.identity import EFFECTS


def docbatch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.docbatch", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself_with_two_examples_and_exit_status_0(name: str) -> None:
    ended = docbatch(name, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    examples = [
        line for line in ended.stdout.splitlines() if line.startswith(("  docbatch ", "    python -m"))
    ]
    assert len(examples) >= 2, ended.stdout
    assert not any("Traceback" in line for line in ended.stdout.splitlines())


def test_the_command_alone_lists_what_there_is() -> None:
    ended = docbatch()
    assert ended.returncode == 0
    assert all(f"\n  {name} " in ended.stdout for name in COMMANDS)
    assert docbatch("--version").stdout.startswith("docbatch ")


def test_a_misspelt_command_is_not_taken_for_an_input() -> None:
    ended = docbatch("reprot", "output=runs/march")
    assert ended.returncode == 1
    assert ended.stderr == "error: reprot: is no command and no path; did you mean docbatch report?\n"


def test_help_says_what_every_setting_means() -> None:
    settings = [*usage.main_settings(), *(s for group in usage.settings_of_groups().values() for s in group)]
    assert not [setting.name for setting in settings if not setting.meaning]
    shown = {setting.name for setting in settings}
    nested = {re.sub(r"^engine\.(vllm|embedded|server)\.", "engine.", name) for name in EFFECTS}
    assert nested == shown


def test_a_path_alone_is_the_input(tmp_path: Path) -> None:
    odd = tmp_path / "a=b, it's.pdf"
    odd.touch()
    escaped = str(odd).replace("'", "\\'")
    assert with_input([str(odd), "task=qa"]) == [f"input='{escaped}'", "task=qa"]
    assert with_input(["--cfg", "job"]) == ["--cfg", "job"]
    assert with_input(["--config-dir", "own", "pdfs/"]) == ["input='pdfs/'", "--config-dir", "own"]
    assert with_input(["task=qa", "+engine.args.seed=1", "~task"]) == [
        "task=qa",
        "+engine.args.seed=1",
        "~task",
    ]
    with pytest.raises(SettingsError, match=r"a\.pdf b\.pdf …: only one input; .* a glob in quotes"):
        with_input(["a.pdf", "b.pdf", "c.pdf"])


def test_a_file_is_answered_by_its_path_alone(make_pdf: Callable[..., Path], tmp_path: Path) -> None:
    file = make_pdf("in/it's one.pdf", "The crate is in the yard.")
    ended = docbatch(
        str(file), "engine=embedded", "engine.workers=1", "raster.workers=1", f"output={tmp_path / 'out'}"
    )
    assert ended.returncode == 0, ended.stderr
    assert "inputs   1 = 1 ok + 0 error" in ended.stdout


def test_bash_completes_commands_settings_and_choices() -> None:
    script = docbatch("completion").stdout
    tried = {
        "docbatch sta": ["status"],
        "docbatch run task.quest": ["task.question=", "task.questions="],
        "docbatch run task = c": ["chart", "classify"],
        "docbatch run engine =": ["auto", "embedded", "server", "vllm"],
        "docbatch export output = x format = x": ["xlsx"],
        "docbatch report report.pa": ["report.pages=", "report.page_px="],
        "docbatch run input = /etc/hostn": ["/etc/hostname"],
    }
    asked = "\n".join(
        f"COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _docbatch; echo ${{COMPREPLY[@]}}"
        for line in tried
    )
    ended = subprocess.run(["bash"], input=f"{script}\n{asked}", capture_output=True, text=True, check=False)
    found = [sorted(line.split()) for line in ended.stdout.splitlines()]
    assert found == [sorted(words) for words in tried.values()], ended.stderr
