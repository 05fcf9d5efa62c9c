"""Say what a run is and how far it has come: the contents of run.json."""

from __future__ import annotations

import dataclasses
import datetime as dt
import importlib.metadata
import os
import sys
import time
import uuid

from pipeline.config import ModelSettings, RunSettings
from pipeline.engines.base import Served
from pipeline.flow.meter import Rate
from pipeline.records import FREE, Charge
from pipeline.summary import Summary
from pipeline.tables.run_record import Attempt, RunRecord

_PACKAGES = (
    "docbatch",
    "vllm",
    "torch",
    "pymupdf",
    "mistral_common",
    "pyarrow",
    "pillow",
    "rapidocr",
    "openai",
)


class Account:
    """What stays the same from the beginning of a run to its end, and its counts."""

    def __init__(
        self, settings: RunSettings, engine: str, model: str, settings_hash: str, served: Served | None = None
    ) -> None:
        """`engine` and `model` are the columns of that name: who answers, and whose words they are."""
        self.run_id = uuid.uuid4().hex
        self.begun = dt.datetime.now(dt.UTC)
        self._begun = time.monotonic()
        self.summary = Summary()
        self.engine, self.model, self.settings_hash = engine, model, settings_hash
        self._settings = settings
        self.spent_before = FREE
        """By the runs that this one continues."""
        self.reserved = FREE
        """What is under way is expected to cost."""
        self._versions = {"python": sys.version.split()[0], **{name: _version(name) for name in _PACKAGES}}
        if served is not None:
            self._versions |= {"served_model": served.model, "server": served.version}

    def continue_from(self, before: RunRecord | None, plan_id: str | None, rate: Rate) -> None:
        """Take over what the runs have spent that this one continues: of its plan, or unfinished."""
        if before is None:
            return
        # What is complete was paid for: the next run has a budget of its own.
        goes_on = before.plan_id == plan_id if plan_id else before.attempt.state != "complete"
        if goes_on:
            self.spent_before = spent(before, rate)

    def spent(self, rate: Rate) -> Charge:
        """Return what this run has spent, and those that it continues."""
        return _spent(self.summary, self.spent_before, rate)

    def record(
        self,
        state: str,
        error: str | None,
        prompt_date: dt.date,
        plan_id: str | None,
        before: RunRecord | None,
        missing: dict[str, int],
    ) -> RunRecord:
        """Return the run's record in a state; `before` is that of the last run on the same shard."""
        now = dt.datetime.now(dt.UTC)
        # Not by the dates, which jump when somebody sets the clock.
        self.summary.seconds = time.monotonic() - self._begun
        # Attempts at another plan say nothing about this one.
        is_same_plan = before is not None and plan_id is not None and before.plan_id == plan_id
        # A run that ended has nothing under way; one that was killed leaves what it had reserved, as spent.
        reserved = self.reserved if state == "running" else FREE
        return RunRecord(
            attempt=Attempt(
                run_id=self.run_id,
                state=state,
                error=error,
                begun=self.begun.isoformat(),
                ended=now.isoformat(),
                job=os.environ.get("SLURM_JOB_ID"),
                node=os.environ.get("SLURMD_NODENAME"),
                summary=self.summary,
            ),
            plan_id=plan_id,
            earlier_attempts=before.attempts if before is not None and is_same_plan else [],
            missing=missing,
            spent_before=self.spent_before._asdict(),
            reserved=reserved._asdict(),
            prompt_date=prompt_date.isoformat(),
            settings_hash=self.settings_hash,
            engine=self.engine,
            model=self.model,
            model_license=_license(self._settings.model) if self.engine != "embedded" else None,
            settings=dataclasses.asdict(self._settings),
            versions=self._versions,
        )


def spent(record: RunRecord, rate: Rate) -> Charge:
    """Return what a run and those that it continues have spent, with what it had under way."""
    known = _spent(record.attempt.summary, Charge(**record.spent_before), rate)
    reserved = Charge(**record.reserved)
    return Charge(known.gpu_seconds + reserved.gpu_seconds, known.cost + reserved.cost)


def _spent(summary: Summary, before: Charge, rate: Rate) -> Charge:
    # No row has it, but the GPUs were held: a budget that left it out would be passed.
    loading = rate.charge(summary.loading_gpu_seconds)
    return Charge(
        before.gpu_seconds + summary.gpu_seconds + loading.gpu_seconds,
        before.cost + summary.cost + loading.cost,
    )


def _license(model: ModelSettings) -> dict[str, str]:
    """Return what the licence of the model asks to go with its output."""
    return {"name": model.license, "url": model.license_url, "notice": model.notice.strip()}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"
