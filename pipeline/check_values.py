"""Check the values of composed settings: a mistake costs one line before anything is read or written."""

from __future__ import annotations

import math
import re
import resource
import tempfile
from dataclasses import fields, is_dataclass
from pathlib import Path

from pipeline import objects
from pipeline.config import (
    BudgetSettings,
    CostSettings,
    EvaluateSettings,
    ExportSettings,
    PageSettings,
    RunSettings,
)
from pipeline.errors import SettingsError

_FIRST_BYTES = 1 << 16
"""More than Hydra's record of a run takes, which is written before anything else."""
_LEAST_MEMORY_MB, _LEAST_FILES = 2048, 128
_CROPS = ("none", "ink", "zoom")
_PAGES = ("auto", "all", "none")
_FORMATS = ("csv", "xlsx", "jsonl", "markdown")
_METHODS = ("auto", "isotonic", "platt")
_TABLES = ("answers", "documents", "requests")


def check_run(settings: RunSettings) -> None:
    """Raise SettingsError for a run that could not be what its settings say."""
    from pipeline.engines.choose import ENGINES

    if settings.engine.name not in ENGINES:
        raise SettingsError(f"engine={settings.engine.name}: must be one of {', '.join(ENGINES)}")
    _check_numbers(settings)
    if settings.shard.count < 1:
        raise SettingsError(f"shard.count={settings.shard.count}: must be at least 1")
    if not 0 <= settings.shard.index < settings.shard.count:
        raise SettingsError(f"shard.index={settings.shard.index}: must be 0 to {settings.shard.count - 1}")
    if settings.pack.max_images < 1 or settings.task.max_output_tokens < 1:
        raise SettingsError("pack.max_images and task.max_output_tokens: must be at least 1")
    if settings.raster.crop not in _CROPS:
        raise SettingsError(f"raster.crop={settings.raster.crop}: must be one of {', '.join(_CROPS)}")
    _check_money(settings)
    if settings.evaluate.min_score is not None and not 0 <= settings.evaluate.min_score <= 1:
        raise SettingsError(f"evaluate.min_score={settings.evaluate.min_score:g}: must be 0 to 1")
    if settings.evaluate.gold is not None and not Path(settings.evaluate.gold).is_file():
        raise SettingsError(f"evaluate.gold={settings.evaluate.gold}: there is no such file; check the path")
    if settings.task.max_output_tokens >= settings.model.context_tokens:
        raise SettingsError(
            f"task.max_output_tokens: leaves no room in {settings.model.context_tokens} tokens"
        )
    if objects.is_url(settings.input):
        _check_url("input", settings.input)
    elif not (Path(settings.input).exists() or re.search(r"[*?\[]", settings.input)):
        raise SettingsError(f"input={settings.input}: there is no such file or folder; check the path")
    _check_limits()
    if objects.is_url(settings.output):
        _check_url("output", settings.output)
    else:
        _check_writable(Path(settings.output))


def _check_numbers(settings: object, above: str = "") -> None:
    """Raise SettingsError for a number that is none, or below zero: no setting means anything by it.

    Compared with, `nan` is neither above nor below: nothing would be marked for review, and no time run out.
    """
    for field in fields(settings):  # type: ignore[arg-type]  # a dataclass, like all below it
        value = getattr(settings, field.name)
        if is_dataclass(value):
            # On the command line the settings of an engine stand beside each other.
            _check_numbers(value, above if above == "engine." else f"{field.name}.")
        elif isinstance(value, int | float) and not value >= 0:
            raise SettingsError(f"{above}{field.name}={value}: must be 0 or more")


def _check_url(name: str, url: str) -> None:
    """Raise SettingsError for a URL that names no bucket, or holds what must not be written down."""
    try:
        objects.parse(url)
    except SettingsError as error:
        raise SettingsError(f"{name}={error}") from None
    objects.check_installed()


def _check_money(settings: RunSettings) -> None:
    given = {
        **_numbers("cost", settings.cost),
        **_numbers("budget", settings.budget),
        "pilot": settings.pilot,
    }
    for name, value in given.items():
        if value is not None and not (0 <= value < math.inf):
            raise SettingsError(f"{name}={value}: must be 0 or more")
    if settings.pilot and settings.evaluate.min_score is not None:
        raise SettingsError(
            f"pilot={settings.pilot}: a sample is not published behind evaluate.min_score; leave that out for"
            " the pilot"
        )
    if settings.pilot and settings.shard.planned:
        raise SettingsError(f"pilot={settings.pilot}: a shard of a plan has its inputs; run the pilot before")
    if settings.budget.money is not None and not any(_numbers("cost", settings.cost).values()):
        raise SettingsError("budget.money: needs a price; set cost.gpu_hour_price or cost.core_hour_price")


def _numbers(section: str, settings: CostSettings | BudgetSettings) -> dict[str, float | None]:
    return {f"{section}.{field.name}": getattr(settings, field.name) for field in fields(settings)}


def _check_limits() -> None:
    """Raise SettingsError under limits with which libraries crash rather than say what they lack."""
    memory, _ = resource.getrlimit(resource.RLIMIT_AS)
    if memory != resource.RLIM_INFINITY and memory < _LEAST_MEMORY_MB << 20:
        raise SettingsError(
            f"this shell allows {memory >> 20} MB of address space (ulimit -v), and a run takes"
            f" {_LEAST_MEMORY_MB} MB; raise it"
        )
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < _LEAST_FILES:
        raise SettingsError(f"this shell allows {most} open files (ulimit -n); a run needs {_LEAST_FILES}")
    if files < _LEAST_FILES:
        # A process may raise its own limit up to the hard one.
        resource.setrlimit(resource.RLIMIT_NOFILE, (_LEAST_FILES, most))


def _check_writable(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        # Tried, not asked: permission bits say little on network file systems and nothing to root.
        with tempfile.TemporaryFile(dir=output) as file:
            file.write(bytes(_FIRST_BYTES))  # a full disk gives names, and no room
            file.flush()
    except OSError as error:
        raise SettingsError(
            f"output={output}: cannot be written ({error.strerror}); choose another folder"
        ) from error


def check_export(settings: ExportSettings) -> None:
    """Raise SettingsError for a format or table that there is not."""
    if settings.format not in _FORMATS:
        raise SettingsError(f"format={settings.format}: must be one of {', '.join(_FORMATS)}")
    if not settings.tables or not set(settings.tables) <= set(_TABLES):
        raise SettingsError(f"tables={settings.tables}: must be among {', '.join(_TABLES)}")


def check_evaluate(settings: EvaluateSettings) -> None:
    """Raise SettingsError where it is not clear what to do."""
    wanted = [name for name in ("run", "vectors", "dataset") if getattr(settings, name) is not None]
    if len(wanted) != 1:
        raise SettingsError("run=, vectors=, dataset=: give one of them; --help explains each")
    if settings.method not in _METHODS:
        raise SettingsError(f"method={settings.method}: must be one of {', '.join(_METHODS)}")
    if settings.dataset is not None and not (settings.files and settings.to):
        raise SettingsError("dataset=: also needs files=PARQUET and to=FOLDER")


def check_pages(settings: PageSettings) -> None:
    """Raise SettingsError for page images that could not be made."""
    if settings.pages not in _PAGES:
        raise SettingsError(f"report.pages={settings.pages}: must be one of {', '.join(_PAGES)}")
    if not (1 <= settings.quality <= 100 and 100 <= settings.page_px <= 10_000):
        raise SettingsError("report.quality and report.page_px: must be 1 to 100 and 100 to 10000")
