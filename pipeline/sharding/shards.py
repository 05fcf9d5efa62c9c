"""Divide inputs into shards of equal cost, and keep that plan where the shards' tasks find it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import ShardSettings
from pipeline.errors import OutputError
from pipeline.tables import columns, journal


@dataclass(frozen=True, slots=True)
class Plan:
    """What `plan=true` found and divided: one row per input."""

    plan_id: str
    count: int
    settings_hash: str
    """Of the settings that answers depend on: tasks with others would answer other questions."""
    rows: pa.Table

    def of(self, shard: int) -> pa.Table:
        """Return the rows of one shard, in the order of the inputs."""
        return self.rows.filter(pa.compute.equal(self.rows["shard"], shard))


def write(output: Path, rows: Sequence[Mapping[str, Any]], count: int, settings_hash: str) -> None:
    """Write plan.parquet, whole or not at all."""
    target = output / "plan.parquet"
    about = {"plan_id": uuid.uuid4().hex, "shards": str(count), "settings_hash": settings_hash}
    table = pa.Table.from_pylist(list(rows), schema=columns.PLAN.with_metadata(about))
    with journal.disk_errors(output):
        journal.write_parquet(journal.aside(target), table)
        journal.aside(target).rename(target)


def read(output: Path) -> Plan:
    """Read plan.parquet. Raises OutputError when there is none."""
    file = output / "plan.parquet"
    try:
        table = pq.read_table(file)
    except FileNotFoundError as error:
        raise OutputError(f"output={output}: has no plan; make one with plan=true shard.count=…") from error
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
