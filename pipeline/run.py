"""Run the pipeline: `python -m pipeline.run input=pdfs/`. Start reading at `execute`: it is the flow."""

from __future__ import annotations

import itertools
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pipeline.command import CONF, EXIT_INTERRUPTED, check_arguments, fail, log_to, signals_raise, to_settings
from pipeline.config import RunSettings, whole
from pipeline.errors import Interrupted, PipelineError, SettingsError

if TYPE_CHECKING:
    from pipeline.flow.session import Assembly
    from pipeline.records import Summary, Window


def execute(settings: RunSettings) -> Summary:
    """Take documents to pages to requests to completions to answers to Parquet, window by window."""
    from pipeline.flow.session import Assembly

    with signals_raise(), Assembly(settings) as run:
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
    from pipeline.asking import windows as order

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
    for window_number, window in enumerate(windows):
        run.ask(window, window_number)
        held.append((window_number, window))
        if len(held) > run.engine.windows_ahead:
            run.wait_for(held[0][0])
            yield held.popleft()[1]
    for window_number, window in held:
        run.wait_for(window_number)
        yield window


def plan(settings: RunSettings) -> str:
    """Return what the run would do, as a table; write it to plan.parquet, divided into shard.count shards."""
    from pipeline.flow.session import Assembly

    with Assembly(whole(settings)) as run:
        return run.plan(settings.shard.count)


# ---- the edge: Hydra, settings, signals, exit codes ----


def main() -> None:
    """Check the command line, then let Hydra compose it and run."""
    if not set(sys.argv[1:]) & {"--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i"}:
        try:
            check_arguments(sys.argv[1:])
        except PipelineError as error:
            fail(error)
    hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(_run)()


def _run(config: DictConfig) -> None:
    try:
        settings = to_settings(config)
        log_to(Path(HydraConfig.get().runtime.output_dir))
        if settings.plan:
            print(plan(settings))
            return
        from pipeline.flow.progress import describe

        summary = execute(settings)
    except PipelineError as error:
        fail(error)
    except Interrupted as signalled:
        print(f"interrupted by {signalled}: finished work is saved; run again to continue", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    print(describe(summary, settings.output))
    if settings.strict and summary.failed:
        fail(
            SettingsError(
                f"strict=true: {summary.failed} answers are errors; they are in {settings.output}/answers"
            )
        )


if __name__ == "__main__":
    main()
