"""What run.json says: how far a run is, with which settings and versions, and what it did."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.errors import OutputError
from pipeline.records import Json
from pipeline.summary import Summary


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One run, or one task's attempt at its shard of a plan."""

    run_id: str
    state: str
    """running, complete, pilot, incomplete (answers are missing), interrupted or failed"""
    error: str | None
    begun: str
    ended: str
    job: str | None
    """Slurm's id of the job."""
    node: str | None
    summary: Summary


@dataclass(slots=True, kw_only=True)
class RunRecord:
    """The contents of run.json."""

    attempt: Attempt
    plan_id: str | None
    earlier_attempts: list[Attempt] = field(default_factory=list)
    """At the same shard of the same plan."""
    missing: dict[str, int] = field(default_factory=dict)
    """Answers that each shard still lacks."""
    spent_before: dict[str, float] = field(default_factory=dict)
    """gpu_seconds and cost of the runs that this one continues."""
    reserved: dict[str, float] = field(default_factory=dict)
    """The same of what is under way, as it is expected; kept by a run that was killed."""
    prompt_date: str
    settings_hash: str
    engine: str
    model: str
    model_license: dict[str, str] | None
    settings: dict[str, Json]
    versions: dict[str, str]

    def __post_init__(self) -> None:
        # Here, whoever makes or reads a record: it is shown to all who read the answers, by the report too.
        raster = self.settings.get("raster")
        if isinstance(raster, dict) and raster.get("password") is not None:
            self.settings = self.settings | {"raster": raster | {"password": "(given)"}}

    def to_json(self) -> str:
        """Return the file's text: one object, with the attempt's own values at its top."""
        values = asdict(self)
        return (
            # `default`: settings may hold whatever YAML gives, dates too.
            json.dumps({**values.pop("attempt"), **values}, indent=2, ensure_ascii=False, default=str) + "\n"
        )

    @property
    def attempts(self) -> list[Attempt]:
        """All attempts, the latest last."""
        return [*self.earlier_attempts, self.attempt]


def read(file: Path) -> RunRecord | None:
    """Read a run.json; None when there is none. Raises OutputError when it is damaged."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        earlier = [_attempt(each) for each in values.pop("earlier_attempts")]
        attempt = _attempt({name: values.pop(name) for name in Attempt.__slots__})
        return RunRecord(attempt=attempt, earlier_attempts=earlier, **values)
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise OutputError(f"{file}: is not a run.json of this version ({error}); delete it") from error


def _attempt(values: dict[str, object]) -> Attempt:
    summary = values.pop("summary")
    return Attempt(summary=Summary(**summary), **values)  # type: ignore[arg-type]
