"""Run a server for as long as clients need it: start it, say where it is, look after it, and end it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.engines.server import registry
from pipeline.errors import EngineLost, SettingsError

log = logging.getLogger("pipeline")

_POLL_S = 1.0
_STOP_S = 60.0
_ASK_S = 10.0


@dataclass(frozen=True, slots=True)
class Serving:
    """What to start, and how long to wait for whom."""

    command: Sequence[str]
    """The server's command; `--host` and `--port` are added to it."""
    registry: Path
    host: str
    """The name under which clients reach this machine."""
    key_variable: str
    load_timeout_s: float
    first_client_s: float
    """Seconds that the first client may take to come."""
    next_client_s: float
    """Seconds without any client after which the last one counts as done."""
    max_restarts: int


def serve(given: Serving) -> str:
    """Serve until the last client is done or dead; return why it ended.

    Raises SettingsError when the command cannot be started, and EngineLost when it dies again and again.
    """
    # One watch for all attempts: whether there have been clients must outlive a server that dies.
    watch = registry.Watch(given.registry)
    for attempt in range(given.max_restarts + 1):
        with _started(given) as (process, port):
            _await_health(process, port, given.load_timeout_s)
            url = f"http://{given.host}:{port}/v1"
            log.info("%s: ready", url)
            with registry.announced(given.registry, url):
                if (reason := _look_after(process, watch, given)) is not None:
                    return reason
        log.error(
            "the server ended with %s, %d of %d times",
            process.returncode,
            attempt + 1,
            given.max_restarts + 1,
        )
    raise EngineLost(f"the server died {given.max_restarts + 1} times; its own output says why")


def _look_after(process: subprocess.Popen[bytes], watch: registry.Watch, given: Serving) -> str | None:
    """Return why the server is needed no more; None when it has died."""
    since = time.monotonic()
    while process.poll() is None:
        now = time.monotonic()
        if watch.has_clients(now):
            since = now
        elif now - since > (given.next_client_s if watch.has_had_clients else given.first_client_s):
            return "the last client is done" if watch.has_had_clients else "no client came"
        time.sleep(_POLL_S)
    return None


@contextlib.contextmanager
def _started(given: Serving) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start the server at a free port; end it, and all that it started, at the end."""
    port = _free_port()
    environment = dict(os.environ)
    if key := environment.get(given.key_variable):
        environment["VLLM_API_KEY"] = key  # on its command line everybody on the machine could read it
    # On all addresses: clients are on other nodes.
    command = [*given.command, "--host", "0.0.0.0", "--port", str(port)]
    try:
        # A session of its own, so that a signal to all that it started does not reach this process.
        process = subprocess.Popen(command, env=environment, start_new_session=True, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise SettingsError(f"{given.command[0]}: cannot be started ({error.strerror})") from error
    try:
        yield process, port
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number, within_s in ((signal.SIGTERM, _STOP_S), (signal.SIGKILL, None)):
        # Its group: what it has started must leave the GPUs as well.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(within_s)


def _await_health(process: subprocess.Popen[bytes], port: int, within_s: float) -> None:
    end = time.monotonic() + within_s
    while not _is_well(port):
        if process.poll() is not None:
            raise EngineLost(
                f"the server ended with {process.returncode} while it loaded; its own output says why"
            )
        if time.monotonic() > end:
            raise EngineLost(f"the server was not ready in {within_s:g} s (load_timeout_s)")
        time.sleep(_POLL_S)


def _is_well(port: int) -> bool:
    # Not through a proxy, which clusters name for the way out of them.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with (
        contextlib.suppress(OSError),
        opener.open(f"http://127.0.0.1:{port}/health", timeout=_ASK_S) as reply,
    ):
        return bool(reply.status == 200)
    return False


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("", 0))
        return int(found.getsockname()[1])
