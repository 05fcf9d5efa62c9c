"""Keep every answer: a journal of windows, published as whole Parquet files that never hold a row twice.

The journal is a folder of numbered parts; a part is a folder of Parquet files that appears by one rename, so
a window is there whole or not at all. Published files hold the rows that the current inputs and questions
ask for; rows nobody asks for any more stay in the journal, so that an answer is never computed twice.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import columns
from pipeline.config import ShardSettings, SinkSettings
from pipeline.errors import OutputError
from pipeline.records import Answer, Cell, Completion, Document, DocumentRow, Failure, Request, Subject

_TABLES = ("requests", "documents", "answers")
_BATCH_ROWS = 8192

Row = dict[str, Any]


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
        self._name = f"shard-{shard.index:04d}-of-{shard.count:04d}"
        self._journal = output / "_journal" / self._name
        self._buffer: dict[str, list[Row]] = {name: [] for name in _TABLES}
        self._part = 0
        self._journal_rows = 0
        self._committed = time.monotonic()
        self._finished: set[str] = set()
        self._failed: dict[str, tuple[str, str]] = {}
        self._documents: dict[str, Row] = {}
        self._wanted: dict[str, list[tuple[str, str, str | None, str | None]]] = {}
        self._present: dict[str, str] = {}
        self._originals: dict[str, str] = {}
        self._reusable: dict[str, Completion] = {}

    def __enter__(self) -> Tables:
        self._prepare()
        try:
            self._load()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)

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

    def original(self, document: Document) -> Row | None:
        """Return the row of the same bytes under the name they were first met by."""
        row = self._documents.get(self._originals.get(document.document_id, document.source))
        return row if row is not None and row["document_id"] == document.document_id else None

    def completion(self, request: Request) -> Completion | None:
        """Return what an interrupted run already got for this request."""
        return self._reusable.get(request.request_id)

    # ---- what is added ----

    def want(self, cell: Cell) -> None:
        """Note that the current inputs and questions ask for this cell."""
        question = cell.question
        row = (cell.subject.source, question.question_id, question.gold_answer, question.gold_page)
        self._wanted.setdefault(cell.answer_id, []).append(row)

    def meet(self, document: Document) -> None:
        """Note that a document is among the current inputs."""
        self._present[document.source] = document.document_id
        self._originals.setdefault(document.document_id, document.source)

    def meet_folder(self, folder: Subject) -> None:
        """Note that a folder, asked about as a whole, is among the current inputs."""
        self._present[folder.source] = folder.document_id

    def inputs(self) -> tuple[int, int]:
        """Count the current inputs that could be read whole, and those that could not."""
        rows = [self._documents[source] for source in self._present if source in self._documents]
        ok = sum(row["status"] == "ok" for row in rows)
        return ok, len(rows) - ok

    def outcome(self) -> tuple[int, Counter[str]]:
        """Count the wanted rows: how many are ok, and how many failed by error code."""
        ok, failed = 0, Counter[str]()
        for answer_id, places in self._wanted.items():
            if answer_id in self._finished:
                ok += len(places)
            elif answer_id in self._failed:
                failed[self._failed[answer_id][0]] += len(places)
        return ok, failed

    def add_request(self, request: Request, completion: Completion) -> None:
        failure = completion.failure
        self._buffer["requests"].append(
            {
                "request_id": request.request_id,
                "answer_id": request.cell.answer_id,
                "document_id": request.cell.subject.document_id,
                "source": request.cell.subject.source,
                "question_id": request.cell.question.question_id,
                "kind": request.kind,
                "pages": [page.ordinal for page in request.pages],
                "text": completion.text,
                **_status(failure),
                "finish_reason": completion.finish_reason,
                "counted_tokens": request.prompt_tokens,
                "prompt_tokens": completion.prompt_tokens,
                "cached_tokens": completion.cached_tokens,
                "output_tokens": completion.output_tokens,
                "confidence": completion.confidence,
                "engine_seconds": completion.engine_seconds,
                **{key: self._stamp[key] for key in ("model", "engine", "task", "run_id")},
                "created_at": dt.datetime.now(dt.UTC),
            }
        )

    def add_document(self, row: DocumentRow) -> None:
        document = row.document
        new: Row = {
            "document_id": document.document_id,
            "source": document.source,
            "kind": document.kind,
            "bytes": document.bytes,
            "pages": row.pages,
            "text_layer_pages": row.text_layer_pages,
            "blank_pages": row.blank_pages,
            "languages": list(row.languages),
            **_status(row.failure),
            "duplicate_of": document.duplicate_of,
            "raster_seconds": row.raster_seconds,
        }
        old = self._documents.get(document.source)
        if old is None or any(old[key] != new[key] for key in new if key != "raster_seconds"):
            self._documents[document.source] = new
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
        subject, question = cell.subject, cell.question
        fields = answer.fields or {}
        self._buffer["answers"].append(
            {
                "answer_id": cell.answer_id,
                "document_id": subject.document_id,
                "source": subject.source,
                "scope": subject.scope,
                "page": subject.page,
                "question_id": question.question_id,
                "question": question.text,
                **_status(failure),
                "answer": answer.answer,
                "fields": json.dumps(fields, ensure_ascii=False) if answer.fields is not None else None,
                "evidence_pages": list(answer.evidence_pages),
                "evidence_found": answer.evidence_found,
                "pages_total": subject.pages_total or None,
                "pages_read": answer.pages_read,
                "requests": answer.requests,
                "finish_reason": answer.finish_reason,
                "confidence": answer.confidence,
                "needs_review": answer.needs_review,
                "prompt_tokens": answer.prompt_tokens,
                "cached_tokens": answer.cached_tokens,
                "output_tokens": answer.output_tokens,
                "engine_seconds": answer.engine_seconds,
                **self._stamp,
                "created_at": dt.datetime.now(dt.UTC),
                "gold_answer": question.gold_answer,
                "gold_page": question.gold_page,
                **{
                    f"field_{name}": columns.value(fields.get(name), kind)
                    for name, kind in self._field_kinds.items()
                },
            }
        )
        if failure is None:
            self._finished.add(cell.answer_id)
            self._failed.pop(cell.answer_id, None)
        else:
            self._failed[cell.answer_id] = (failure.code, failure.message)

    # ---- making it last ----

    def commit_if_due(self) -> None:
        """Journal what was added if that was last done `journal_seconds` ago."""
        if time.monotonic() - self._committed >= self._settings.journal_seconds:
            self.commit()

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
        with _disk_errors(self._output):
            self._write_part(tables)
        self._journal_rows += len(self._buffer["answers"])
        self._buffer = {name: [] for name in _TABLES}
        parts = self._parts()
        small = [part for part in parts if not part.name.endswith("-rolled")]
        if len(small) >= self._settings.journal_parts:
            self._roll_up(small)
        if self._journal_rows >= max(self._settings.checkpoint_rows, len(self._finished) // 2):
            self.publish(complete=False)

    def publish(self, complete: bool) -> None:
        """Write the tables that analysts read; `complete` says that every current input has been met."""
        with _disk_errors(self._output):
            parts = self._parts()
            kept = {name: self._publish_aside(name, parts, complete) for name in _TABLES}
            rest = {
                name: pa.concat_tables(tables, promote_options="default")
                for name, tables in kept.items()
                if tables
            }
            if rest:  # journaled before the published file that held them is replaced
                self._write_part(rest, suffix="-rolled")
            for name in _TABLES:
                target = self._published(name)
                if (aside := _aside(target)).exists():
                    aside.rename(target)
                    _sync(target.parent)
            for part in parts:
                shutil.rmtree(part)
        self._journal_rows = 0

    def write_run(self, record: Mapping[str, Any]) -> None:
        """Write run.json, and the shard's own copy beside its journal."""
        text = json.dumps(record, indent=2, ensure_ascii=False, default=str) + "\n"
        with _disk_errors(self._output):
            _write_aside(self._journal / "run.json", text)
            _write_aside(self._output / "run.json", text)

    def first_date(self) -> dt.date:
        """Return the date on which this output directory was begun, the same in all its runs and shards."""
        file = self._output / "_journal" / "date"
        with _disk_errors(self._output):
            aside = file.with_name(f"date.{os.getpid()}.{self._name}")
            aside.write_text(self._begun.date().isoformat())
            with contextlib.suppress(FileExistsError):
                os.link(aside, file)  # atomic: the first of many shards decides
            aside.unlink()
            return dt.date.fromisoformat(file.read_text())

    def write_plan(self, rows: Sequence[Row]) -> None:
        """Write plan.parquet."""
        target = self._output / "plan.parquet"
        with _disk_errors(self._output):
            _write_parquet(_aside(target), pa.Table.from_pylist(list(rows), schema=columns.PLAN))
            _aside(target).rename(target)

    # ---- inside ----

    def _prepare(self) -> None:
        with _disk_errors(self._output):
            for folder in (*(self._output / name for name in _TABLES), self._journal):
                folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._journal / "lock", os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise OutputError(
                f"output={self._output}: another run holds {self._name}; wait for it to end"
            ) from error
        for leftover in [*self._journal.glob("*.aside"), *self._output.glob(f"*/{self._name}.parquet.aside")]:
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        count = self._name[-4:]
        for file in (self._output / "answers").glob("shard-*.parquet"):
            if not file.stem.endswith(f"-of-{count}"):
                other = int(file.stem[-4:])
                raise OutputError(
                    f"output={self._output}: was written as {other} shards, not {int(count)}; "
                    f"use shard.count={other} or another output"
                )

    def _load(self) -> None:
        """Learn from the Parquet files themselves what is finished, oldest first."""
        parts = self._parts()
        self._part = max((int(part.name[5:11]) for part in parts), default=0)
        for file in self._files("answers", parts):
            self._check_types(file)
            table = pq.read_table(file, columns=["answer_id", "status", "error_code", "error"])
            ok = pc.equal(table["status"], "ok")
            self._finished.update(table.filter(ok)["answer_id"].to_pylist())
            for row in table.filter(pc.invert(ok)).to_pylist():
                self._failed[row["answer_id"]] = (row["error_code"], row["error"])
            self._journal_rows += table.num_rows if file.parent.parent == self._journal else 0
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
            self._reusable[row["request_id"]] = Completion(
                text=row["text"],
                finish_reason=row["finish_reason"],
                prompt_tokens=row["prompt_tokens"],
                cached_tokens=row["cached_tokens"],
                output_tokens=row["output_tokens"],
                confidence=row["confidence"],
                engine_seconds=row["engine_seconds"],
            )

    def _parts(self) -> list[Path]:
        return sorted(part for part in self._journal.glob("part-*") if not part.name.endswith(".aside"))

    def _published(self, name: str) -> Path:
        return self._output / name / f"{self._name}.parquet"

    def _files(self, name: str, parts: Iterable[Path]) -> list[Path]:
        """Return the files of a table, oldest first."""
        files = [self._published(name), *(part / f"{name}.parquet" for part in parts)]
        return [file for file in files if file.exists()]

    def _write_part(self, tables: Mapping[str, pa.Table], suffix: str = "") -> None:
        self._part += 1
        part = self._journal / f"part-{self._part:06d}{suffix}"
        aside = part.with_name(part.name + ".aside")
        aside.mkdir()
        for name, table in tables.items():
            _write_parquet(aside / f"{name}.parquet", table)
        _sync(aside)
        aside.rename(part)
        _sync(self._journal)

    def _roll_up(self, parts: Sequence[Path]) -> None:
        """Make one part of many, so that a long run leaves few files to read when it is resumed."""
        tables = {}
        for name in _TABLES:
            files = [part / f"{name}.parquet" for part in parts if (part / f"{name}.parquet").exists()]
            if files:
                tables[name] = _concatenate([pq.read_table(file) for file in files])
        self._write_part(tables, suffix="-rolled")
        for part in parts:
            shutil.rmtree(part)

    def _publish_aside(self, name: str, parts: Sequence[Path], complete: bool) -> list[pa.Table]:
        """Write one table beside its place; return the rows left out, for the journal to keep."""
        files = self._files(name, parts)
        target = self._published(name)
        latest = _latest_rows(files, _KEYS[name])
        written = [pq.read_schema(file) for file in files]
        schema = pa.unify_schemas([columns.schema(name, self._field_kinds), *written]).remove_metadata()
        if files == [target] and self._is_current(name, target, complete, schema):
            return []
        kept: list[pa.Table] = []
        with pq.ParquetWriter(_aside(target), schema, compression="zstd") as writer:
            for file, mask in zip(files, latest, strict=True):
                for table, wanted in self._sorted_out(name, file, mask, complete):
                    table = columns.conform(table, schema)
                    chosen, rest = table.filter(wanted), table.filter(pc.invert(wanted))
                    if name != "documents" and rest.num_rows:
                        kept.append(rest)
                    if name == "answers":
                        chosen = self._expand(chosen, schema)
                    if chosen.num_rows:
                        writer.write_table(chosen, row_group_size=_BATCH_ROWS)
        _sync(_aside(target))
        return kept

    def _sorted_out(
        self, name: str, file: Path, latest: Sequence[bool], complete: bool
    ) -> Iterator[tuple[pa.Table, pa.Array]]:
        """Yield a file's newest rows in batches, with which of them are to be published."""
        start = 0
        parquet = pq.ParquetFile(file)
        for batch in parquet.iter_batches(batch_size=_BATCH_ROWS):
            table = pa.Table.from_batches([batch])
            mask = pa.array(latest[start : start + table.num_rows], pa.bool_())
            start += table.num_rows
            table = table.filter(mask)
            yield table, pa.array([self._publishes(name, row, complete) for row in _keys(table)], pa.bool_())

    def _publishes(self, name: str, row: Row, complete: bool) -> bool:
        source, document_id = row["source"], row["document_id"]
        if row.get("answer_id") in self._wanted:
            return True
        if source not in self._present:
            return not complete  # not met yet: leave it as it stands
        if name == "documents":
            return bool(self._present[source] == document_id)
        # Rows of other tasks stay as long as the document does; this task's are superseded.
        return bool(row["task"] != self._stamp["task"] and self._present[source] == document_id)

    def _is_current(self, name: str, target: Path, complete: bool, schema: pa.Schema) -> bool:
        """Tell whether publishing again would change nothing."""
        if not complete or pq.read_schema(target).remove_metadata() != schema:
            return False
        columns = {"answers": ["gold_answer", "gold_page", "question_id"]}.get(name, [])
        rows = list(_keys(pq.read_table(target, columns=[*_KEY_COLUMNS[name], *columns])))
        if not all(self._publishes(name, row, complete) for row in rows):
            return False
        if name != "answers":
            return True
        have = sorted(
            (r["answer_id"], r["source"], r["question_id"], r["gold_answer"] or "", r["gold_page"] or "")
            for r in rows
            if r["answer_id"] in self._wanted
        )
        want = sorted(
            (answer_id, source, question_id, gold or "", page or "")
            for answer_id, places in self._wanted.items()
            for source, question_id, gold, page in places
        )
        return have == want

    def _expand(self, table: pa.Table, schema: pa.Schema) -> pa.Table:
        """Repeat an answer under every name and question id that asks for it, with the current gold."""
        names = ("source", "question_id", "gold_answer", "gold_page")
        indices: list[int] = []
        values: list[tuple[str | None, ...]] = []
        own = zip(*(table[name].to_pylist() for name in names), strict=True)
        for index, (answer_id, places) in enumerate(zip(table["answer_id"].to_pylist(), own, strict=True)):
            for place in self._wanted.get(answer_id, [places]):
                indices.append(index)
                values.append(place)
        table = table.take(pa.array(indices, pa.int64()))
        for column, name in enumerate(names):
            array = pa.array([value[column] for value in values], pa.string())
            table = table.set_column(schema.get_field_index(name), schema.field(name), array)
        return table


_KEYS = {"answers": "answer_id", "documents": "source", "requests": "request_id"}
_KEY_COLUMNS = {
    "answers": ["answer_id", "source", "document_id", "task"],
    "requests": ["answer_id", "source", "document_id", "task"],
    "documents": ["source", "document_id"],
}


def _keys(table: pa.Table) -> Iterator[Row]:
    names = ["answer_id", "source", "document_id", "task", "question_id", "gold_answer", "gold_page"]
    columns = [name for name in names if name in table.column_names]
    for values in zip(*(table[name].to_pylist() for name in columns), strict=True):
        yield dict(zip(columns, values, strict=True))


def _latest_rows(files: Sequence[Path], key: str) -> list[list[bool]]:
    """Return, per file, which rows are the newest with their key; files are given oldest first."""
    seen: set[str] = set()
    masks = []
    for file in reversed(files):
        mask = []
        for value in reversed(pq.read_table(file, columns=[key])[key].to_pylist()):
            mask.append(value not in seen)
            seen.add(value)
        masks.append(mask[::-1])
    return masks[::-1]


def _status(failure: Failure | None) -> Row:
    if failure is None:
        return {"status": "ok", "error_code": None, "error": None}
    return {"status": "error", "error_code": failure.code, "error": failure.message}


def _concatenate(tables: Sequence[pa.Table]) -> pa.Table:
    """Join tables whose tasks have different field columns."""
    return pa.concat_tables(tables, promote_options="default")


def _aside(target: Path) -> Path:
    return target.with_name(target.name + ".aside")


def _write_parquet(file: Path, table: pa.Table) -> None:
    pq.write_table(table, file, compression="zstd")
    _sync(file)


def _write_aside(target: Path, text: str) -> None:
    aside = target.with_name(f"{target.name}.{os.getpid()}.aside")
    aside.write_text(text, encoding="utf-8")
    _sync(aside)
    aside.rename(target)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _disk_errors(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"output={output}: cannot be written ({reason}); free space or choose another"
        ) from error
