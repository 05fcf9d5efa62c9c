"""A folder in which servers say where they are, and clients that they are at work.

servers/NAME holds the base URL of a server that is up; clients/NAME is written by a client again and again,
and jobs has the ids of Slurm jobs that are or will be clients. Nobody compares clocks: whoever watches a
client looks whether its file changes.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline import slurm, store
from pipeline.config import ServerSettings
from pipeline.engines.server.connect import base_url
from pipeline.errors import SettingsError

BEAT_S = 5.0
"""A client writes its file at least as often as this."""
_DEAD_AFTER_S = 12 * BEAT_S
_ASK_SLURM_S = 20.0
_MOST_BYTES = 2048


def urls(settings: ServerSettings) -> list[str]:
    """Return the base URLs of all servers: those of the settings, then those of the registry."""
    given = [base_url(url) for url in settings.urls]
    if settings.registry is not None:
        given += _announced(Path(settings.registry))
    return list(dict.fromkeys(given))


def _announced(registry: Path) -> Iterator[str]:
    for file in sorted((registry / "servers").glob("[!.]*.url")):
        with contextlib.suppress(
            OSError, UnicodeDecodeError, SettingsError
        ):  # taken back meanwhile, or foreign
            yield base_url(file.read_bytes()[:_MOST_BYTES].decode())


def _own_name() -> str:
    job = os.environ.get("SLURM_JOB_ID")
    return f"{socket.gethostname()}-{f'job-{job}' if job else os.getpid()}-{uuid.uuid4().hex[:8]}"


@contextlib.contextmanager
def announced(registry: Path, url: str) -> Iterator[None]:
    """Say where a server is for as long as it is."""
    file = registry / "servers" / f"{_own_name()}.url"
    with store.disk_errors(registry):
        store.make_folder(file.parent)
        store.write_text(file, url + "\n")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.unlink()


class Client:
    """A client's file in the registry: made, touched, and removed at its end."""

    def __init__(self, registry: Path) -> None:
        self._file = registry / "clients" / _own_name()

    def beat(self) -> None:
        """Show that this client is alive."""
        # A registry that cannot be written must not end a run: at worst the server stops too early.
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # Written, not touched: some network file systems keep the times of a client to themselves.
            self._file.write_text(f"{time.time_ns()}\n", encoding="ascii")

    def leave(self) -> None:
        """Say that this client is done."""
        with contextlib.suppress(OSError):
            self._file.unlink()


class Watch:
    """Looks whether there are clients, at work or in Slurm's queue."""

    def __init__(self, registry: Path) -> None:
        self._folder = registry / "clients"
        self._jobs = registry / "jobs"
        self._seen: dict[str, tuple[bytes, float]] = {}
        self._has_looked = False
        self.has_had_clients = False
        """There was one, whichever server was running then."""
        self._are_jobs_left = False
        self._asked_s = float("-inf")

    def has_clients(self, now_s: float) -> bool:
        """Tell whether anybody needs a server; `now_s`: a clock that never jumps."""
        needed = bool(self._alive(now_s)) or self._has_jobs(now_s)
        self.has_had_clients |= needed
        return needed

    def _has_jobs(self, now_s: float) -> bool:
        """Tell whether jobs that submit.sh has noted are not over; Slurm is asked now and then."""
        if now_s - self._asked_s >= _ASK_SLURM_S:
            self._asked_s = now_s
            with contextlib.suppress(OSError, UnicodeDecodeError):
                left = slurm.is_any_unfinished(self._jobs.read_text(encoding="ascii").split())
                # Slurm that cannot be asked says nothing: what it said before holds.
                self._are_jobs_left = self._are_jobs_left if left is None else left
        return self._are_jobs_left

    def _alive(self, now_s: float) -> Sequence[str]:
        """Return the clients whose files have changed lately."""
        found: dict[str, tuple[bytes, float]] = {}
        for file in sorted(self._folder.glob("[!.]*")):
            with contextlib.suppress(OSError):
                beat = file.read_bytes()[:_MOST_BYTES]
                before = self._seen.get(file.name)
                # At the first look it may be of a client that died long ago; a live one writes again soon.
                changed_s = now_s if self._has_looked else float("-inf")
                found[file.name] = before if before and before[0] == beat else (beat, changed_s)
        self._seen, self._has_looked = found, True
        return [name for name, (_, changed_s) in found.items() if now_s - changed_s < _DEAD_AFTER_S]
