"""Compose the settings of a command from conf/ and what is given, by Hydra; check_values.py checks them.

What comes out are the dataclasses of config.py: nothing behind this module knows Hydra.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline import check_values
from pipeline.config import (
    DiffSettings,
    EmbeddedSettings,
    EvaluateSettings,
    ExportSettings,
    ReportSettings,
    RunSettings,
    ServerSettings,
    VllmSettings,
)
from pipeline.errors import SettingsError

# In a wheel conf/ lies inside the package; in a checkout, beside it.
CONF = next(p for p in (Path(__file__).parent / "conf", Path(__file__).parent.parent / "conf") if p.is_dir())

_ENGINES = {"embedded": EmbeddedSettings, "vllm": VllmSettings, "server": ServerSettings}


def to_settings(config: DictConfig) -> RunSettings:
    """Turn a composed config into typed settings; raises SettingsError naming the key that is wrong."""
    settings = _typed(RunSettings, _by_engine(config))
    check_values.check_run(settings)
    return settings


_Settings = TypeVar("_Settings", RunSettings, ReportSettings, DiffSettings, ExportSettings, EvaluateSettings)


def _typed(kind: type[_Settings], config: DictConfig) -> _Settings:
    try:
        merged = OmegaConf.merge(OmegaConf.structured(kind), config)
        if missing := sorted(OmegaConf.missing_keys(merged)):
            raise SettingsError(f"{missing[0]}: has no value; set {missing[0]}=… on the command line")
        settings = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise SettingsError(f"{_full_key(error)}: {_one_line(error)}") from error
    assert isinstance(settings, kind)
    return settings


def _by_engine(config: DictConfig) -> DictConfig:
    """Give each engine its own settings: on the command line they stand side by side under `engine`."""
    given = config.copy()
    engine = {str(key): value for key, value in given.engine.items_ex(resolve=False)}
    own = {
        name: {field.name: engine[field.name] for field in fields(kind) if field.name in engine}
        for name, kind in _ENGINES.items()
    }
    # Afterwards: some settings are those of two engines.
    engine = {name: value for name, value in engine.items() if not any(name in each for each in own.values())}
    # conf/ has the flat names alone, so the nested ones are new to the struct.
    OmegaConf.set_struct(given, False)
    given.engine = {**engine, **own}
    return given


_WITH_VALUE = {
    "--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--package", "-p", "--cfg", "-c",
    "--info", "-i", "--experimental-rerun",
}  # fmt: skip


def with_input(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with a path that stands alone as `input=…`. Raises SettingsError for several."""
    found: list[str] = []
    others: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        is_alone = not argument.startswith(("-", "~", "+")) and before not in _WITH_VALUE
        is_path = is_alone and ("=" not in argument or Path(argument).exists())
        (found if is_path else others).append(argument)
    if len(found) > 1:
        raise SettingsError(
            f"{found[0]} {found[1]}{' …' if len(found) > 2 else ''}: only one input; give their folder, or a"
            " glob in quotes, such as 'pdfs/*.pdf', which the shell then leaves alone"
        )
    if not found:
        return others
    # Hydra would read the commas, brackets and = of a path as grammar of its own.
    quoted = found[0].replace("\\", "\\\\").replace("'", "\\'")
    return [f"input='{quoted}'", *others]


def check_arguments(arguments: Sequence[str]) -> RunSettings | None:
    """Compose the settings before Hydra makes any folder, so that a mistake costs one line.

    None with options of Hydra's own, such as --multirun: Hydra explains what is wrong with those.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("overrides", nargs="*")
    given, others = parser.parse_known_args(list(arguments))
    if others:
        return None
    overrides = [o for o in given.overrides if not o.startswith("hydra.") or o.startswith("hydra.searchpath")]
    if given.config_dir:
        overrides.append(f"hydra.searchpath=[file://{Path(given.config_dir).resolve()}]")
    return compose_settings(overrides)


def compose_settings(overrides: Sequence[str]) -> RunSettings:
    """Compose settings as the command line would; raises SettingsError naming the override that is wrong."""
    try:
        config = _compose(overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise SettingsError(_explain(error, overrides)) from error
    return to_settings(config)


def composed_from(values: Mapping[str, object]) -> RunSettings:
    """Compose settings from values by their names on the command line, as Python has them.

    A group (`task`, `model`, `engine` …) is given the name of one of its files. Raises SettingsError naming
    what is wrong.
    """
    groups = [f"{name}={value}" for name, value in values.items() if (CONF / name).is_dir()]
    known = known_settings("config")
    try:
        config = _compose(groups)
        for name, value in values.items():
            if f"{name}={value}" in groups:
                continue
            if name not in known:
                raise SettingsError(_unknown(name, known))
            OmegaConf.update(config, name, _literal(value), merge=False)
    except (HydraException, OmegaConfBaseException) as error:
        raise SettingsError(_explain(error, groups)) from error
    return to_settings(config)


def _literal(value: object) -> object:
    """Return a value as OmegaConf holds it; `${` in a text of Python's is no reference to a setting."""
    if isinstance(value, str):
        return value.replace("${", r"\${")
    if isinstance(value, Mapping):
        return {str(name): _literal(inner) for name, inner in value.items()}
    if isinstance(value, Sequence):
        return [_literal(item) for item in value]
    return str(value) if isinstance(value, os.PathLike) else value


def compose_report(overrides: Sequence[str]) -> ReportSettings:
    """Compose the settings of a report; raises SettingsError naming the override that is wrong."""
    settings = _compose_as(ReportSettings, "report", overrides)
    check_values.check_pages(settings.report)
    return settings


def compose_diff(overrides: Sequence[str]) -> DiffSettings:
    """Compose the settings of a comparison; raises SettingsError naming the override that is wrong."""
    settings = _compose_as(DiffSettings, "diff", overrides)
    check_values.check_pages(settings.report)
    return settings


def compose_export(overrides: Sequence[str]) -> ExportSettings:
    """Compose the settings of an export; raises SettingsError naming the override that is wrong."""
    settings = _compose_as(ExportSettings, "export", overrides)
    check_values.check_export(settings)
    return settings


def compose_evaluate(overrides: Sequence[str]) -> EvaluateSettings:
    """Compose the settings of an evaluation; raises SettingsError naming the override that is wrong."""
    settings = _compose_as(EvaluateSettings, "evaluate", overrides)
    check_values.check_evaluate(settings)
    return settings


def _compose_as(kind: type[_Settings], config: str, overrides: Sequence[str]) -> _Settings:
    try:
        composed = _compose(overrides, config)
    except (HydraException, OmegaConfBaseException) as error:
        raise SettingsError(_explain(error, overrides, config)) from error
    return _typed(kind, composed)


def _explain(error: Exception, overrides: Sequence[str], config: str = "config") -> str:
    """Say in one line which override is wrong and what was probably meant."""
    text = _one_line(error)
    # Hydra's errors have no fields that say which: their text is all there is.
    if match := re.search(r"Could not find '([\w/]+)/([^']+)'", text):
        group, name = match.groups()
        if group == "hydra/launcher":
            return f"{group}={name}: is not installed; launcher=slurm needs pip install 'docbatch[slurm]'"
        files = (file.stem for file in (CONF / group).glob("*.yaml"))
        # Tasks of public data sets are for those who score models: last.
        names = sorted(files, key=lambda known: (known.startswith("benchmark_"), known))
        return f"{group}={name}: is unknown; there are {', '.join(names)}"
    if match := re.search(r"Could not override '([^']+)'", text):
        return _unknown(match[1], known_settings(config))
    if isinstance(error, OverrideParseException) or "Ambiguous value" in text:
        return f"{text}; quote a value that holds , = ( ) or quotes, like 'input=\"a, b\"'"
    return text


def _unknown(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"{name}: there is no such setting" + (f"; did you mean {near[0]}?" if near else "")


def known_settings(config: str) -> list[str]:
    """Return every setting, as it is written on the command line."""
    keys: list[str] = []
    for key, value in _compose([], config).items_ex(resolve=False):
        keys.append(str(key))
        if isinstance(value, DictConfig):
            # One level is all there is on the command line.
            keys += [f"{key!s}.{inner!s}" for inner in value]
    return keys


_COMPOSING = threading.Lock()


def _compose(overrides: Sequence[str], config: str = "config") -> DictConfig:
    # Hydra has one state for the whole process, which may be that of another Hydra app that calls us.
    with _COMPOSING:
        theirs, their_base = GlobalHydra.instance().hydra, VersionBase.instance().version_base
        GlobalHydra.instance().clear()
        try:
            with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
                return hydra.compose(config, overrides=list(overrides))
        finally:
            GlobalHydra.instance().hydra = theirs
            VersionBase.instance().version_base = their_base


def _one_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _full_key(error: OmegaConfBaseException) -> str:
    key = str(error.full_key) if isinstance(error.full_key, str) else "settings"
    return re.sub(r"^engine\.(embedded|vllm|server)\.", "engine.", key)
