"""Run the pipeline: `python -m pipeline.run input=pdfs/`. Start reading at `execute`: it is the flow."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import itertools
import logging
import os
import re
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.config import RunSettings, ShardSettings
from pipeline.errors import Interrupted, PipelineError, SettingsError

if TYPE_CHECKING:
    from pipeline.assembly import Assembly
    from pipeline.records import Summary, Window

# In a wheel conf/ lies inside the package; in a checkout, beside it.
CONF = next(p for p in (Path(__file__).parent / "conf", Path(__file__).parent.parent / "conf") if p.is_dir())

EXIT_OK, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 75


def execute(settings: RunSettings) -> Summary:
    """Take documents to pages to requests to completions to answers to Parquet, window by window."""
    from pipeline.assembly import Assembly

    with _signals_raise(), Assembly(settings) as run:
        try:
            run.record("running")
            windows = run.rasterizer.render(to_answer(run))
            for window in answered(run, windows):
                run.checkpoint(window)
                run.rasterizer.release(window)
            run.finish()
            run.tables.publish(complete=True)
            run.record("complete")
        except BaseException as error:
            run.stop(error)
            raise
        return run.summary


def to_answer(run: Assembly) -> Iterator[Window]:
    """Yield the windows of what is still to be answered; the engine is built when there is a first one."""
    from pipeline import order

    chunks = run.chunks(run.outlines())
    if (first := next(chunks, None)) is None:
        return
    run.build_engine()
    yield from order.windows(itertools.chain([first], chunks), run.window_tokens)


def answered(run: Assembly, windows: Iterator[Window]) -> Iterator[Window]:
    """Yield each window once the last of its answers is in.

    The engine holds the next windows meanwhile, as many as it wants, so that it never waits for one.
    """
    held: deque[tuple[int, Window]] = deque()
    for turn, window in enumerate(windows):
        run.ask(window, turn)
        held.append((turn, window))
        if len(held) > run.engine.windows_ahead:
            run.wait_for(held[0][0])
            yield held.popleft()[1]
    for turn, window in held:
        run.wait_for(turn)
        yield window


def plan(settings: RunSettings) -> str:
    """Return what the run would do, as a table; write it to plan.parquet, divided into shard.count shards."""
    from pipeline.assembly import Assembly

    with Assembly(whole(settings)) as run:
        return run.plan(settings.shard.count)


def whole(settings: RunSettings) -> RunSettings:
    """Return the settings of a run over all inputs, which publishes what its shards have journaled."""
    return dataclasses.replace(settings, shard=ShardSettings(index=0, count=1, planned=False))


# ---- the edge: Hydra, settings, signals, exit codes ----


def main() -> None:
    """Check the command line, then let Hydra compose it and run."""
    if not set(sys.argv[1:]) & {"--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i"}:
        try:
            _check(sys.argv[1:])
        except PipelineError as error:
            _fail(error)
    hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(_run)()


def _run(config: DictConfig) -> None:
    try:
        settings = to_settings(config)
        _log_to(Path(HydraConfig.get().runtime.output_dir))
        if settings.plan:
            print(plan(settings))
            return
        from pipeline.progress import describe

        summary = execute(settings)
    except PipelineError as error:
        _fail(error)
    except Interrupted as signalled:
        print(f"interrupted by {signalled}: finished work is saved; run again to continue", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    print(describe(summary, settings.output))
    if settings.strict and summary.failed:
        _fail(
            SettingsError(
                f"strict=true: {summary.failed} answers are errors; they are in {settings.output}/answers"
            )
        )


def to_settings(config: DictConfig) -> RunSettings:
    """Turn a composed config into typed settings; raises SettingsError naming the key that is wrong."""
    try:
        merged = OmegaConf.merge(OmegaConf.structured(RunSettings), config)
        missing = sorted(OmegaConf.missing_keys(merged))
        if missing:
            raise SettingsError(f"{missing[0]}: has no value; set {missing[0]}=… on the command line")
        settings = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise SettingsError(f"{_full_key(error)}: {_one_line(error)}") from error
    assert isinstance(settings, RunSettings)
    _check_values(settings)
    return settings


def _check_values(settings: RunSettings) -> None:
    from pipeline.engines.base import ENGINES

    if settings.engine.name not in ENGINES:
        raise SettingsError(f"engine={settings.engine.name}: must be one of {', '.join(ENGINES)}")
    if not 0 <= settings.shard.index < settings.shard.count:
        raise SettingsError(f"shard.index={settings.shard.index}: must be 0 to {settings.shard.count - 1}")
    if settings.pack.max_images < 1 or settings.task.max_output_tokens < 1:
        raise SettingsError("pack.max_images and task.max_output_tokens: must be at least 1")
    if settings.task.max_output_tokens >= settings.model.context_tokens:
        raise SettingsError(
            f"task.max_output_tokens: leaves no room in {settings.model.context_tokens} tokens"
        )
    if not (Path(settings.input).exists() or re.search(r"[*?\[]", settings.input)):
        raise SettingsError(f"input={settings.input}: there is no such file or folder; check the path")
    _check_writable(Path(settings.output))


def _check_writable(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise SettingsError(
            f"output={output}: cannot be written ({error.strerror}); choose another folder"
        ) from error


def _check(arguments: Sequence[str]) -> None:
    """Compose the settings before Hydra makes any folder, so that a mistake costs one line."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("overrides", nargs="*")
    given, others = parser.parse_known_args(list(arguments))
    if others:  # Hydra's own options, such as --multirun: Hydra explains what is wrong with them
        return
    overrides = [o for o in given.overrides if not o.startswith("hydra.") or o.startswith("hydra.searchpath")]
    if given.config_dir:
        overrides.append(f"hydra.searchpath=[file://{Path(given.config_dir).resolve()}]")
    compose_settings(overrides)


def compose_settings(overrides: Sequence[str]) -> RunSettings:
    """Compose settings as the command line would; raises SettingsError naming the override that is wrong."""
    try:
        config = _compose(overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise SettingsError(_explain(error, overrides)) from error
    return to_settings(config)


def _explain(error: Exception, overrides: Sequence[str]) -> str:
    """Say in one line which override is wrong and what was probably meant."""
    text = _one_line(error)
    if match := re.search(r"Could not find '([\w/]+)/([^']+)'", text):
        group, name = match.groups()
        if group == "hydra/launcher":
            return f"{group}={name}: is not installed; launcher=slurm needs pip install 'docbatch[slurm]'"
        names = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
        return f"{group}={name}: is unknown; there are {', '.join(names)}"
    if match := re.search(r"Could not override '([^']+)'", text):
        near = difflib.get_close_matches(match[1], _known_keys(), n=1)
        return f"{match[1]}: there is no such setting" + (f"; did you mean {near[0]}?" if near else "")
    if isinstance(error, OverrideParseException) or "Ambiguous value" in text:
        return f"{text}; quote a value that holds , = ( ) or quotes, like 'input=\"a, b\"'"
    return text


def _known_keys() -> list[str]:
    """Return every setting, as it is written on the command line."""
    keys: list[str] = []
    for key, value in _compose([]).items_ex(resolve=False):
        keys.append(str(key))
        if isinstance(value, DictConfig):
            keys += [f"{key!s}.{inner!s}" for inner in value]
    return keys


def _compose(overrides: Sequence[str]) -> DictConfig:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", overrides=list(overrides))


def _one_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _full_key(error: OmegaConfBaseException) -> str:
    return str(error.full_key) if isinstance(error.full_key, str) else "settings"


def _fail(error: Exception) -> None:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(EXIT_FAILED)


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Turn the first SIGTERM, SIGINT or SIGUSR1 into Interrupted; ignore further ones while work is saved."""
    names = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {name: signal.getsignal(name) for name in names}
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        for name in names:
            signal.signal(name, signal.SIG_IGN)
        if os.getpid() == owner:
            raise Interrupted(signal.Signals(number).name)

    for name in names:
        signal.signal(name, stop)
    try:
        yield
    finally:
        for name, handler in before.items():
            if signal.getsignal(name) is stop:
                signal.signal(name, handler)


def _log_to(folder: Path) -> None:
    """Log to the run's folder in full and to stderr what matters."""
    logger = logging.getLogger("pipeline")
    logger.setLevel(logging.INFO)
    file, terminal = logging.FileHandler(folder / "run.log", encoding="utf-8"), logging.StreamHandler()
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.handlers = [file, terminal]


if __name__ == "__main__":
    main()
