"""Identify the process that owns a lock or a folder, and tell later whether it still lives.

A dead owner is recognised by what it wrote of itself and never by age: a process of this host by its start,
a job of another host by asking Slurm.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import shutil
import socket
import tempfile
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline import slurm


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, as others can find it."""

    token: str
    host: str
    boot: str
    """Identity of the running kernel: after a reboot no process of before is alive."""
    pid_namespace: str
    """Process numbers mean the same only within it."""
    pid: int
    started: int
    """Clock ticks from the start of the kernel to that of the process."""
    job: str | None
    """Slurm's id of the job, unique for every task of an array."""
    restart: int
    """How often Slurm has requeued the job."""
    node: str | None
    since: str

    def __str__(self) -> str:
        job = f"Slurm job {self.job} on {self.node}, " if self.job else ""
        return f"{job}process {self.pid} on {self.host}, since {self.since}"


def this_process() -> Owner:
    """Describe this process, under a token that no other call gives."""
    return Owner(
        token=uuid.uuid4().hex[:12],
        host=socket.gethostname(),
        boot=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        pid_namespace=str(Path("/proc/self/ns/pid").readlink()),
        pid=os.getpid(),
        started=_started(os.getpid()) or 0,
        job=os.environ.get("SLURM_JOB_ID"),
        restart=int(os.environ.get("SLURM_RESTART_COUNT") or 0),
        node=os.environ.get("SLURMD_NODENAME"),
        since=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )


def is_alive(owner: Owner) -> bool | None:
    """Tell whether an owner is still running; None when that cannot be known from here."""
    here = this_process()
    # Numbers of processes are given out again: only with its start does one mean the same process.
    if (owner.host, owner.boot, owner.pid_namespace) == (here.host, here.boot, here.pid_namespace):
        return _started(owner.pid) == owner.started
    if owner.job is not None and (state := slurm.job_state(owner.job)) is not None:
        return not slurm.has_ended(state)
    # In another container of this host its processes are out of sight, unless that host has been restarted.
    if owner.host == here.host and owner.boot != here.boot:
        return False
    return None


def _started(pid: int) -> int | None:
    """Return the start of a process in clock ticks (proc(5), field 22); None when it has ended."""
    try:
        # The name before it, in brackets, may hold spaces and brackets itself.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # A zombie holds nothing any more: it waits for its parent to look.
    return None if fields[0] in "ZX" else int(fields[19])


_FILE = "owner.json"


def private_folder(kind: str, parent: Path | None = None) -> Path:
    """Make a folder that only this user can enter; those of its kind that dead processes left are deleted."""
    parent = parent or Path(tempfile.gettempdir())
    for other in parent.glob(f"docbatch-{kind}-*"):
        # Of another version, or just being made: it is left alone.
        with contextlib.suppress(OSError, ValueError, TypeError):
            # Anyone can make a name in the temporary folder, and let it lead to files of ours.
            of_us = not other.is_symlink() and other.stat().st_uid == os.geteuid()
            if of_us and is_alive(Owner(**json.loads((other / _FILE).read_text()))) is False:
                shutil.rmtree(other)
    folder = Path(tempfile.mkdtemp(prefix=f"docbatch-{kind}-", dir=parent))
    (folder / _FILE).write_text(json.dumps(asdict(this_process())))
    return folder
