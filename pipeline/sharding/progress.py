"""How far the shards of a plan are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import slurm, store
from pipeline.config import ShardSettings
from pipeline.errors import SettingsError
from pipeline.owner import is_alive
from pipeline.sharding import shards
from pipeline.tables import lock, run_record
from pipeline.tables.layout import shard_name
from pipeline.tables.run_record import Attempt

DONE, RUNNING, WAITING, FAILED = "done", "running", "waiting", "failed"


@dataclass(slots=True)
class ShardStatus:
    """How far one shard is."""

    shard: int
    state: str
    documents: int
    """Inputs that the plan gave it."""
    pages: int
    documents_done: int = 0
    pages_done: int = 0
    answers: int = 0
    pages_per_second: float = 0.0
    """Of the attempt that runs now."""
    errors: dict[str, int] = field(default_factory=dict)
    attempts: int = 0
    where: str = ""
    reason: str = ""


@dataclass(slots=True)
class Status:
    """How far a plan is."""

    output: str
    plan_id: str
    shards: list[ShardStatus]
    documents: int
    """Inputs in all, with those that had nothing left to do when the plan was made."""
    jobs: dict[str, str]
    """What Slurm says of the submitted jobs."""

    def count(self, state: str) -> int:
        """Count the shards in a state."""
        return sum(shard.state == state for shard in self.shards)

    @property
    def pages_per_second(self) -> float:
        """Of all tasks that run now together."""
        return sum(shard.pages_per_second for shard in self.shards)

    @property
    def seconds_left(self) -> float | None:
        """Until all pages are read at the present rate; None when nothing runs."""
        left = sum(shard.pages - shard.pages_done for shard in self.shards if shard.state != DONE)
        return left / self.pages_per_second if self.pages_per_second else None


def status(output: str) -> Status:
    """Read how far a plan is. Raises OutputError when there is no plan, SettingsError for no such folder."""
    folder = store.folder(output)
    if not folder.is_dir():
        raise SettingsError(f"output={output}: there is no such folder")
    plan = shards.read(folder)
    tried = attempts(folder, plan)
    jobs = slurm.submitted(folder)
    queue = slurm.queue(jobs)
    listed = [_shard(folder, plan, shard, tried.get(shard, []), queue) for shard in range(plan.count)]
    states = {name: slurm.count_states(queue, ids) for name, ids in jobs.items()} if queue is not None else {}
    return Status(output, plan.plan_id, listed, plan.inputs, states)


def attempts(output: Path, plan: shards.Plan) -> dict[int, list[Attempt]]:
    """Return what was written about each attempt at the shards of a plan, the latest last."""
    found = {}
    for shard in range(plan.count):
        record = run_record.read(_folder(output, plan, shard) / "run.json")
        # The journal may still have what an earlier plan of the same size has left.
        if record is not None and record.plan_id == plan.plan_id:
            found[shard] = record.attempts
    return found


def _folder(output: Path, plan: shards.Plan, shard: int) -> Path:
    return output / "_journal" / shard_name(ShardSettings(index=shard, count=plan.count, planned=True))


def _shard(
    output: Path, plan: shards.Plan, shard: int, tries: Sequence[Attempt], queue: slurm.Queue | None
) -> ShardStatus:
    rows = list(plan.rows(shard))
    found = ShardStatus(shard=shard, state=WAITING, documents=len(rows), pages=sum(row.pages for row in rows))
    queued = slurm.waiting_task(output, shard, queue)
    if not tries:
        if not rows:
            found.state = DONE
        # Only where jobs/submit.sh has noted jobs: without them, shards are started by hand.
        elif queue is not None and queued is None and (output / "_journal" / "jobs").exists():
            found.state, found.reason = FAILED, "no task has worked on it, and none is queued"
        return found
    last = tries[-1]
    found.attempts = len(tries)
    found.errors = last.summary.errors
    found.where = f", job {last.job} on {last.node}" if last.job else ""
    for name, key in (("documents_done", "documents"), ("pages_done", "pages"), ("answers", "answered")):
        setattr(found, name, sum(getattr(each.summary, key) for each in tries))
    found.documents_done = min(found.documents_done, found.documents)
    found.pages_done = min(found.pages_done, found.pages)  # what is read again after a stop is not new
    found.state, found.reason = _state(output, plan, shard, last, queued)
    if found.state == DONE:
        found.documents_done, found.pages_done = found.documents, found.pages
    if found.state == RUNNING and last.summary.seconds:
        found.pages_per_second = last.summary.pages / last.summary.seconds
    return found


def _state(output: Path, plan: shards.Plan, shard: int, last: Attempt, queued: str | None) -> tuple[str, str]:
    """Return the state of a shard that a task has worked on, and why if that needs to be said."""
    if last.state == "complete":
        return DONE, ""
    # What is written last does not say whether the task still lives: the lock does.
    owner = lock.read(_folder(output, plan, shard) / "lock")
    if last.state == "running" and owner is not None and is_alive(owner) is not False:
        return RUNNING, ""
    if queued is not None:
        return WAITING, f"{last.state}, queued again" if last.state != "running" else "died, queued again"
    if last.state == "running":
        return FAILED, "ended without writing a final state (killed or out of memory)"
    return FAILED, last.error or last.state
