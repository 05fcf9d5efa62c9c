"""Ask Slurm about jobs: the one place that runs squeue."""

from __future__ import annotations

import contextlib
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

Queue = dict[tuple[str, str], str]
"""(job, index in its array or N/A) → state."""

_TIMEOUT_S = 30
# PENDING and REQUEUED too: no process of the job is running, though it will run again.
_ENDED = {"PENDING", "COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL",
          "DEADLINE", "OUT_OF_MEMORY", "REVOKED", "REQUEUED", "SPECIAL_EXIT", "REQUEUE_HOLD"}  # fmt: skip
_UNFINISHED = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED", "CONFIGURING", "RUNNING", "COMPLETING"}


def job_state(job: str) -> str | None:
    """Return what Slurm says of a job, COMPLETED for one it has forgotten; None when it cannot be asked."""
    # The last task of an array has the id of the array, for which squeue lists all of its tasks.
    if (lines := _squeue(job, "%A %T")) is None:
        return None
    states = [state for own, state in map(str.split, lines) if own == job]
    return next((state for state in states if state not in _ENDED), "COMPLETED")


def has_ended(state: str) -> bool:
    """Tell whether no process of a job in this state is running."""
    return state in _ENDED


def is_any_unfinished(jobs: Sequence[str]) -> bool | None:
    """Tell whether Slurm is still to run, or runs, any of these jobs; None when it cannot be asked."""
    lines = _squeue(",".join(jobs), "%T") if jobs else []
    return None if lines is None else any(state.strip() in _UNFINISHED for state in lines)


def submitted(output: Path) -> dict[str, list[str]]:
    """Return the ids of the jobs that `jobs/submit.sh` submitted last, by what they do."""
    found: dict[str, list[str]] = {}
    for name, job, *_ in _submissions(output):
        found.setdefault(name, []).append(job)
    return found


def queue(jobs: Mapping[str, Sequence[str]]) -> Queue | None:
    """Return the states of jobs and of the tasks of their arrays; None when Slurm cannot be asked."""
    ids = [job for each in jobs.values() for job in each]
    if not ids or (lines := _squeue(",".join(ids), "%F %K %T")) is None:
        return None
    return {(job, index): state for job, index, state in map(str.split, lines)}


def waiting_task(output: Path, shard: int, states: Queue | None) -> str | None:
    """Return the state of the array task that is to work on a shard, if Slurm is still to run it."""
    # Slurm bounds the indices of an array (MaxArraySize): many shards are several, each with its first.
    for name, job, *first in _submissions(output) if states is not None else []:
        if name == "answer":
            state = (states or {}).get((job, str(shard - int(first[0]))))
            if state in _UNFINISHED:
                return state
    return None


def count_states(states: Queue, jobs: Sequence[str]) -> str:
    """Count the tasks of jobs by state, in words."""
    counted = Counter(state for (job, _), state in states.items() if job in jobs)
    named = [f"{count} {state}" if count > 1 else state for state, count in sorted(counted.items())]
    return ", ".join(named) or "ended"


def _submissions(output: Path) -> list[list[str]]:
    """Read what `jobs/submit.sh` wrote: a line per job with its task, its id and its first shard."""
    with contextlib.suppress(FileNotFoundError):
        return [line.split() for line in (output / "_journal" / "jobs").read_text().splitlines()]
    return []


def _squeue(jobs: str, columns: str) -> list[str] | None:
    """List jobs, a line per task; empty for jobs that Slurm has forgotten, None when it cannot be asked."""
    # --array: else all waiting tasks of an array are one line.
    command = ["squeue", "--noheader", "--array", "--states=all", f"--jobs={jobs}", f"--format={columns}"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if asked.returncode:
        # What squeue says of a job some minutes after its end.
        return [] if "Invalid job id" in asked.stderr else None
    return asked.stdout.splitlines()
