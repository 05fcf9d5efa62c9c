"""Keep every answer: rows are journaled as they come, and published as Parquet files that hold none twice.

What is finished is learnt from these files themselves. Published files hold the rows that the current inputs
and questions ask for; rows nobody asks for any more stay in the journal, so that an answer is never computed
twice.

Who may write what: a run over all inputs reads the journals of all shards, publishes, and excludes every
other run. A shard on its own (`shard.count`) has its own journal and its own published files. A shard of a
plan (`shard.planned`) has a journal alone: a run over all inputs, the publishing one, takes it from there.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.config import ShardSettings, SinkSettings
from pipeline.errors import OutputError
from pipeline.records import Answer, Cell, Completion, Document, DocumentRow, Failure, Request, Subject
from pipeline.tables import columns, journal, lock, published, rows
from pipeline.tables.journal import Journal, disk_errors
from pipeline.tables.rows import Row
from pipeline.tables.wanted import Wanted

_TABLES = ("requests", "documents", "answers")
_WHOLE = "shard-0000-of-0001"


class Tables:
    """The output directory of one shard, held by a lock. Use as a context manager."""

    def __init__(
        self,
        output: Path,
        shard: ShardSettings,
        settings: SinkSettings,
        stamp: Mapping[str, str],
        field_kinds: Mapping[str, str],
        begun: dt.datetime,
    ) -> None:
        """`stamp` has the columns that are the same in every row: model, engine, task, run_id, …"""
        self._output = output
        self._settings = settings
        self._stamp = dict(stamp)
        self._field_kinds = dict(field_kinds)
        self._begun = begun
        self._shard = shard
        self._name = shard_name(shard)
        self._folder = output / "_journal" / self._name
        self._lock = lock.Lock(self._folder / "lock", f"output={output}, {self._name}")
        self._buffer: dict[str, list[Row]] = {name: [] for name in _TABLES}
        self._journal_rows = 0
        self._committed = time.monotonic()
        self._finished: set[str] = set()
        self._failed: dict[str, tuple[str, str]] = {}
        self._documents: dict[str, Row] = {}
        self._wanted = Wanted(self._stamp["task"])
        self._reusable: dict[str, Completion] = {}

    def __enter__(self) -> Tables:
        with contextlib.ExitStack() as stack:
            self._take_lock()
            stack.callback(self._lock.release)
            self._prepare()
            self._load()
            stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    # ---- what is finished already ----

    def is_finished(self, cell: Cell, retry_errors: bool) -> bool:
        """Tell whether the cell has its answer from an earlier run."""
        known = cell.answer_id in self._finished
        return known or (not retry_errors and cell.answer_id in self._failed)

    def document(self, document: Document) -> Row | None:
        """Return the row of a readable document with these bytes, under whatever name."""
        row = self._documents.get(document.source)
        if row is not None and row["document_id"] == document.document_id:
            return row
        return None

    def row_of(self, name: str) -> Row | None:
        """Return the row of a source, whatever its bytes were."""
        return self._documents.get(name)

    def original(self, document: Document) -> Row | None:
        """Return the row of the same bytes under the name they were first met by."""
        row = self._documents.get(self._wanted.original(document))
        return row if row is not None and row["document_id"] == document.document_id else None

    def completion(self, request: Request) -> Completion | None:
        """Return what an interrupted run already got for this request."""
        return self._reusable.get(request.request_id)

    # ---- what is added ----

    def want(self, cell: Cell) -> None:
        """Note that the current inputs and questions ask for this cell."""
        self._wanted.want(cell)

    def meet(self, document: Document) -> None:
        """Note that a document is among the current inputs."""
        self._wanted.meet(document)

    def meet_folder(self, folder: Subject) -> None:
        """Note that a folder, asked about as a whole, is among the current inputs."""
        self._wanted.meet_folder(folder)

    def inputs(self) -> tuple[int, int]:
        """Count the current inputs that could be read whole, and those that could not."""
        known = [self._documents[source] for source in self._wanted.sources if source in self._documents]
        ok = sum(row["status"] == "ok" for row in known)
        return ok, len(known) - ok

    def outcome(self) -> tuple[int, Counter[str]]:
        """Count the wanted rows: how many are ok, and how many failed by error code."""
        ok, failed = 0, Counter[str]()
        for answer_id, count in self._wanted.cells():
            if answer_id in self._finished:
                ok += count
            elif answer_id in self._failed:
                failed[self._failed[answer_id][0]] += count
        return ok, failed

    def add_request(self, request: Request, completion: Completion) -> None:
        self._buffer["requests"].append(rows.of_request(request, completion, self._stamp))

    def add_document(self, row: DocumentRow) -> None:
        source, new = row.document.source, rows.of_document(row)
        old = self._documents.get(source)
        if old is None or any(old[key] != new[key] for key in new if key != "raster_seconds"):
            self._documents[source] = new
            self._buffer["documents"].append(new)

    def repeat_document(self, document: Document, original: Row) -> None:
        """Give a duplicate the row of its original under its own name."""
        failure = Failure(original["error_code"], original["error"]) if original["error_code"] else None
        self.add_document(
            DocumentRow(
                document=document,
                pages=original["pages"],
                status=original["status"],
                failure=failure,
                text_layer_pages=original["text_layer_pages"],
                blank_pages=original["blank_pages"],
                languages=tuple(original["languages"] or ()),
                raster_seconds=original["raster_seconds"],
            )
        )

    def add_answer(self, answer: Answer) -> None:
        cell, failure = answer.cell, answer.failure
        # An error that repeats keeps its first row: a run that learns nothing new changes no file.
        if failure and self._failed.get(cell.answer_id) == (failure.code, failure.message):
            return
        self._buffer["answers"].append(rows.of_answer(answer, self._stamp, self._field_kinds))
        if failure is None:
            self._finished.add(cell.answer_id)
            self._failed.pop(cell.answer_id, None)
        else:
            self._failed[cell.answer_id] = (failure.code, failure.message)

    # ---- making it last ----

    def commit_if_due(self) -> bool:
        """Journal what was added if that was last done `journal_seconds` ago; tell whether it was."""
        if time.monotonic() - self._committed < self._settings.journal_seconds:
            return False
        self.commit()
        return True

    def commit(self) -> None:
        """Journal what was added since the last call, so that no crash can lose it."""
        self._committed = time.monotonic()
        if not any(self._buffer.values()):
            return
        tables = {
            name: pa.Table.from_pylist(rows, schema=columns.schema(name, self._field_kinds))
            for name, rows in self._buffer.items()
            if rows
        }
        with disk_errors(self._output):
            self._lock.check()
            self._journal.write(tables)
            self._journal.roll_up(self._settings.journal_parts)
        self._journal_rows += len(self._buffer["answers"])
        self._buffer = {name: [] for name in _TABLES}
        if self._journal_rows >= max(self._settings.checkpoint_rows, len(self._finished) // 2):
            self.publish(complete=False)

    def publish(self, complete: bool) -> None:
        """Write the tables that analysts read; `complete` says that every current input has been met.

        A shard of a plan publishes nothing: its journal is published together with those of the others.
        """
        if self._shard.planned:
            return
        with disk_errors(self._output):
            self._lock.check()
            parts = self._parts()
            if complete and all(self._is_current(name, parts) for name in _TABLES):
                return
            kept = {name: self._write_aside(name, parts, complete) for name in _TABLES}
            rest = {name: journal.concatenate(tables) for name, tables in kept.items() if tables}
            if rest:  # journaled before the published file that held them is replaced
                self._journal.write(rest, rolled=True)
            self._lock.check()
            for name in _TABLES:
                target = self._published(name)
                if (aside := journal.aside(target)).exists():
                    aside.rename(target)
                    journal.sync(target.parent)
            journal.drop(parts)
        self._journal_rows = 0

    def forget_shards(self) -> None:
        """Remove the empty journals of shards whose rows are published."""
        for folder in self._others():
            if not journal.parts(folder):
                shutil.rmtree(folder, ignore_errors=True)

    @property
    def has_leftovers(self) -> bool:
        """Whether shards have journaled rows that are not published yet."""
        return any(journal.parts(folder) for folder in self._others())

    def write_run(self, record: Mapping[str, Any]) -> None:
        """Write run.json, and the shard's own copy beside its journal."""
        text = json.dumps(record, indent=2, ensure_ascii=False, default=str) + "\n"
        with disk_errors(self._output):
            self._lock.check()
            journal.write_text(self._folder / "run.json", text)
            if not self._shard.planned:
                journal.write_text(self._output / "run.json", text)

    def read_run(self) -> dict[str, Any] | None:
        """Return what the last run on this shard wrote; None when there was none."""
        try:
            return dict(json.loads((self._folder / "run.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def first_date(self) -> dt.date:
        """Return the date on which this output directory was begun, the same in all its runs and shards."""
        file = self._output / "_journal" / "date"
        with disk_errors(self._output):
            aside = file.with_name(f"date.{os.getpid()}.{self._name}")
            aside.write_text(self._begun.date().isoformat())
            with contextlib.suppress(FileExistsError):
                os.link(aside, file)  # atomic: the first of many shards decides
            aside.unlink()
            return dt.date.fromisoformat(file.read_text())

    # ---- inside ----

    def _take_lock(self) -> None:
        with disk_errors(self._output):
            for folder in (*(self._output / name for name in _TABLES), self._folder):
                folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        # Taken first, then looked around: of two that begin at the same moment at least one sees the other.
        others = self._others() if self._is_whole else [self._folder.with_name(_WHOLE)]
        try:
            for folder in others:
                lock.Lock(folder / "lock", f"output={self._output}, {folder.name}").refuse_if_held()
        except OutputError:
            self._lock.release()
            raise

    def _prepare(self) -> None:
        self._journal = Journal(self._folder, self._lock.token)
        self._journal.sweep()
        for leftover in self._output.glob(f"*/{self._name}.parquet.aside"):
            leftover.unlink()
        count = 1 if self._shard.planned else self._shard.count
        for file in (self._output / "answers").glob("shard-*.parquet"):
            if (other := int(file.stem[-4:])) != count:
                raise OutputError(
                    f"output={self._output}: was written as {other} shards, not {count}; "
                    f"use shard.count={other} or another output"
                )

    @property
    def _is_whole(self) -> bool:
        return self._name == _WHOLE

    def _others(self) -> list[Path]:
        """List the journals of all shards but this."""
        return sorted(f for f in self._folder.parent.glob("*-of-*") if f.is_dir() and f != self._folder)

    def _load(self) -> None:
        """Learn from the Parquet files themselves what is finished, oldest first."""
        parts = self._parts()
        for file in self._files("answers", parts):
            self._check_types(file)
            table = pq.read_table(file, columns=["answer_id", "status", "error_code", "error"])
            ok = pc.equal(table["status"], "ok")
            self._finished.update(table.filter(ok)["answer_id"].to_pylist())
            for row in table.filter(pc.invert(ok)).to_pylist():
                self._failed[row["answer_id"]] = (row["error_code"], row["error"])
            self._journal_rows += table.num_rows if file.parent in parts else 0
        for answer_id in [key for key in self._failed if key in self._finished]:
            del self._failed[answer_id]
        for file in self._files("documents", parts):
            for row in pq.read_table(file).to_pylist():
                self._documents[row["source"]] = row
        for file in self._files("requests", parts):
            self._load_requests(file)

    def _check_types(self, file: Path) -> None:
        """Refuse an output in which another task gave a field of the same name another type."""
        written = pq.read_schema(file)
        for field in columns.schema("answers", self._field_kinds):
            if field.name in written.names and written.field(field.name).type != field.type:
                kinds = f"{written.field(field.name).type}, not {field.type}"
                raise OutputError(
                    f"output={self._output}: has {field.name} as {kinds}; choose another output"
                )

    def _load_requests(self, file: Path) -> None:
        """Keep the replies to cells that have no answer yet: an interrupted document goes on where it was."""
        ids = pq.read_table(file, columns=["answer_id"])["answer_id"].to_pylist()
        if all(answer_id in self._finished for answer_id in ids):
            return
        table = pq.read_table(file).filter(pa.array([answer_id not in self._finished for answer_id in ids]))
        for row in table.filter(pc.equal(table["status"], "ok")).to_pylist():
            self._reusable[row["request_id"]] = rows.to_completion(row)

    def _parts(self) -> list[Path]:
        """List the journal parts that this run reads, oldest first."""
        if not self._is_whole:
            return self._journal.parts()
        of_shards = [part for folder in self._others() for part in journal.parts(folder)]
        return [*sorted(of_shards, key=lambda part: part.stat().st_mtime_ns), *self._journal.parts()]

    def _published(self, name: str) -> Path:
        return self._output / name / f"{_WHOLE if self._shard.planned else self._name}.parquet"

    def _files(self, name: str, parts: Sequence[Path]) -> list[Path]:
        """Return the files of a table, oldest first."""
        target = self._published(name)
        return [*([target] if target.exists() else []), *journal.files(name, parts)]

    def _write_aside(self, name: str, parts: Sequence[Path], complete: bool) -> list[pa.Table]:
        target, files = self._published(name), self._files(name, parts)
        return published.write_aside(name, target, files, self._field_kinds, self._wanted, complete)

    def _is_current(self, name: str, parts: Sequence[Path]) -> bool:
        journaled = journal.files(name, parts)
        return published.is_current(name, self._published(name), journaled, self._field_kinds, self._wanted)


def shard_name(shard: ShardSettings) -> str:
    """Return what a shard's files and its journal are called."""
    kind = "planned" if shard.planned else "shard"
    return f"{kind}-{shard.index:04d}-of-{shard.count:04d}"
