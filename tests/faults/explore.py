"""Fail each file operation of a run, one at a time and in every way, and check what is left.

PYTHONPATH=.:tests python tests/faults/explore.py FOLDER [--kinds full,error,kill,power] [--stride N]

A run over 12 documents goes on with an output that an earlier run has begun; it rolls up its journal and
publishes while it goes on. For each point, a process of its own runs it until the fault. After that the
auditor looks, which knows nothing but inputs and files; the same command runs again, and the auditor compares
its tables with those of a run that nothing disturbed.

full   the disk is full from that operation on; what is being written stays half written
error  that operation alone fails, as a bad block makes it fail
kill   the process dies there, in the middle of a write
power  so does the machine: what was not forced to the disk is undone
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import shutil
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple, NoReturn

import hydra
import pyarrow as pa
import pyarrow.parquet as pq
import pymupdf
import scripted
from PIL import Image

from pipeline import store, workers
from pipeline.asking import tokens
from pipeline.compose import CONF, to_settings
from pipeline.config import RunSettings
from pipeline.engines import choose
from pipeline.errors import PipelineError
from pipeline.flow import session  # noqa: F401  # before the first fork, so that no run has to
from pipeline.reading import language
from pipeline.records import Request
from pipeline.run import execute
from pipeline.tables.layout import TABLES

KINDS = ("full", "error", "kill", "power")
_KILLED, _FAILED, _TRACEBACK = 137, 1, 3
# What differs from run to run without meaning anything.
_FLEETING = {"run_id", "created_at", "engine_seconds", "raster_seconds", "gpu_seconds", "cost"}


class Fault(NamedTuple):
    """What goes wrong at which operation, counted from 0."""

    kind: str
    point: int


class FaultyDisk(store.Disk):
    """Does what it is told until the fault; `operations` are the names of what it did."""

    def __init__(self, fault: Fault | None) -> None:
        self.operations: list[str] = []
        self._fault = fault
        self._undo: list[tuple[Path, Callable[[], None]]] = []
        """What a loss of power would undo, and the file or folder whose syncing prevents that."""
        self._open: dict[int, Path] = {}

    def create(self, path: Path, mode: int = 0o666) -> int:
        is_new = not path.exists()
        self._step("create", needs_room=True)
        handle = super().create(path, mode)
        self._open[handle] = path
        if is_new:
            self._undo.append((path.parent, lambda: path.unlink(missing_ok=True)))
        return handle

    def write(self, handle: int, data: memoryview) -> int:
        path = self._open[handle]
        self._step("write", needs_room=True, half_done=lambda: os.write(handle, data[: len(data) // 2]))
        self._undo.append((path, lambda: os.truncate(path, 0) if path.exists() else None))
        return super().write(handle, data)

    def sync(self, path: Path) -> None:
        self._step("sync")
        self._undo = [(needs, undo) for needs, undo in self._undo if needs != path]

    def rename(self, old: Path, new: Path) -> None:
        self._step("rename")
        saved = self._saved(new)
        super().rename(old, new)

        def undo() -> None:
            new.rename(old)
            if saved:
                saved.rename(new)

        self._undo = [(new if needs == old else needs, each) for needs, each in self._undo]
        self._undo.append((new.parent, undo))

    def link(self, old: Path, new: Path) -> None:
        self._step("link", needs_room=True)
        super().link(old, new)
        self._undo.append((new.parent, new.unlink))

    def unlink(self, path: Path) -> None:
        self._step("unlink")
        saved = self._saved(path)
        super().unlink(path)
        if saved:
            self._undo.append((path.parent, lambda: _restore(saved, path)))

    def mkdir(self, path: Path, mode: int = 0o777) -> None:
        self._step("mkdir", needs_room=True)
        super().mkdir(path, mode)
        self._undo.append((path.parent, lambda: shutil.rmtree(path, ignore_errors=True)))

    def rmdir(self, path: Path) -> None:
        self._step("rmdir")
        super().rmdir(path)
        self._undo.append((path.parent, lambda: path.mkdir(parents=True, exist_ok=True)))

    def _step(
        self, name: str, needs_room: bool = False, half_done: Callable[[], object] = lambda: None
    ) -> None:
        number = len(self.operations)
        self.operations.append(name)
        if self._fault is None or number < self._fault.point:
            return
        kind, point = self._fault
        if kind == "full" and needs_room:
            half_done()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if number > point or kind == "full":
            return
        half_done()
        if kind == "error":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if kind == "power":
            for _, undo in reversed(self._undo):
                undo()
        os._exit(_KILLED)

    def _saved(self, path: Path) -> Path | None:
        """Keep a file that is about to go, where a loss of power can bring it back."""
        if self._fault is None or self._fault.kind != "power" or not path.is_file():
            return None
        graveyard = Path(os.environ["GRAVEYARD"])
        saved = graveyard / str(len(self.operations))
        os.link(path, saved)
        return saved


def _restore(saved: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    saved.rename(path)


# ---- the run ----


class PoolWithoutProcesses:
    """Makes each call at once, in this process: hundreds of runs have no time to start workers."""

    def __init__(self, *_: object) -> None: ...

    def schedule(
        self, function: Callable[..., object], args: Sequence[object], timeout: float
    ) -> Future[object]:
        future: Future[object] = Future()
        try:
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self) -> None: ...


def make_inputs(folder: Path) -> None:
    """Make 12 documents: images, PDFs of several pages, a copy, and one that is damaged."""
    folder.mkdir()
    for number in range(8):
        Image.new("RGB", (64, 48), (200, 20 * number, 90)).save(folder / f"chart-{number}.png")
    shutil.copy(folder / "chart-0.png", folder / "copy.png")
    for name, pages in (("one", 1), ("two", 2)):
        with pymupdf.open() as document:
            for number in range(pages):
                document.new_page(width=200, height=100).insert_text((20, 50), f"{name} {number} holds words")
            document.save(folder / f"{name}.pdf", no_new_id=True)
    (folder / "damaged.pdf").write_bytes(b"%PDF-1.7\nand no more\n")


def settings(folder: Path, questions: str) -> RunSettings:
    """Compose the settings of a run whose output lies in `folder`."""
    file = folder.parent / f"{len(questions)}.csv"
    file.write_text(questions)
    given = [
        f"input={folder.parent / 'input'}", f"output={folder / 'output'}",
        f"raster.scratch={folder / 'scratch'}", "task=qa", f"task.questions={file}", "engine=vllm",
        "engine.repair_attempts=0", "pack.window_tokens=6000",
        "sink.journal_seconds=3600", "sink.journal_parts=3", "sink.checkpoint_rows=16",
    ]  # fmt: skip
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return to_settings(hydra.compose("config", overrides=given))


FIRST = "question_id,question,document\ncolour,Which colour?,\nold,Who?,chart-*.png\n"
NOT_ASKED_NOW = {(repr(f"chart-{number}.png"), repr("old")) for number in range(8)}
SECOND = "question_id,question,document\ncolour,Which colour?,\nwords,Words?,\nnumber,How many?,two.pdf\n"


def play(request: Request) -> scripted.Play:
    """Reply by the question and the document alone."""
    told = f"{request.cell.question.text} {request.cell.subject.document_id[:8]}"
    return scripted.says(json.dumps({"answer": told, "pages": [1], "quote": None}))


def in_process_of_its_own(function: Callable[[], int]) -> int:
    """Call a function in a copy of this process; return the exit status that it gives."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(function())
        except BaseException:
            traceback.print_exc()
            os._exit(_TRACEBACK)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(given: RunSettings, fault: Fault | None, said: Path) -> int:
    """Run until the end, or the fault; write down what was asked and said."""
    disk = store.disk = FaultyDisk(fault)
    engine = scripted.ScriptedEngine(play)
    choose.build = lambda *_: engine
    message, status = "", 0
    try:
        execute(given)
    except PipelineError as error:
        message, status = str(error), _FAILED
    asked = [request.cell.answer_id for request in engine.asked]
    said.write_text(json.dumps({"asked": asked, "error": message, "operations": disk.operations}))
    return status


# ---- the auditor ----


class Audit(NamedTuple):
    """What is wrong with an output, in sentences."""

    wrong: list[str]


def tables(output: Path) -> dict[str, pa.Table]:
    """Read the published tables, as analysts do."""
    return {name: pq.read_table(output / name) for name in TABLES if any((output / name).glob("*.parquet"))}


def finished(output: Path) -> set[str]:
    """Return the answers that are there, published or journaled."""
    files = [*output.glob("answers/*.parquet"), *output.glob("_journal/*/part-*/answers.parquet")]
    rows = [row for file in files for row in pq.read_table(file, columns=["answer_id", "status"]).to_pylist()]
    return {row["answer_id"] for row in rows if row["status"] == "ok"}


def after_the_fault(output: Path, before: dict[str, pa.Table], folder: Path) -> Iterator[str]:
    """Yield what is wrong with an output whose run was disturbed."""
    found = tables(output)
    for name, key in (("answers", ("source", "question_id")), ("documents", ("source",))):
        if name not in found:
            yield f"{name} is gone"
            continue
        counts = Counter(rows(found[name].select(key)))
        yield from (f"{name} holds {row} {count} times" for row, count in counts.items() if count > 1)
        lost = set(rows(before[name].select(key))) - set(counts) - NOT_ASKED_NOW
        yield from (f"{name} lacks {row}, which was there" for row in lost)
    for file in output.rglob("run.json"):
        json.loads(file.read_text())
    yield from paths_in(found, folder)


def after_the_next_run(output: Path, expected: dict[str, pa.Table], folder: Path) -> Iterator[str]:
    """Yield what is wrong with an output that another run has completed."""
    found = tables(output)
    for name in TABLES:
        columns = [column for column in found[name].column_names if column not in _FLEETING]
        if columns != [column for column in expected[name].column_names if column not in _FLEETING]:
            yield f"{name} has other columns"
        have, want = Counter(rows(found[name].select(columns))), Counter(rows(expected[name].select(columns)))
        yield from (f"{name} lacks {row}" for row in (want - have))
        yield from (f"{name} has {row} besides" for row in (have - want))
    record = json.loads((output / "run.json").read_text())
    if record["state"] != "complete" or record["summary"]["seconds"] < 0:
        yield f"run.json says {record['state']}, {record['summary']['seconds']} s"
    leftovers = [path for path in output.rglob("*") if path.name.endswith(".aside") or path.name == "lock"]
    leftovers += list((folder / "scratch").glob("*"))
    yield from (f"{path.relative_to(folder)} is left" for path in leftovers)
    yield from paths_in(found, folder)


def rows(table: pa.Table) -> list[tuple[str, ...]]:
    """Return a table's rows as texts, which can be compared and counted."""
    return [tuple(map(repr, row.values())) for row in table.to_pylist()]


def paths_in(found: dict[str, pa.Table], folder: Path) -> Iterator[str]:
    """Yield the rows that name a place on this machine."""
    for name, table in found.items():
        for row in table.to_pylist():
            if any(str(folder.parent) in str(value) for value in row.values()):
                yield f"{name} names a path: {row}"


# ---- all points ----


class Explorer:
    """Holds a folder with the inputs, the output of an earlier run, and the tables that must come out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        make_inputs(folder / "input")
        self._base = folder / "base"
        self._first = settings(self._base, FIRST)
        self._work = folder / "work"
        self._second = settings(self._work, SECOND)
        workers.Pool = PoolWithoutProcesses  # type: ignore[assignment,misc]
        loaded = tokens.load_tokenizer(self._second.model)  # once for all: it takes longer than a run
        tokens.load_tokenizer = lambda settings: loaded
        language.warm_up()
        pa.set_cpu_count(1)
        self._said = folder / "said.json"
        self._graveyard = folder / "graveyard"
        os.environ["GRAVEYARD"] = str(self._graveyard)
        assert self._run(self._first, None) == 0
        self.before = tables(self._base / "output")
        self._reset()
        assert self._run(self._second, None) == 0
        self.operations: list[str] = self.said("operations")
        self.expected = tables(self._work / "output")

    def said(self, what: str) -> list[str]:
        return list(json.loads(self._said.read_text())[what])

    def check(self, fault: Fault) -> list[str]:
        """Run into a fault and on from it; return what is wrong."""
        self._reset()
        output = self._work / "output"
        status = self._run(self._second, fault)
        if status not in (0, _FAILED if fault.kind in ("full", "error") else _KILLED):
            return [f"the run ended with {status}"]
        wrong = list(after_the_fault(output, self.before, self._folder))
        if status == _FAILED and "\n" in (message := "".join(self.said("error"))):
            wrong.append(f"the run says more than a line: {message}")
        kept = finished(output)
        if (status := self._run(self._second, None)) != 0:
            return [*wrong, f"the next run ended with {status}"]
        asked_twice = kept.intersection(self.said("asked"))
        wrong += [f"{len(asked_twice)} finished answers were asked for again"] if asked_twice else []
        return [*wrong, *after_the_next_run(output, self.expected, self._work)]

    def _run(self, given: RunSettings, fault: Fault | None) -> int:
        return in_process_of_its_own(lambda: run(given, fault, self._said))

    def _reset(self) -> None:
        for folder in (self._work, self._graveyard):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._base, self._work)
        self._graveyard.mkdir()


def main() -> NoReturn:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--offset", type=int, default=0)
    given = parser.parse_args()
    explorer = Explorer(given.folder)
    faults = [Fault(k, point) for point in range(len(explorer.operations)) for k in given.kinds.split(",")]
    chosen = faults[given.offset % given.stride :: given.stride]
    bad = 0
    for number, fault in enumerate(chosen, 1):
        wrong = explorer.check(fault)
        if number % 50 == 0:
            print(f"{number} of {len(chosen)}, {bad} with something wrong", flush=True)
        bad += bool(wrong)
        for line in wrong[:5]:
            print(
                f"{fault.kind} at operation {fault.point} ({explorer.operations[fault.point]}): {line}",
                flush=True,
            )
    counts = ", ".join(f"{n} {name}" for name, n in Counter(explorer.operations).most_common())
    print(f"{len(explorer.operations)} operations ({counts})")
    print(f"{len(chosen)} of {len(faults)} faults tried, {bad} with something wrong")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
