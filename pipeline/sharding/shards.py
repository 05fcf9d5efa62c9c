"""Keep a plan where the tasks of its shards find it: plan.parquet."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import store
from pipeline.config import RunSettings, ShardSettings
from pipeline.errors import OutputError
from pipeline.flow.inputs import Inputs
from pipeline.reading import source
from pipeline.sharding.prediction import PlanRow
from pipeline.sharding.sample import Unit
from pipeline.tables import columns, journal


@dataclass(frozen=True, slots=True)
class Plan:
    """What `plan=true` found and divided: one row per input."""

    plan_id: str
    count: int
    settings_hash: str
    """Of the settings that answers depend on: tasks with others would answer other questions."""
    table: pa.Table

    def rows(self, shard: int | None = None) -> Iterator[PlanRow]:
        """Yield the rows of one shard, or of all inputs, in the order of the inputs."""
        table = self.table if shard is None else self.table.filter(pc.equal(self.table["shard"], shard))
        # The task is there for people who read the plan.
        for batch in table.drop_columns(["task"]).to_batches():
            for row in batch.to_pylist():
                yield PlanRow(**row)

    @property
    def inputs(self) -> int:
        """How many inputs there are."""
        return int(self.table.num_rows)


def inputs(settings: RunSettings) -> Inputs:
    """Return the inputs that the plan gives a shard. Raises OutputError when the plan is of another size."""
    plan = read_for(store.folder(settings.output), settings.shard)
    files = [(source.location(row.path), row.source) for row in plan.rows(settings.shard.index)]
    return Inputs(
        documents=source.listed(files, settings.source, settings.raster.scratch),
        sources=[name for _, name in files],
        count=len(files),
        plan_id=plan.plan_id,
        plan_settings_hash=plan.settings_hash,
    )


def write(output: Path, rows: Sequence[PlanRow], task: str, count: int, settings_hash: str) -> None:
    """Write plan.parquet, whole or not at all."""
    target = output / "plan.parquet"
    # In the file itself: a plan and what it is a plan of must not part.
    about = {"plan_id": uuid.uuid4().hex, "shards": str(count), "settings_hash": settings_hash}
    listed = [{**asdict(row), "task": task} for row in rows]
    table = pa.Table.from_pylist(listed, schema=columns.PLAN.with_metadata(about))
    with store.disk_errors(output):
        journal.write_parquet(store.aside(target), table)
        store.settle(store.aside(target), target)


def write_units(output: Path, settings_hash: str, units: Sequence[Unit]) -> None:
    """Write what a pilot chooses its sample from, whole or not at all."""
    target = output / "pilot.parquet"
    listed = [(unit.name, *unit.stratum, unit.predicted) for unit in units]
    columns_ = [pa.array(column) for column in zip(*listed, strict=True)]
    table = pa.Table.from_arrays(columns_, names=_UNIT).replace_schema_metadata(
        {"settings_hash": settings_hash}
    )
    with store.disk_errors(output):
        journal.write_parquet(store.aside(target), table)
        store.settle(store.aside(target), target)


def read_units(output: Path, settings_hash: str) -> list[Unit]:
    """Return what an earlier pilot with the same settings chose from; nothing where there was none."""
    store.fetch(output / "pilot.parquet")
    try:
        table = pq.read_table(output / "pilot.parquet")
    # None, or a damaged one: units are made anew, and all that is lost is the sample of before.
    except (OSError, pa.ArrowException):
        return []
    if (table.schema.metadata or {}).get(b"settings_hash") != settings_hash.encode():
        return []
    rows = zip(*(table[name].to_pylist() for name in _UNIT), strict=True)
    return [Unit(name, tuple(stratum), predicted) for name, *stratum, predicted in rows]


_UNIT = ["name", "kind", "language", "size", "folder", "predicted"]


def read(output: Path) -> Plan:
    """Read plan.parquet. Raises OutputError when there is none."""
    file = output / "plan.parquet"
    store.fetch(file)
    if not file.exists():
        raise OutputError(f"output={output}: has no plan; make one with plan=true shard.count=…")
    with journal.damage_named(file, "plan again"):
        table = pq.read_table(file)
    about = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if "plan_id" not in about:
        raise OutputError(f"output={output}: plan.parquet is of an earlier version; plan again")
    return Plan(about["plan_id"], int(about["shards"]), about["settings_hash"], table)


def read_for(output: Path, shard: ShardSettings) -> Plan:
    """Read the plan that a shard is part of. Raises OutputError when it is of another number of shards."""
    plan = read(output)
    if plan.count != shard.count:
        raise OutputError(
            f"output={output}: the plan has {plan.count} shards, not {shard.count};"
            f" use shard.count={plan.count}"
        )
    return plan
