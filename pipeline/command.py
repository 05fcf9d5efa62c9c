"""The edge of a command: signals, exit codes, logs, and the one printer of errors."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pipeline import store
from pipeline.errors import Interrupted, PipelineError
from pipeline.texts import one_line

log = logging.getLogger("pipeline")

EXIT_OK, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 75
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


def fail(error: Exception) -> NoReturn:
    """Print an error and exit 1: the one place that does."""
    print(f"error: {one_line(store.named(str(error)))}", file=sys.stderr)
    sys.exit(EXIT_FAILED)


@contextlib.contextmanager
def errors_end_in_a_line() -> Iterator[None]:
    """Turn whatever ends the command into one line on stderr and exit 1; the log has the rest."""
    try:
        yield
    except PipelineError as error:
        fail(error)
    except Exception as error:
        log.debug("what ended the run", exc_info=True)
        fail(PipelineError(_unforeseen(error)))


def _unforeseen(error: Exception) -> str:
    """Say what nothing in the pipeline has met and named: the limits of the machine, most often."""
    said = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, MemoryError) or "Cannot allocate memory" in said or "failed to map segment" in said:
        return "there is not enough memory for the run itself; look at ulimit -v, or at what else runs here"
    if isinstance(error, OSError) and error.errno:
        return f"the system refuses what the run needs ({os.strerror(error.errno)}); look at ulimit -a"
    if isinstance(error, ImportError):
        return f"{said}; a package is missing or damaged: install docbatch again"
    return f"{type(error).__name__}: {said}; no one has met this before: please report it, with run.log"


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Turn the first SIGTERM, SIGINT, SIGHUP or SIGUSR1 into Interrupted; ignore others while work is saved.

    What whoever started the run had it ignore (nohup does so, and shells in the background) stays ignored. In
    a thread that is not the main one signals are left as they are: only that one may handle them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {name: old for name in _SIGNALS if (old := signal.getsignal(name)) is not signal.SIG_IGN}
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        # A second signal, as impatient people and schedulers send, would end the saving of what is finished.
        ignore_signals()
        # A forked worker inherits the handler, and must not raise Interrupted in the middle of its own work.
        if os.getpid() == owner:
            raise Interrupted(signal.Signals(number).name)

    for name in before:
        signal.signal(name, stop)
    try:
        yield
    finally:
        for name, handler in before.items():
            # Somebody else's handler, set meanwhile, stays.
            if signal.getsignal(name) in (stop, signal.SIG_IGN):
                signal.signal(name, handler)


def ignore_signals() -> None:
    """Let nothing more disturb a command that is about to end with a status of its own."""
    for name in _SIGNALS:
        signal.signal(name, signal.SIG_IGN)


def speak_utf8() -> None:
    """Begin again in Python's UTF-8 mode under a locale in which names and questions are read wrongly."""
    if sys.getfilesystemencoding() != "utf-8":
        # Python settles its encoding when it starts: only a new start can change it.
        os.execve(sys.executable, sys.orig_argv, {**os.environ, "PYTHONUTF8": "1"})
    if isinstance(sys.stdout, io.TextIOWrapper):  # names may hold bytes that are no text
        sys.stdout.reconfigure(errors="backslashreplace")


def log_to(folder: Path) -> None:
    """Log to the run's folder in full and to stderr what matters."""
    log.setLevel(logging.DEBUG)
    # A log on a full disk must not add to the lines on stderr: what is wrong is said once, by the run.
    logging.raiseExceptions = False
    log.handlers = [_file_handler(folder), _terminal()]


def log_to_terminal() -> None:
    """Log to stderr alone, for a command without a folder of its own."""
    log.setLevel(logging.INFO)
    log.handlers = [_terminal()]


def _terminal() -> logging.Handler:
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.INFO)
    terminal.setFormatter(_WithoutTrace())
    return terminal


class _WithoutTrace(logging.Formatter):
    """One line for each message: whoever wants to see where an error came from looks into the log."""

    def format(self, record: logging.LogRecord) -> str:
        return one_line(record.getMessage())


@contextlib.contextmanager
def logged_to(folder: Path) -> Iterator[None]:
    """Log to a run's folder for a while, and leave what the caller does with log records as it is."""
    handler, before = _file_handler(folder), log.level
    log.addHandler(handler)
    log.setLevel(min(logging.INFO, before) if before else logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
        handler.close()


def _file_handler(folder: Path) -> logging.Handler:
    handler = logging.FileHandler(folder / "run.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    return handler
