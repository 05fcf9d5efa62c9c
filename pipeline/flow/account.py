"""Say what a run is and how far it has come: the contents of run.json."""

from __future__ import annotations

import dataclasses
import datetime as dt
import importlib.metadata
import os
import sys
import uuid
from typing import Any

from pipeline.config import ModelSettings, RunSettings
from pipeline.records import Summary

_PACKAGES = ("docbatch", "vllm", "torch", "pymupdf", "mistral_common", "pyarrow", "pillow", "rapidocr")
_KEPT = ("run_id", "state", "error", "begun", "ended", "job", "node", "summary")


class Account:
    """What stays the same from the beginning of a run to its end."""

    def __init__(self, settings: RunSettings, engine: str, model: str) -> None:
        """`engine` and `model` are the columns of that name: who answers, and whose words they are."""
        self.run_id = uuid.uuid4().hex
        self.begun = dt.datetime.now(dt.UTC)
        self.summary = Summary()
        self._settings, self._engine, self._model = settings, engine, model
        self._versions = {name: _version(name) for name in _PACKAGES}

    def at(
        self, state: str, error: str | None, plan_id: str | None, earlier: list[dict[str, Any]], **more: Any
    ) -> dict[str, Any]:
        """Return the run's record in this state.

        `state` is running, complete, incomplete (answers are missing), interrupted or failed; `earlier` are
        the attempts before this one at the same shard of the plan `plan_id`.
        """
        now = dt.datetime.now(dt.UTC)
        if state == "running":
            self.summary.seconds = (now - self.begun).total_seconds()
        return {
            "run_id": self.run_id,
            "state": state,
            "error": error,
            "begun": self.begun.isoformat(),
            "ended": now.isoformat(),
            "plan_id": plan_id,
            "job": os.environ.get("SLURM_JOB_ID"),
            "node": os.environ.get("SLURMD_NODENAME"),
            "earlier_attempts": earlier,
            **more,
            "engine": self._engine,
            "model": self._model,
            "model_license": _license(self._settings.model) if self._engine != "embedded" else None,
            "summary": dataclasses.asdict(self.summary),
            "settings": dataclasses.asdict(self._settings),
            "versions": {"python": sys.version.split()[0], **self._versions},
        }


def attempts_before(record: dict[str, Any] | None, plan_id: str | None) -> list[dict[str, Any]]:
    """Return what the last record tells of earlier attempts at the same shard of the same plan."""
    if plan_id is None or record is None or record.get("plan_id") != plan_id:
        return []
    return [*record["earlier_attempts"], {name: record[name] for name in _KEPT}]


def _license(model: ModelSettings) -> dict[str, str]:
    """Return what the licence of the model asks to go with its output."""
    return {"name": model.license, "url": model.license_url, "notice": model.notice.strip()}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"
