"""Run the pipeline: `python -m pipeline.run input=pdfs/`. Start reading at `execute`: it is the flow."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pipeline import store, usage
from pipeline.command import (
    EXIT_INTERRUPTED,
    errors_end_in_a_line,
    fail,
    ignore_signals,
    log_to,
    signals_raise,
    speak_utf8,
)
from pipeline.compose import CONF, check_arguments, to_settings, with_input
from pipeline.config import RunSettings
from pipeline.errors import Interrupted, OverBudget, SettingsError

if TYPE_CHECKING:
    from pipeline.flow.inputs import Inputs
    from pipeline.summary import Summary


def execute(settings: RunSettings, find: Callable[[], Inputs] | None = None) -> Summary:
    """Take documents to pages to requests to completions to answers to Parquet, window by window.

    `find` gives some of the inputs; what is known of the others then stays as it is.
    """
    from pipeline.asking.windows import windows
    from pipeline.evaluating.installed import gate_of
    from pipeline.flow import session

    with (
        signals_raise(),
        session.opened(settings, find or (lambda: inputs(settings)), gate_of(settings)) as run,
    ):
        try:
            run.record("running")
            for chunks in run.passes():
                # Before drawing: no page is drawn for a window that may not be asked.
                affordable = run.budget.within(windows(chunks, run.room_tokens))
                rendered = run.rasterizer.render(affordable)
                for window in run.exchange.answered(rendered, run.room_tokens):
                    run.checkpoint(window)
                    run.rasterizer.release(window)
            run.budget.check()
            run.finish(complete=find is None)
        except BaseException as error:
            run.stop(error)
            raise
        return run.summary


def inputs(settings: RunSettings) -> Inputs:
    """Find the inputs: those that the plan gives a shard of it, or else what `input` names."""
    from pipeline.flow.inputs import find_inputs
    from pipeline.sharding import balance, shards

    if settings.shard.planned:
        return shards.inputs(settings)
    return find_inputs(settings, balance.balance)


def pilot(settings: RunSettings) -> str:
    """Answer a sample of the inputs, and return the plan of all of them with what the sample says."""
    from pipeline.sharding import pilot

    return pilot.make(settings, lambda find: execute(settings, find))


def plan(settings: RunSettings) -> str:
    """Return what the run would do, as a table; write it to plan.parquet, divided into shard.count shards."""
    from pipeline.sharding import plan

    return plan.make(settings)


SUMMARY = """\
Answer questions about every document and chart below `input`: pages are drawn, packed into requests, put to a
model, and the answers written to Parquet. Run it again to continue, or to ask what is new."""
EXAMPLES = """
docbatch run pdfs/                          describe each document; tables in output/
docbatch run pdfs/ task=qa task.questions=questions.csv output=runs/march
docbatch run charts/ task=chart model.path=/models/pixtral-large engine.quantization=fp8
"""


def main() -> None:
    """Check the command line, then let Hydra compose it and run."""
    speak_utf8()
    usage.print_if_asked(usage.of_run(SUMMARY, EXAMPLES))
    with errors_end_in_a_line():
        sys.argv[1:] = with_input(sys.argv[1:])
    # Hydra makes its output folder first and shows a trace for mistakes: checked before, one line is enough.
    settings = None
    if not set(sys.argv[1:]) & {"--hydra-help", "--cfg", "-c", "--info", "-i"}:
        with errors_end_in_a_line():
            settings = check_arguments(sys.argv[1:])
    with store.opened(settings.output if settings else ".") as output:
        if settings and str(output) != str(Path(settings.output)):  # a folder that stands for object storage
            sys.argv.append(f"hydra.run.dir={output}/logs/{dt.datetime.now():%Y-%m-%dT%H-%M-%S}")
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(_run)()


def _run(config: DictConfig) -> None:
    with errors_end_in_a_line():
        settings = to_settings(config)
        log_to(Path(HydraConfig.get().runtime.output_dir))
        if settings.plan:
            print(plan(settings))
            return
        from pipeline.flow.progress import describe

        try:
            if settings.pilot:
                print(pilot(settings))
                return
            summary = execute(settings)
        except Interrupted as signalled:
            ignore_signals()
            print(
                f"interrupted by {signalled}: finished work is saved; run again to continue", file=sys.stderr
            )
            sys.exit(EXIT_INTERRUPTED)
        except OverBudget as stopped:
            print(f"stopped: {stopped}; finished work is saved", file=sys.stderr)
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
