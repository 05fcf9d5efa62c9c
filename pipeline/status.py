"""Show how far the shards of a plan are, while they run too: `python -m pipeline.status output=runs/m`."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import lock, shards
from pipeline.config import ShardSettings
from pipeline.errors import PipelineError, SettingsError
from pipeline.sink import shard_name

DONE, RUNNING, WAITING, FAILED = "done", "running", "waiting", "failed"
_QUEUE_TIMEOUT_S = 30
_MOST_LINES = 40
_QUEUED = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED", "CONFIGURING"}


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


def main() -> None:
    """Print the status; exit 1 with one line when there is none."""
    given = dict(each.partition("=")[::2] for each in sys.argv[1:])
    if set(given) - {"output", "json"} or "output" not in given:
        sys.exit("usage: python -m pipeline.status output=DIR [json=true]")
    try:
        found = status(given["output"])
    except PipelineError as error:
        sys.exit(f"error: {error}")
    print(as_json(found) if given.get("json") == "true" else describe(found))


def status(output: str) -> Status:
    """Read how far a plan is. Raises OutputError when there is no plan, SettingsError for no such folder."""
    folder = Path(output)
    if not folder.is_dir():
        raise SettingsError(f"output={output}: there is no such folder")
    plan = shards.read(folder)
    tried = attempts(folder, plan)
    jobs = submitted(folder)
    queue = _queue(jobs)
    listed = [_shard(folder, plan, shard, tried.get(shard, []), queue) for shard in range(plan.count)]
    states = {name: ", ".join(_states(queue, ids)) for name, ids in jobs.items()} if queue is not None else {}
    return Status(output, listed, plan.rows.num_rows, states)


def attempts(output: Path, plan: shards.Plan) -> dict[int, list[dict[str, Any]]]:
    """Return what was written about each attempt at the shards of a plan, the latest last."""
    found = {}
    for shard in range(plan.count):
        try:
            last = json.loads((_folder(output, plan, shard) / "run.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        if last["plan_id"] == plan.plan_id:
            found[shard] = [*last["earlier_attempts"], last]
    return found


def submitted(output: Path) -> dict[str, list[str]]:
    """Return the ids of the jobs that `jobs/submit.sh` submitted last, by what they do."""
    found: dict[str, list[str]] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in (output / "_journal" / "jobs").read_text().splitlines():
            name, job, *_ = line.split()
            found.setdefault(name, []).append(job)
    return found


def describe(found: Status) -> str:
    """Return the status as a few lines."""
    errors: Counter[str] = Counter()
    for shard in found.shards:
        errors.update(shard.errors)
    states = ", ".join(f"{found.count(state)} {state}" for state in (DONE, RUNNING, WAITING, FAILED))
    total = sum(shard.documents for shard in found.shards)
    lines = [
        f"shards     {len(found.shards)}: {states}",
        f"documents  {sum(s.documents_done for s in found.shards)} of {total}"
        f" ({found.documents - total} of {found.documents} needed nothing)",
        f"pages      {sum(s.pages_done for s in found.shards)} of {sum(s.pages for s in found.shards)}",
        f"answers    {sum(s.answers for s in found.shards)} new, {errors.total()} errors"
        + (f": {', '.join(f'{code} {count}' for code, count in sorted(errors.items()))}" if errors else ""),
    ]
    if found.seconds_left is not None:
        lines.append(f"rate       {found.pages_per_second:.1f} pages/s; {_time(found.seconds_left)} left")
    lines += [f"{name:11}{state}" for name, state in found.jobs.items()]
    shown = [shard for shard in found.shards if shard.state in (RUNNING, FAILED) or shard.reason]
    for shard in shown[:_MOST_LINES]:
        tries = f", attempt {shard.attempts}" if shard.attempts > 1 else ""
        lines.append(
            f"  shard {shard.shard:<5}{shard.state:9}{shard.pages_done} of {shard.pages} pages"
            f"{tries}{shard.where}{': ' + shard.reason if shard.reason else ''}"
        )
    if len(shown) > _MOST_LINES:
        lines.append(f"  and {len(shown) - _MOST_LINES} more; json=true shows all")
    return "\n".join(lines)


def as_json(found: Status) -> str:
    """Return the status for programs."""
    import dataclasses

    more = {"pages_per_second": found.pages_per_second, "seconds_left": found.seconds_left}
    return json.dumps(dataclasses.asdict(found) | more, indent=1, ensure_ascii=False)


# ---- inside ----

_Queue = dict[tuple[str, str], str]
"""(job, index in its array or N/A) → state."""


def _folder(output: Path, plan: shards.Plan, shard: int) -> Path:
    return output / "_journal" / shard_name(ShardSettings(index=shard, count=plan.count, planned=True))


def _shard(
    output: Path, plan: shards.Plan, shard: int, tries: Sequence[dict[str, Any]], queue: _Queue | None
) -> ShardStatus:
    rows = plan.of(shard)
    found = ShardStatus(
        shard=shard, state=WAITING, documents=rows.num_rows, pages=sum(rows["pages"].to_pylist())
    )
    queued = _queued(output, shard, queue)
    if not tries:
        if not rows.num_rows:
            found.state = DONE
        elif queue is not None and queued is None and (output / "_journal" / "jobs").exists():
            found.state, found.reason = FAILED, "no task has worked on it, and none is queued"
        return found
    last = tries[-1]
    found.attempts = len(tries)
    found.errors = last["summary"]["errors"]
    found.where = f", job {last['job']} on {last['node']}" if last["job"] else ""
    for name, key in (("documents_done", "documents"), ("pages_done", "pages"), ("answers", "answered")):
        setattr(found, name, sum(each["summary"][key] for each in tries))
    found.documents_done = min(found.documents_done, found.documents)
    found.pages_done = min(found.pages_done, found.pages)  # what is read again after a stop is not new
    found.state, found.reason = _state(output, plan, shard, last, queued)
    if found.state == DONE:
        found.documents_done, found.pages_done = found.documents, found.pages
    if found.state == RUNNING and last["summary"]["seconds"]:
        found.pages_per_second = last["summary"]["pages"] / last["summary"]["seconds"]
    return found


def _state(
    output: Path, plan: shards.Plan, shard: int, last: dict[str, Any], queued: str | None
) -> tuple[str, str]:
    """Return the state of a shard that a task has worked on, and why if that needs to be said."""
    if last["state"] == "complete":
        return DONE, ""
    owner = lock.read(_folder(output, plan, shard) / "lock")
    if last["state"] == "running" and owner is not None and lock.is_alive(owner) is not False:
        return RUNNING, ""
    if queued is not None:
        return WAITING, f"{last['state']}, queued again" if last[
            "state"
        ] != "running" else "died, queued again"
    if last["state"] == "running":
        return FAILED, "died without a word"
    return FAILED, last["error"] or last["state"]


def _queued(output: Path, shard: int, queue: _Queue | None) -> str | None:
    """Return the state of the array task that is to work on a shard, if Slurm is still to run it."""
    if queue is None:
        return None
    for line in (output / "_journal" / "jobs").read_text().splitlines():
        name, job, *more = line.split()
        if name == "answer":
            state = queue.get((job, str(shard - int(more[0]))))
            if state in _QUEUED or state in ("RUNNING", "COMPLETING"):
                return state
    return None


def _queue(jobs: dict[str, list[str]]) -> _Queue | None:
    """Ask Slurm about jobs and the tasks of their arrays; None when it cannot be asked or knows none."""
    ids = [job for each in jobs.values() for job in each]
    if not ids:
        return None
    command = [
        "squeue",
        "--noheader",
        "--array",
        "--states=all",
        f"--jobs={','.join(ids)}",
        "--format=%F %K %T",
    ]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=_QUEUE_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if asked.returncode:
        return {} if "Invalid job id" in asked.stderr else None
    rows = (line.split() for line in asked.stdout.splitlines())
    return {(job, index): state for job, index, state in rows}


def _states(queue: _Queue, ids: Sequence[str]) -> list[str]:
    """Count the tasks of jobs by state."""
    counted = Counter(state for (job, _), state in queue.items() if job in ids)
    return [f"{count} {state}" if count > 1 else state for state, count in sorted(counted.items())] or [
        "ended"
    ]


def _time(seconds: float) -> str:
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {int(seconds % 60)} s"


if __name__ == "__main__":
    main()
