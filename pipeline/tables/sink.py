"""Keep every answer: rows are journaled as they come, and published as Parquet files that hold none twice.

Published files hold the rows that the current inputs and questions ask for; rows that nobody asks for any
more stay in the journal, so that an answer is never computed twice.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline import store
from pipeline.config import ShardSettings, SinkSettings
from pipeline.errors import OutputError, StorageError
from pipeline.records import FREE, Answer, Charge, Completion, DocumentRow, Failure, Request
from pipeline.store import disk_errors
from pipeline.tables import columns, journal, lock, published, rows
from pipeline.tables.journal import Journal
from pipeline.tables.known import Known
from pipeline.tables.layout import TABLES, Layout
from pipeline.tables.rows import Stamp
from pipeline.tables.run_record import RunRecord
from pipeline.tables.wanted import Wanted

log = logging.getLogger("pipeline")

Charging = Callable[[Sequence[float]], Sequence[Charge]]


def _free(work: Sequence[float]) -> Sequence[Charge]:
    """Charge nothing."""
    return [FREE] * len(work)


@dataclass(frozen=True, slots=True)
class Tables:
    """The output directory of one shard, while this process holds its lock."""

    layout: Layout
    known: Known
    """What the files say already."""
    wanted: Wanted
    """What the current inputs and questions ask for."""
    sink: Sink
    """What this run adds."""


@contextlib.contextmanager
def opened(
    output: Path,
    shard: ShardSettings,
    settings: SinkSettings,
    stamp: Stamp,
    field_kinds: Mapping[str, str],
    charge: Charging = _free,
    gate: Callable[[Path, Path, str], None] | None = None,
) -> Iterator[Tables]:
    """Open the output directory. Raises OutputError when another run writes it or it holds other types."""
    layout = Layout(output, shard)
    held = lock.Lock(layout.journal / "lock", f"output={output}, {layout.name}")
    _take(held, layout)
    try:
        with disk_errors(output):
            written = Journal(layout.journal, held.token)
            # Under the lock: nobody is writing what looks like a leftover.
            written.sweep()
            layout.sweep()
            layout.check_count()
            layout.check_types(field_kinds)
            known, wanted = Known(layout, stamp.settings_hash, stamp.task), Wanted(stamp.task)
        sink = Sink(layout, settings, stamp, dict(field_kinds), held, written, known, wanted, charge, gate)
        yield Tables(layout, known, wanted, sink)
    finally:
        # What cannot be let go of is that of a dead process once this one ends: the next run takes it over.
        with contextlib.suppress(OSError, StorageError):
            held.release()


def _take(held: lock.Lock, layout: Layout) -> None:
    with disk_errors(layout.output):
        layout.make_folders()
        held.acquire()
        # After the lock is held: whoever held it before has sent all that it wrote.
        layout.fetch()
    # Taken first, then looked around: of two that begin at the same moment at least one sees the other.
    try:
        for folder in layout.rivals():
            lock.Lock(folder / "lock", f"output={layout.output}, {folder.name}").refuse_if_held()
    except OutputError:
        held.release()
        raise


@dataclass(slots=True)
class Sink:
    """Adds rows: first to a buffer, then to the journal, then to the published tables."""

    layout: Layout
    settings: SinkSettings
    stamp: Stamp
    field_kinds: dict[str, str]
    lock: lock.Lock
    journal: Journal
    known: Known
    wanted: Wanted
    charge: Charging = _free
    """Divides what was spent since its last call among requests, by the work of each."""
    gate: Callable[[Path, Path, str], None] | None = None
    """Raises OutputError for files of answers and documents that must not be published."""
    rows_left: Counter[str] = field(default_factory=Counter)
    """Published answers that left their table in this run, by reason."""
    _buffer: dict[str, list[columns.Row]] = field(default_factory=lambda: {name: [] for name in TABLES})
    _committed: float = field(default_factory=time.monotonic)
    _work: list[float] = field(default_factory=list)
    """Of the requests in the buffer."""
    _unanswered: dict[str, Charge] = field(default_factory=dict)
    """What requests cost whose answers are still to come."""

    def add_request(self, request: Request, completion: Completion, work: float = 0.0) -> None:
        """Add what an engine said; `work` is what it had to do for it, beside others."""
        self._work.append(work)
        self._buffer["requests"].append(rows.of_request(request, completion, self.stamp))

    def add_document(self, row: DocumentRow) -> None:
        """Add what is known of an input, if it is new."""
        if self.known.add_document(row):
            self._buffer["documents"].append(rows.of_document(row))

    def add_answer(self, answer: Answer) -> None:
        """Add a finished cell."""
        # An error that repeats keeps its first row: a run that learns nothing new changes no file.
        if self.known.repeats(answer):
            return
        row = rows.of_answer(answer, self.stamp, self.field_kinds)
        self._buffer["answers"].append(row)
        if answer.failure is None and row["error_code"]:  # its values do not fit the columns
            answer = replace(answer, failure=Failure(str(row["error_code"]), str(row["error"])))
        self.known.add_answer(answer)

    def commit_if_due(self) -> bool:
        """Journal what was added if that was last done `journal_seconds` ago; tell whether it was."""
        if time.monotonic() - self._committed < self.settings.journal_seconds:
            return False
        self.commit()
        return True

    def commit(self) -> None:
        """Journal what was added since the last call, so that no crash can lose it."""
        self._committed = time.monotonic()
        if not any(self._buffer.values()):
            return
        self._charge()
        tables = {
            name: columns.to_table(added, columns.schema(name, self.field_kinds), rows.REFUSED[name])
            for name, added in self._buffer.items()
            if added
        }
        with disk_errors(self.layout.output):
            self.lock.check()
            self.journal.write(tables)
            self.known.journal_rows += len(self._buffer["answers"])
            self._buffer = {name: [] for name in TABLES}  # now: what fails below must not add them again
            self.journal.roll_up(self.settings.journal_parts)
        # Publishing writes every row again: at least half as many new ones keep that to a few times a row.
        if self.known.journal_rows >= max(self.settings.checkpoint_rows, self.known.finished // 2):
            self.publish(complete=False)

    def publish(self, complete: bool) -> None:
        """Write the tables that analysts read; `complete` says that every current input is known.

        A shard of a plan publishes nothing: its journal is published together with those of the others.
        Raises OutputError instead of publishing empty tables over answers that are there. Behind a gate only
        what is complete is published: of a part, nobody can say how good it is.
        """
        if self.layout.shard.planned or (self.gate is not None and not complete):
            return
        with disk_errors(self.layout.output):
            self.lock.check()
            parts = self.layout.parts()
            if complete and all(self._is_current(name, parts) for name in TABLES):
                return
            try:
                self._replace(parts, complete)
            except BaseException:
                self._discard_asides()
                raise
            # Only now: until the tables have taken their places the journal holds these rows.
            journal.drop(parts)
        self.known.journal_rows = 0

    def write_run(self, record: RunRecord) -> None:
        """Write run.json, and the shard's own copy beside its journal."""
        with disk_errors(self.layout.output):
            self.lock.check()
            for folder in [self.layout.journal, *([] if self.layout.shard.planned else [self.layout.output])]:
                store.write_text(folder / "run.json", record.to_json(), by=self.layout.name)

    # ---- inside ----

    def _charge(self) -> None:
        """Write what was spent since the last call into the rows of requests, and of their answers."""
        charges = self.charge(self._work)
        # Those before were charged when writing them failed.
        requests = self._buffer["requests"]
        for row, charge in zip(requests[len(requests) - len(self._work) :], charges, strict=True):
            rows.add_charge(row, charge)
            before = self._unanswered.get(str(row["answer_id"]), FREE)
            total = Charge(before.gpu_seconds + charge.gpu_seconds, before.cost + charge.cost)
            self._unanswered[str(row["answer_id"])] = total
        for row in self._buffer["answers"]:
            rows.add_charge(row, self._unanswered.pop(str(row["answer_id"]), FREE))
        self._work = []

    def _replace(self, parts: Sequence[Path], complete: bool) -> None:
        """Write the tables beside their places, then let them take these one after the other."""
        left = {name: self._write_aside(name, parts, complete) for name in TABLES}
        if complete:
            self._refuse_to_empty()
            if self.gate is not None:
                answers, documents = (store.aside(self.layout.published(n)) for n in ("answers", "documents"))
                self.gate(answers, documents, self.stamp.run_id)
            self.rows_left += left["answers"].reasons
        rest = {name: journal.concatenate(each.rows) for name, each in left.items() if each.rows}
        if rest:  # journaled before the published file that held them is replaced
            self.journal.write(rest, rolled=True)
        self.lock.check()
        # Answers come last: whoever sees an answer finds its document and its requests.
        for name in TABLES:
            target = self.layout.published(name)
            store.settle(store.aside(target), target)

    def _discard_asides(self) -> None:
        """Remove what was written and has not taken its place: on a full disk the journal needs the room."""
        with contextlib.suppress(OSError):
            for name in TABLES:
                store.remove(store.aside(self.layout.published(name)))

    def _write_aside(self, name: str, parts: Sequence[Path], complete: bool) -> published.LeftOut:
        target, files = self.layout.published(name), self.layout.files(name, parts)
        return published.write_aside(name, target, files, self.field_kinds, self.wanted, complete)

    def _is_current(self, name: str, parts: Sequence[Path]) -> bool:
        journaled = journal.files(name, parts)
        target = self.layout.published(name)
        return published.is_current(name, target, journaled, self.field_kinds, self.wanted)

    def _refuse_to_empty(self) -> None:
        """Raise OutputError when the answers about to be published are none, and there were some."""
        target = self.layout.published("answers")
        if published.count(store.aside(target)) or not (before := published.count(target)):
            return
        raise OutputError(
            f"output={self.layout.output}: this run would leave none of its {before} answers; nothing was"
            " changed: check input and questions, or choose another output"
        )
