"""A machine that is full, small or taken away: a clear line, nothing half done, the next run completes."""

from __future__ import annotations

import datetime as dt
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import psutil
import pytest
import scripted
from conftest import quoted

from pipeline import workers
from pipeline.command import signals_raise
from pipeline.config import RunSettings, ShardSettings
from pipeline.engines.vllm import preflight
from pipeline.errors import Interrupted, SettingsError
from pipeline.records import Request
from pipeline.run import execute
from pipeline.tables.layout import Layout
from pipeline.tables.lock import Lock

PAGES = 30
FINE = '{"answer": "fine", "pages": [1], "quote": null}'


@pytest.fixture
def documents(tmp_path: Path, make_pdf: Callable[..., Path]) -> Path:
    for number in range(PAGES):
        make_pdf(f"in/{number:02d}.pdf", f"Invoice {number}. The total is {number} euro.")
    return tmp_path / "in"


def command(documents: Path, output: Path, *overrides: str) -> list[str]:
    return [
        sys.executable, "-m", "pipeline.run", f"input={quoted(documents)}", f"output={quoted(output)}",
        "task=qa", "task.question=What is the total?", "engine=embedded", "engine.workers=1",
        "raster.workers=1", *overrides,
    ]  # fmt: skip


def run(given: Sequence[str], before: str = "true", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command after shell commands, where file systems can be mounted that nobody else sees."""
    return subprocess.run(
        [*apart(), "sh", "-c", f'{before} && exec "$@"', "sh", *given],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def apart() -> list[str]:
    """Return the command that gives another mounts of its own: users may in a namespace of theirs."""
    return (
        ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    )


def answers(output: Path) -> pd.DataFrame:
    return pd.read_parquet(output / "answers").set_index("source")


def assert_is_complete(output: Path) -> None:
    table = answers(output)
    assert len(table) == PAGES
    assert table.index.is_unique
    assert set(table["status"]) == {"ok"}
    assert json.loads((output / "run.json").read_text())["state"] == "complete"
    assert not [path for path in output.rglob("*") if path.name.endswith(".aside") or path.name == "lock"]


def assert_says_one_line(done: subprocess.CompletedProcess[str], status: int, says: str) -> None:
    said = [line for line in done.stderr.splitlines() if not line.startswith("engine=embedded")]
    assert done.returncode == status, done.stderr
    assert len(said) == 1, done.stderr
    assert says in said[0]


def test_a_disk_that_is_full_stops_the_run_and_the_next_one_completes_it(
    documents: Path, tmp_path: Path
) -> None:
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    # On a tmpfs, of which only what is copied elsewhere outlives the command.
    small = f"mount -t tmpfs -o size=400k tmpfs {disk} && trap 'cp -r {disk}/. {kept}' EXIT"
    given = command(documents, disk / "output", "pack.window_tokens=10000")
    script = [*apart(), "sh", "-c", f'{small}; "$@"', "sh", *given]
    done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=300)
    assert_says_one_line(done, 1, "cannot be written (No space left on device); free space")
    output = kept / "output"
    assert json.loads((output / "_journal" / "shard-0000-of-0001" / "run.json").read_text())
    assert not [path for path in output.rglob("*.aside")]
    done = run(command(documents, output))
    assert done.returncode == 0, done.stderr
    assert_is_complete(output)
    assert " kept" in done.stdout
    assert " 0 kept" not in done.stdout  # what was journaled before the disk was full


def test_scratch_that_is_full_waits_for_pages_to_be_released(documents: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    given = command(documents, tmp_path / "output", f"raster.scratch={scratch}", "raster.workers=2")
    # Room for 4 of the 30 pages, and that only once the run has looked how much there is.
    taking = (
        f"(until ls {scratch}/*/owner.json; do sleep 0.05; done; head -c 54m /dev/zero > {scratch}/other)"
    )
    done = run(
        given, before=f"mount -t tmpfs -o size=64m tmpfs {scratch} && {{ {taking} > /dev/null 2>&1 & }}"
    )
    assert done.returncode == 0, done.stderr
    assert_is_complete(tmp_path / "output")


def test_scratch_without_room_for_one_request_stops_the_run(
    make_pdf: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_pdf("in/long.pdf", *(f"Page {number}" for number in range(12)))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    given = command(path, tmp_path / "output", f"raster.scratch={scratch}")
    done = run(given, before=f"mount -t tmpfs -o size=16m tmpfs {scratch}")
    assert_says_one_line(done, 1, "has no room for the 12 pages of one request (26 MB)")
    assert answers(tmp_path / "output").empty
    assert pd.read_parquet(tmp_path / "output" / "documents").empty
    done = run([*given[:-1], f"raster.scratch={tmp_path}"])
    assert done.returncode == 0, done.stderr
    assert answers(tmp_path / "output")["pages_read"].tolist() == [12]


@pytest.mark.parametrize(
    ("before", "says"),
    [
        ("mount -t tmpfs -o ro tmpfs {output}", "cannot be written (Read-only file system)"),
        ("mount -t tmpfs -o size=32k tmpfs {output}", "cannot be written (No space left on device)"),
        ("ulimit -v 500000", "allows 488 MB of address space (ulimit -v)"),
        ("ulimit -n 14", "allows 14 open files (ulimit -n)"),
        ("ulimit -f 200", "cannot be written (File too large)"),
    ],
)
def test_a_machine_with_too_little_of_something_says_so_in_a_line(
    documents: Path, tmp_path: Path, before: str, says: str
) -> None:
    output = tmp_path / "output"
    output.mkdir()
    done = run(command(documents, output), before=before.format(output=output))
    assert_says_one_line(done, 1, says)
    published = list(output.glob("answers/*"))
    assert not published or answers(output).empty


def test_in_a_plain_locale_names_and_questions_are_what_they_are(
    make_pdf: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_pdf("in/Rechnung für Zoë.pdf", "Die Summe beträgt 7 Euro.").parent
    given = [*command(folder, tmp_path / "output", "task.question='Wie hoch ist die Summe, für Zoë?'")]
    done = run(given, LC_ALL="C", LANG="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0, done.stderr
    (row,) = answers(tmp_path / "output").reset_index().to_dict("records")
    assert row["source"] == "Rechnung für Zoë.pdf"
    assert row["question"] == "Wie hoch ist die Summe, für Zoë?"
    assert "beträgt 7 Euro" in row["answer"]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"])
def test_a_signal_ends_the_run_after_saving_what_is_finished(
    compose: Callable[..., RunSettings],
    documents: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    name: str,
) -> None:
    number, asked = signal.Signals[name], 0
    # Under nohup, say, SIGHUP is ignored from the start, and then rightly ends nothing.
    before = signal.signal(number, signal.SIG_DFL)
    request.addfinalizer(lambda: signal.signal(number, before))

    def reply(request: Request) -> scripted.Play:
        nonlocal asked
        asked += 1
        if asked == 5:
            os.kill(os.getpid(), number)
        return scripted.says(FINE)

    scripted.install(monkeypatch, reply)
    settings = compose(f"input={documents}", "engine=vllm", "task=qa", "task.question=Which?")
    with pytest.raises(Interrupted, match=name):
        execute(settings)
    output = Path(settings.output)
    assert set(answers(output)["status"]) == {"ok"}
    assert json.loads((output / "run.json").read_text())["state"] == "interrupted"
    scripted.install(monkeypatch, lambda _: scripted.says(FINE))
    assert execute(settings).reused == 4
    assert_is_complete(output)


def test_a_signal_that_whoever_started_the_run_ignores_does_not_end_it() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with signals_raise():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("jump_s", [-86_400, 86_400])
def test_a_clock_that_jumps_ends_no_page_and_lets_none_hang(
    monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    clock = time.time
    pool = workers.Pool(1, 100)
    try:
        task = pool.schedule(time.sleep, [1.5], timeout=30)
        hung = pool.schedule(time.sleep, [600], timeout=2)
        time.sleep(1)
        monkeypatch.setattr(time, "time", lambda: clock() + jump_s)
        task.result()
        with pytest.raises(TimeoutError):
            hung.result()
    finally:
        pool.close()


@pytest.mark.parametrize("written", ["", '{"state": "comp', "[]", "null", "2026-11"])
def test_files_that_were_half_written_are_written_again(
    compose: Callable[..., RunSettings], documents: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    scripted.install(monkeypatch, lambda _: scripted.says(FINE))
    settings = compose(f"input={documents}", "engine=vllm", "task=qa", "task.question=Which?")
    journal = Path(settings.output) / "_journal"
    (journal / "shard-0000-of-0001").mkdir(parents=True)
    for file in (journal / "date", journal / "shard-0000-of-0001" / "run.json", journal.parent / "run.json"):
        file.write_text(written)
    execute(settings)
    assert_is_complete(Path(settings.output))
    assert dt.date.fromisoformat((journal / "date").read_text())


def test_a_second_run_on_an_output_says_who_has_it_and_changes_nothing(
    documents: Path, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    layout = Layout(output, ShardSettings(index=0, count=1, planned=False))
    layout.make_folders()
    held = Lock(layout.journal / "lock", "output")
    held.acquire()
    done = run(command(documents, output))
    assert_says_one_line(done, 1, f"is being written by another run (process {os.getpid()} on ")
    assert not list(output.glob("answers/*"))
    held.release()


def test_a_run_that_is_killed_leaves_no_worker_behind(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, time\n"
        "from pipeline import workers\n"
        "if __name__ == '__main__':\n"
        "    pool = workers.Pool(2, 100)\n"
        "    number = pool.schedule(os.getpid, [], timeout=60).result()\n"
        "    pool.schedule(time.sleep, [600], timeout=600)\n"
        "    print(number, os.getpid(), flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    started = psutil.Process(int(process.stdout.readline().split()[1])).children(recursive=True)
    process.kill()
    process.communicate()
    gone, alive = psutil.wait_procs(started, timeout=20)
    assert not alive
    assert len(gone) >= 3  # the server and two workers


def test_workers_have_limits_and_never_higher_ones_than_were_there() -> None:
    names = (resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE)
    script = (
        "import resource\n"
        "from pipeline import workers\n"
        "if __name__ == '__main__':\n"
        "    pool = workers.Pool(1, 100, memory_mb=1000)\n"
        f"    print(*[pool.schedule(resource.getrlimit, [n], 60).result()[1] for n in {names!r}])\n"
        "    pool.close()\n"
    )
    found = {}
    for before in ("true", "ulimit -v 1000000; ulimit -f 1000"):
        given = ["sh", "-c", f'{before} && exec "$@"', "sh", sys.executable, "-c", script]
        done = subprocess.run(given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found[before] = [int(number) for number in done.stdout.split()]
    (memory, files, core), lower = found.values()
    assert 1000 << 20 < memory < 3000 << 20
    assert (files, core) == (256 << 20, 0)
    assert lower[0] <= 1_000_000 << 10
    assert lower[1:] == [1000 * 512, 0]


def test_a_driver_that_hangs_is_said_and_not_taken_for_a_machine_without_gpus(
    compose: Callable[..., RunSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\nsleep 600\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(preflight, "_DRIVER_S", 0.5)
    with pytest.raises(SettingsError, match=r"nvidia-smi has not answered for 0\.5 s: the driver hangs"):
        preflight.visible_gpus()
