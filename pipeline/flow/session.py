"""What one run holds open: its parts are put together here, in the order of the flow."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from pipeline.config import RunSettings
from pipeline.engines import choose
from pipeline.engines.base import EngineContext
from pipeline.engines.speed import Speed
from pipeline.errors import Interrupted, OutputError, OverBudget, PipelineError
from pipeline.flow import expected, parts
from pipeline.flow.account import Account
from pipeline.flow.agenda import Agenda
from pipeline.flow.budget import Budget, spent_by_shards
from pipeline.flow.decided import check_plan, check_questions, decide
from pipeline.flow.exchange import Exchange
from pipeline.flow.inputs import Inputs
from pipeline.flow.meter import Meter, rate
from pipeline.flow.parts import Gate
from pipeline.reading import raster
from pipeline.records import Chunk, Window
from pipeline.summary import Summary
from pipeline.tables import run_record, sink
from pipeline.tables.ledger import Ledger
from pipeline.tables.run_record import RunRecord

log = logging.getLogger("pipeline")

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Recorder:
    """Writes run.json: how far the run is, settings, versions, counts, dates.

    Parts of the run call it: it refers to none of them, so that a run is freed when it ends.
    """

    account: Account
    tables: sink.Tables
    plan_id: str | None
    prompt_date: dt.date
    before: RunRecord | None
    """What the last run on this shard wrote."""

    def record(self, state: str, error: str | None = None, missing: dict[str, int] | None = None) -> None:
        """Write it with this state."""
        self.tables.sink.write_run(
            self.account.record(state, error, self.prompt_date, self.plan_id, self.before, missing or {})
        )


@dataclass(frozen=True, slots=True)
class Session:
    """The open parts of a run."""

    settings: RunSettings
    inputs: Inputs
    account: Account
    tables: sink.Tables
    rasterizer: raster.Rasterizer
    ledger: Ledger
    agenda: Agenda
    exchange: Exchange
    context: EngineContext
    """What the engine is told of the run."""
    speed: Speed
    """What the engine takes of the machine."""
    reply: expected.Reply
    """How long its replies are taken to be."""
    budget: Budget
    recorder: Recorder

    @property
    def summary(self) -> Summary:
        """The counts of this run."""
        return self.account.summary

    def room_tokens(self) -> int:
        """Return the prompt tokens that a window may have: the engine and the scratch folder hold several."""
        windows_held = 2 + self.exchange.engine.windows_ahead  # one more is drawn while one is answered
        # Page images are handed over uncompressed, three bytes a pixel; a token stands for a square of them.
        token_bytes = 3 * self.settings.model.image_patch_px**2
        return min(self.exchange.room_tokens(), self.rasterizer.room_bytes() // (windows_held * token_bytes))

    def passes(self) -> Iterator[Iterator[Chunk]]:
        """Yield what is to be asked of all inputs, then the questions whose leading answer came too late."""
        yield self.agenda.chunks(self.agenda.outlines())
        # Asked for again each time: the answers of one pass may let further questions be asked.
        while later := self.exchange.postponed():
            yield iter(later)

    def checkpoint(self, window: Window) -> None:
        """Journal what is finished when a window is, and note how far the run is."""
        self.exchange.progress.add_window(window)
        # First: it charges the requests, and the budget counts by what was charged.
        self.tables.sink.commit()
        self.budget.answered(window)
        self.record("running")

    def finish(self, complete: bool = True) -> None:
        """Publish the tables, and say that the run is complete; or that it was a pilot, over some inputs."""
        self.publish(complete)
        self.record("complete" if complete else "pilot")

    def publish(self, complete: bool = True) -> None:
        """Publish what is wanted and there, and take the counts from it."""
        # Documents that no question was about still have their row.
        for row in self.ledger.unseen():
            self.tables.sink.add_document(row)
        self.tables.sink.commit()
        self.tables.sink.publish(complete)
        self._count()

    def _count(self) -> None:
        """Take the counts from the tables: what is wanted, and what of it is there."""
        summary, known, wanted = self.summary, self.tables.known, self.tables.wanted
        summary.ignored, summary.ignored_files = dict(self.inputs.ignored), self.inputs.ignored.total()
        rows = [row for each in wanted.sources if (row := known.document_named(each))]
        failed = [row for row in rows if row.failure]
        summary.inputs_ok, summary.inputs_error = len(rows) - len(failed), len(failed)
        for row in failed:
            code = str(row.error_code)
            summary.input_errors[code] = summary.input_errors.get(code, 0) + 1
            named = summary.failed_inputs.setdefault(code, [])
            named += [row.source] if len(named) < _MOST_NAMED else []
        summary.reused, summary.answered, errors = known.count(wanted.cells())
        summary.earlier = known.earlier
        summary.errors, summary.failed = dict(errors), errors.total()
        summary.not_asked = known.count_not_asked(wanted.cells())
        summary.cells = summary.reused + summary.answered + summary.failed + summary.not_asked
        summary.rows_left = dict(self.tables.sink.rows_left)

    def stop(self, error: BaseException) -> None:
        """Keep what is finished when the run cannot go on."""
        try:
            self.tables.sink.commit()
            self.tables.sink.publish(complete=False)
        finally:
            if isinstance(error, Interrupted | OverBudget):
                # Whatever the commit did: run.json must not stay at "running" for those who watch it.
                self.record("interrupted", f"{error}" if isinstance(error, OverBudget) else None)
            else:
                self.record("failed", f"{error}" if isinstance(error, PipelineError) else repr(error))

    def record(self, state: str, error: str | None = None, missing: dict[str, int] | None = None) -> None:
        """Write run.json."""
        self.recorder.record(state, error, missing)


@contextlib.contextmanager
def opened(settings: RunSettings, find: Callable[[], Inputs], gate: Gate | None = None) -> Iterator[Session]:
    """Open all that a run needs, in the order of the flow; raises before any work when it cannot be done.

    `gate` is asked whether files of answers and documents may be published.
    """
    # All that can be wrong with the settings or the input is found before anything is opened or written.
    decided = decide(settings)
    inputs = find()
    check_plan(settings, inputs, decided.identity)
    unmatched = check_questions(settings, decided, inputs)
    model = choose.identity(decided.engine, settings.model)
    account = Account(settings, decided.engine, model, decided.identity.settings_hash, decided.served)
    account.summary.questions_unmatched = unmatched
    speed = choose.speed(decided.engine, settings.engine, decided.model)
    meter = Meter(rate(speed, settings.cost), account.summary)
    with ExitStack() as stack:
        open_parts = parts.opened(stack, settings, decided, account, meter, gate, inputs.count)
        agenda = parts.agenda(settings, decided, open_parts, inputs.documents)
        before = _last_record(open_parts.tables)
        account.continue_from(before, inputs.plan_id, meter.rate)
        recorder = Recorder(account, open_parts.tables, inputs.plan_id, open_parts.prompt_date, before)
        exchange = parts.exchange(
            settings, decided, open_parts, speed, meter, lambda: recorder.record("running")
        )
        reply = expected.reply(open_parts.tables.known.mean_reply(settings.task.name), settings.task, speed)
        budget = Budget(
            settings=settings.budget,
            meter=meter,
            account=account,
            predictor=expected.Predictor(speed, reply.tokens),
            is_stored=exchange.is_stored,
            is_scan=agenda.scans.__contains__,
            spent_by_others=lambda: spent_by_shards(open_parts.tables.layout, inputs.plan_id, meter.rate),
            note=lambda: recorder.record("running") if settings.shard.count > 1 else None,
        )
        yield Session(
            settings=settings,
            inputs=inputs,
            account=account,
            tables=open_parts.tables,
            rasterizer=open_parts.rasterizer,
            ledger=open_parts.ledger,
            agenda=agenda,
            exchange=exchange,
            budget=budget,
            speed=speed,
            reply=reply,
            context=open_parts.context,
            recorder=recorder,
        )


def _last_record(tables: sink.Tables) -> RunRecord | None:
    try:
        return run_record.read(tables.layout.journal / "run.json")
    except OutputError as error:
        log.warning("%s; earlier attempts are not counted", error)
        return None
