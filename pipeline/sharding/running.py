"""How far the runs of an output are, those of no plan too."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.owner import is_alive
from pipeline.tables import lock, run_record
from pipeline.tables.layout import WHOLE
from pipeline.tables.run_record import Attempt, RunRecord


@dataclass(slots=True)
class RunStatus:
    """How far the last run over all inputs is, or over a share of them."""

    shard: str
    """Which share; empty for all inputs."""
    task: str
    state: str
    """running, complete, incomplete, interrupted, failed, or died: without writing how it ended."""
    begun: str
    seconds: float
    """How long it has run, or did."""
    inputs: int
    inputs_done: int
    pages: int
    answered: int
    reused: int
    errors: dict[str, int] = field(default_factory=dict)
    where: str = ""
    """Who runs it, where it runs now."""
    reason: str = ""
    """Why it ended, where that needs to be said."""

    @property
    def seconds_left(self) -> float | None:
        """Until all inputs are done at the rate so far; None where that cannot be told."""
        if self.state != "running" or not 0 < self.inputs_done < self.inputs:
            return None
        return self.seconds * (self.inputs - self.inputs_done) / self.inputs_done


def runs(output: Path, plan_id: str | None = None) -> list[RunStatus]:
    """Return the last run on each share of the inputs, but for those that belong to the plan `plan_id`."""
    found = []
    for folder in sorted((output / "_journal").glob("*-of-*")):
        record = run_record.read(folder / "run.json")
        if record is not None and (plan_id is None or record.plan_id != plan_id):
            found.append(_status(folder, record))
    return found


def _status(folder: Path, record: RunRecord) -> RunStatus:
    last, summary = record.attempt, record.attempt.summary
    state, where, reason = _state(folder, last)
    task = record.settings.get("task")
    return RunStatus(
        shard="" if folder.name == WHOLE else folder.name,
        task=str(task.get("name")) if isinstance(task, dict) else "",
        state=state,
        begun=last.begun,
        seconds=_seconds(last) if state == "running" else summary.seconds,
        # Runs of before `inputs_found` was counted have only those that they met.
        inputs=max(summary.inputs_found, summary.inputs),
        inputs_done=summary.inputs_done,
        pages=summary.pages,
        answered=summary.answered,
        reused=summary.reused,
        errors=summary.errors,
        where=where,
        reason=reason,
    )


def _state(folder: Path, last: Attempt) -> tuple[str, str, str]:
    """Return the state of a run, who runs it, and why it ended, as far as these need to be said."""
    if last.state != "running":
        return last.state, "", last.error or ""
    # What is written last does not say whether the run still lives: the lock does.
    owner = lock.read(folder / "lock")
    if owner is None or (alive := is_alive(owner)) is False:
        return "died", "", "ended without writing a final state (killed or out of memory); run again"
    return "running", f"{owner}" + ("" if alive else "; whether it lives cannot be told from here"), ""


def _seconds(last: Attempt) -> float:
    # Another machine may have noted when it began, by a clock that is ahead of this one.
    return max(0.0, (dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(last.begun)).total_seconds())
