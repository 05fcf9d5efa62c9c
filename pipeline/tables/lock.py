"""Hold a part of the output for one writer, whatever becomes of the one that held it before.

A lock is a file that says who holds it: process, host, Slurm job. A dead holder is recognised by these and
never by age: a process of this host by its start, a job of another host by asking Slurm. Where two copies
of one job overlap, because Slurm lost a node whose processes live on, the later one takes the lock over, and
the earlier one finds that out before it writes anything more (`check`).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import os
import socket
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline import slurm
from pipeline.errors import OutputError


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a lock."""

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


class Lock:
    """Exclusive right to write what `what` names, for as long as this process lives or until released."""

    def __init__(self, file: Path, what: str) -> None:
        self._file, self._what = file, what
        self._owner = _self()

    def acquire(self) -> None:
        """Take the lock. Raises OutputError when a writer that is alive, or may be, holds it."""
        with _one_at_a_time(self._file.with_name(self._file.name + ".mutex")):
            self.refuse_if_held()
            aside = self._file.with_name(f"{self._file.name}.{self._owner.token}")
            aside.write_text(json.dumps(asdict(self._owner)))
            aside.rename(self._file)
        self.check()

    def refuse_if_held(self) -> None:
        """Raise OutputError when another writer that is alive, or may be, holds the lock."""
        holder = read(self._file)
        if holder is None or holder.token == self._owner.token or _is_earlier_run_of(holder, self._owner):
            return
        alive = is_alive(holder)
        if alive is None:
            raise OutputError(
                f"{self._what} was last held by {holder}; whether that is still alive cannot be found out"
                f" from {self._owner.host}: if it is not, delete {self._file}"
            )
        if alive:
            raise OutputError(f"{self._what} is being written by another run ({holder}); wait for it to end")

    def check(self) -> None:
        """Raise OutputError when a later run of the same job has taken the lock over."""
        holder = read(self._file)
        if holder is None or holder.token != self._owner.token:
            by = f"by {holder}" if holder else "and let go"
            raise OutputError(f"{self._what} was taken over {by}; this run stops and writes nothing more")

    def release(self) -> None:
        """Give the lock up, if it is still held."""
        holder = read(self._file)
        if holder is not None and holder.token == self._owner.token:
            self._file.unlink(missing_ok=True)

    @property
    def token(self) -> str:
        """What no other holder has: part of the names of files that two holders must not both write."""
        return self._owner.token


def read(file: Path) -> Owner | None:
    """Return who holds a lock, alive or not; None when nobody does."""
    try:
        return Owner(**json.loads(file.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise OutputError(f"{file}: is not a lock of this program ({error}); delete it") from error


def is_alive(owner: Owner) -> bool | None:
    """Tell whether the holder of a lock is still running; None when that cannot be known from here."""
    here = _self()
    if (owner.host, owner.boot, owner.pid_namespace) == (here.host, here.boot, here.pid_namespace):
        return _started(owner.pid) == owner.started
    if owner.job is not None and (state := slurm.job_state(owner.job)) is not None:
        return not slurm.has_ended(state)
    if owner.host == here.host and owner.boot != here.boot:
        return False
    return None


def _is_earlier_run_of(holder: Owner, owner: Owner) -> bool:
    """Tell whether Slurm has started a job again that held the lock: it has given the earlier run up."""
    return holder.job is not None and holder.job == owner.job and holder.restart < owner.restart


def _self() -> Owner:
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


def _started(pid: int) -> int | None:
    """Return the start of a process in clock ticks (proc(5), field 22); None when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


@contextlib.contextmanager
def _one_at_a_time(file: Path) -> Iterator[None]:
    """Keep two processes from reading and replacing a lock at the same moment, where the file system can."""
    handle = os.open(file, os.O_CREAT | os.O_RDWR)
    try:
        # Without flock two may both replace a dead holder's lock: the first finds out by `check`.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
