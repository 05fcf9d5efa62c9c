"""Hold a part of the output for one writer, whatever becomes of the one that held it before.

A lock is a file that says who holds it (`pipeline.owner`). Where two copies of one job overlap, because Slurm
lost a node whose processes live on, the later one takes the lock over, and the earlier one finds that out
before it writes anything more (`check`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from pipeline import store
from pipeline.errors import OutputError
from pipeline.owner import Owner, is_alive, this_process

_MOST_TRIES = 5


class Lock:
    """Exclusive right to write what `what` names, for as long as this process lives or until released."""

    def __init__(self, file: Path, what: str) -> None:
        self._file, self._what = file, what
        self._owner = this_process()

    def acquire(self) -> None:
        """Take the lock. Raises OutputError when a writer that is alive, or may be, holds it."""
        with _one_at_a_time(self._file.with_name(self._file.name + ".mutex")):
            for _ in range(_MOST_TRIES):
                tag = self.refuse_if_held()
                # On the disk, too: after a power failure an empty lock would have to be deleted by hand.
                if store.claim(self._file, json.dumps(asdict(self._owner)), tag, by=self._owner.token):
                    break
            else:
                raise OutputError(f"{self._what} is being claimed by other runs all the time; wait for these")
        # Where two could write it at the same moment, the file says which of them was last.
        self.check()

    def refuse_if_held(self) -> str | None:
        """Raise OutputError when another writer that is alive, or may be, holds the lock.

        Returns what a lock that is to be taken over is known by; None where there is none.
        """
        holder, tag = _read(self._file)
        self._refuse(holder)
        return tag

    def _refuse(self, holder: Owner | None) -> None:
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
        holder, tag = _read(self._file)
        # What another run has taken over is not ours to let go.
        if holder is not None and holder.token == self._owner.token:
            store.let_go(self._file, tag)

    @property
    def token(self) -> str:
        """What no other holder has: part of the names of files that two holders must not both write."""
        return self._owner.token


def read(file: Path) -> Owner | None:
    """Return who holds a lock, alive or not; None when nobody does."""
    return _read(file)[0]


def _read(file: Path) -> tuple[Owner | None, str | None]:
    """Return who holds a lock, and by what to claim it."""
    found = store.read_shared(file)
    if found is None:
        return None, None
    if not found[0] and found[1]:  # in object storage: let go
        return None, found[1]
    try:
        return Owner(**json.loads(found[0])), found[1]
    except (ValueError, TypeError) as error:
        raise OutputError(f"{file}: is not a lock of this program ({error}); delete it") from error


def _is_earlier_run_of(holder: Owner, owner: Owner) -> bool:
    """Tell whether Slurm has started a job again that held the lock: it has given the earlier run up."""
    return holder.job is not None and holder.job == owner.job and holder.restart < owner.restart


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
