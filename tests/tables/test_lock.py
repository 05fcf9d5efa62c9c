from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pipeline.errors import OutputError
from pipeline.tables import lock
from pipeline.tables.lock import Lock

HOLD = """
import sys, time
from pathlib import Path
from pipeline.tables.lock import Lock
Lock(Path(sys.argv[1]), "the table").acquire()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "lock"


def squeue(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a command `squeue` first in the path."""
    command = folder / "bin" / "squeue"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")


def held_elsewhere(file: Path, **more: object) -> None:
    """Leave a lock as a process of another host would."""
    Lock(file, "x").acquire()
    owner = lock.read(file)
    assert owner is not None
    file.write_text(json.dumps(asdict(replace(owner, host="elsewhere", **more))))  # type: ignore[arg-type]


def test_a_lock_outlives_no_process_that_was_killed(file: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, file], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(OutputError, match=rf"the table is being written.*process {holder.pid} on"):
            Lock(file, "the table").acquire()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    mine = Lock(file, "the table")
    mine.acquire()
    mine.check()
    mine.release()
    assert not file.exists()


def test_another_process_with_the_same_number_is_not_the_holder(file: Path) -> None:
    Lock(file, "x").acquire()
    owner = lock.read(file)
    assert owner is not None
    file.write_text(json.dumps(asdict(replace(owner, token="other", started=owner.started - 1))))
    Lock(file, "x").acquire()


def test_a_holder_on_another_host_counts_as_alive_until_slurm_says_otherwise(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_elsewhere(file, job="77", node="n3", token="other")
    squeue(tmp_path, monkeypatch, "echo 76 COMPLETED; echo 77 RUNNING")
    with pytest.raises(OutputError, match="Slurm job 77 on n3"):
        Lock(file, "x").acquire()
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\necho cannot contact >&2; exit 1\n")
    with pytest.raises(OutputError, match=rf"cannot be found out.*delete {file}"):
        Lock(file, "x").acquire()
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\necho Invalid job id specified >&2; exit 1\n")
    Lock(file, "x").acquire()


def test_a_holder_that_was_the_last_task_of_an_array_does_not_live_on_in_the_others(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_elsewhere(file, job="77", node="n3", token="other")
    squeue(tmp_path, monkeypatch, "echo 76 RUNNING; echo 77 COMPLETED")
    Lock(file, "x").acquire()


def test_a_holder_on_another_host_without_slurm_is_never_taken_for_dead(file: Path) -> None:
    held_elsewhere(file, job=None, token="other")
    with pytest.raises(OutputError, match="cannot be found out"):
        Lock(file, "x").acquire()


def test_a_requeued_job_takes_over_from_its_earlier_run_which_then_writes_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    earlier = Lock(file, "the table")
    earlier.acquire()
    with pytest.raises(OutputError, match="being written"):
        Lock(file, "the table").acquire()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    later = Lock(file, "the table")
    later.acquire()
    with pytest.raises(OutputError, match="was taken over by Slurm job 5"):
        earlier.check()
    earlier.release()  # not its own any more
    later.check()


def test_a_damaged_lock_is_named(file: Path) -> None:
    file.write_text("{}")
    with pytest.raises(OutputError, match=f"{file}: is not a lock"):
        Lock(file, "x").acquire()
