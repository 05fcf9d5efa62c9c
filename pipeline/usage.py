"""Say what a command does, its settings with their meaning and default, and examples: the text of --help."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.compose import CONF

_WIDTH = 100
_NAME_WIDTH = 30
_SETTING = re.compile(r"(?P<name>\w+):(?:\s+(?P<value>[^#\s][^#]*?))?(?:\s+#\s*(?P<meaning>.*))?")
# One file of each group stands for all: they have the same settings.
_GROUPS = {
    "task": "describe",
    "model": "pixtral_large",
    "engine": "auto",
    "source": "all",
    "raster": "native",
    "pack": "default",
    "sink": "parquet",
}
_NESTED = ("shard", "cost", "budget", "evaluate")
"""Settings outside of any group that have settings below them."""


COMMANDS = {
    "run": "answer questions about documents and charts; tables in output/",
    "plan": "count what a run would do and predict its time; loads no model",
    "status": "how far a run, or the shards of a plan, are",
    "publish": "make the tables of what the shards of a plan have answered",
    "report": "write a page to look at, search and review",
    "evaluate": "how good the answers are: scores against what is right, and what confidence is worth",
    "diff": "what changed between two runs",
    "export": "the answers as CSV, XLSX, JSON Lines or Markdown",
    "fetch": "download a model's weights, ahead of a run",
    "ask": "ask the model one question, without any document",
    "serve": "run a vLLM server for as long as runs with engine=server need it",
    "completion": "let the shell complete commands and settings",
    "check": "tell whether a run would accept these settings",
}
"""What one runs, and what each is for."""


class Setting(NamedTuple):
    name: str
    default: str
    meaning: str


def print_if_asked(text: str | None) -> None:
    """Print help or the version and end with 0, where the command line asks for them."""
    if set(sys.argv[1:]) & {"--help", "-h"}:
        print((text or "").strip())
        sys.exit(0)
    if "--version" in sys.argv[1:]:
        print(f"docbatch {version()}")
        sys.exit(0)


def version() -> str:
    """Return the version of the installed distribution."""
    try:
        return importlib.metadata.version("docbatch")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed as a package)"


def of_run(summary: str, examples: str) -> str:
    """Return the help of a command that takes the settings of a run."""
    return "\n\n".join(
        [
            summary,
            textwrap.indent(textwrap.dedent(examples).strip("\n"), "  "),
            "Settings are written name=value, in any order. [ ]: the default. A path alone is the input.",
            _listed(main_settings()),
            *(_group(name, found) for name, found in settings_of_groups().items()),
            "--cfg job prints the settings as they would be; --config-dir DIR adds your own tasks.",
        ]
    )


def main_settings() -> list[Setting]:
    """Return the settings outside of any group."""
    # Neither the list of defaults at its beginning nor what is for Hydra at its end is a setting.
    lines = (CONF / "config.yaml").read_text(encoding="utf-8").split("\n\n", 1)[1].split("\nhydra:")[0]
    return list(_settings(lines.splitlines()))


def settings_of_groups() -> Mapping[str, list[Setting]]:
    """Return the settings of each group, by their names on the command line."""
    found = {}
    for group, chosen in _GROUPS.items():
        lines = (CONF / group / f"{chosen}.yaml").read_text(encoding="utf-8").splitlines()
        found[group] = [each._replace(name=f"{group}.{each.name}") for each in _settings(lines)]
    return found


def _settings(lines: Sequence[str]) -> Iterator[Setting]:
    """Yield the settings of a file of conf/; those one level down belong to the one above."""
    above = ""
    for line in lines:
        indent = len(line) - len(line.lstrip(" "))
        match = _SETTING.fullmatch(line.strip())
        if match is None or indent > (2 if above in _NESTED else 0):
            continue
        if indent == 0:
            above = match["name"]
            if above in _NESTED:
                continue
        name = f"{above}.{match['name']}" if indent else match["name"]
        yield Setting(name, _shown(match["value"]), match["meaning"] or "")


def _shown(value: str | None) -> str:
    """Return a default on one line: of texts and mappings of many lines only that there is one."""
    if value is None or value in (">-", "|"):
        return "…"
    return "" if value == "???" else value if len(value) <= 30 else f"{value[:29]}…"


def _group(name: str, settings: Sequence[Setting]) -> str:
    choices = ", ".join(sorted(file.stem for file in Path(CONF / name).glob("*.yaml")))
    return f"{name}={_GROUPS[name]}, of {choices}\n{_listed(settings)}"


def _listed(settings: Sequence[Setting]) -> str:
    return "\n".join(map(_line, settings))


def _line(setting: Setting) -> str:
    default = f" [{setting.default}]" if setting.default else ""
    return textwrap.fill(
        f"  {setting.name}".ljust(_NAME_WIDTH) + f"  {setting.meaning}{default}",
        _WIDTH,
        subsequent_indent=" " * (_NAME_WIDTH + 2),
        break_on_hyphens=False,
    )
