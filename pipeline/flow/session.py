"""What one run holds open: its parts are put together here, in the order of the flow."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import store
from pipeline.answering import calibration
from pipeline.answering.reduce import Reducer
from pipeline.asking import largest, prompt, questions, schema, tokens
from pipeline.asking.selection import Selection
from pipeline.asking.writer import Writer
from pipeline.config import ModelSettings, RunSettings
from pipeline.engines import choose
from pipeline.engines.base import EngineContext, Served
from pipeline.engines.speed import Speed
from pipeline.errors import Interrupted, OutputError, OverBudget, PipelineError, SettingsError
from pipeline.flow import expected, identity
from pipeline.flow.account import Account
from pipeline.flow.agenda import Agenda
from pipeline.flow.budget import Budget, spent_by_shards
from pipeline.flow.engine_on_demand import EngineOnDemand
from pipeline.flow.exchange import Exchange
from pipeline.flow.follow_ups import FollowUps
from pipeline.flow.meter import Meter, rate
from pipeline.flow.progress import Progress
from pipeline.reading import draw, language, raster, scratch, source
from pipeline.records import Chunk, Document, Json, Summary, Window, fingerprint
from pipeline.tables import layout, run_record, sink
from pipeline.tables.ledger import Ledger
from pipeline.tables.rows import Stamp
from pipeline.tables.run_record import RunRecord

log = logging.getLogger("pipeline")

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Inputs:
    """The documents of a run, and the plan that lists them, where one does."""

    documents: Iterator[Document]
    sources: Sequence[str]
    """Their names, and those of other shards' documents, which are known before any is opened."""
    count: int
    """How many documents there are."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Files beside them that are no input, by ending."""
    plan_id: str | None = None
    plan_settings_hash: str | None = None
    """Settings that the plan was made with: tasks with others would answer other questions."""


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
    prompt_date: dt.date
    before: RunRecord | None
    """What the last run on this shard wrote."""

    @property
    def summary(self) -> Summary:
        """The counts of this run."""
        return self.account.summary

    def room_tokens(self) -> int:
        """Return the prompt tokens that a window may have: the engine and the scratch folder hold several."""
        windows_held = 2 + self.exchange.engine.windows_ahead  # one more is drawn while one is answered
        token_bytes = 3 * self.settings.model.image_patch_px**2
        return min(self.exchange.room_tokens(), self.rasterizer.room_bytes() // (windows_held * token_bytes))

    def passes(self) -> Iterator[Iterator[Chunk]]:
        """Yield what is to be asked of all inputs, then the questions whose leading answer came too late."""
        yield self.agenda.chunks(self.agenda.outlines())
        while later := self.exchange.postponed():
            yield iter(later)

    def checkpoint(self, window: Window) -> None:
        """Journal what is finished when a window is, and note how far the run is."""
        self.exchange.progress.add_window(window)
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
        """Write run.json: how far the run is, settings, versions, counts, dates."""
        plan_id = self.inputs.plan_id
        self.tables.sink.write_run(
            self.account.record(state, error, self.prompt_date, plan_id, self.before, missing or {})
        )


def find_inputs(settings: RunSettings, balance: source.Balance) -> Inputs:
    """Find the inputs that the settings name. Raises SettingsError when there is none."""
    found = source.find(settings.input, settings.source, settings.shard, balance, settings.raster.scratch)
    return Inputs(found.documents, found.all_sources, len(found.sources), Counter(found.ignored_by_ending))


@dataclass(frozen=True, slots=True)
class Decided:
    """What is settled before anything is opened: what is asked, how, and by which engine."""

    questions: int
    """How many there are, whatever they are asked of."""
    selection: Selection
    envelope: dict[str, Json] | None
    """JSON schema of a reply; None for tasks that want plain text."""
    field_kinds: dict[str, str]
    engine: str
    model: ModelSettings
    """With no more context than the largest request of the task takes."""
    system_prompt_template: str
    identity: identity.Identity
    calibration: calibration.Calibration | None
    served: Served | None
    """What the servers of the run serve, where they are its engine."""


def decide(settings: RunSettings) -> Decided:
    """Settle what is asked. Raises SettingsError for what cannot be asked."""
    asked = questions.questions(settings.task)
    selection = Selection(asked)
    envelope = schema.envelope(settings.task)
    template = prompt.system_prompt_template(settings.model)
    model = largest.model_for(settings, asked, envelope, template)
    engine, reason = choose.choose(settings.engine, model)
    log.info("engine=%s: %s", engine, reason)
    told = layout.Layout(Path(settings.output), settings.shard).served()
    served = choose.served(engine, settings.engine, Served(*told) if told else None)
    return Decided(
        questions=len(asked),
        selection=selection,
        envelope=envelope,
        field_kinds=schema.field_kinds(settings.task),
        engine=engine,
        model=model,
        system_prompt_template=template,
        identity=identity.of(settings, engine, envelope, template, served),
        calibration=_calibration(settings.engine.calibration, engine),
        served=served,
    )


def _calibration(file: str | None, engine: str) -> calibration.Calibration | None:
    """Return what confidence is worth. Raises SettingsError for another engine's, which says nothing here."""
    if file is None:
        return None
    found = calibration.read(file)
    if found.engine != engine:
        raise SettingsError(
            f"engine.calibration={file}: was fitted on answers of engine={found.engine}, not of {engine};"
            " fit one on answers of this engine"
        )
    return found


@contextlib.contextmanager
def opened(
    settings: RunSettings, find: Callable[[], Inputs], gate: Callable[[Path, Path, str], None] | None = None
) -> Iterator[Session]:
    """Open all that a run needs, in the order of the flow; raises before any work when it cannot be done.

    `gate` is asked whether files of answers and documents may be published.
    """
    # All that can be wrong with the settings or the input is found before anything is opened or written.
    decided = decide(settings)
    inputs = find()
    _check_plan(settings, inputs, decided.identity)
    unmatched = _check_questions(settings, decided, inputs)
    model = choose.identity(decided.engine, settings.model)
    account = Account(settings, decided.engine, model, decided.identity.settings_hash, decided.served)
    account.summary.questions_unmatched = unmatched
    speed = choose.speed(decided.engine, settings.engine, decided.model)
    meter = Meter(rate(speed, settings.cost), account.summary)
    with ExitStack() as stack:
        tables = stack.enter_context(_tables(settings, decided, account, meter, gate))
        # Today's date in the system prompt would change at midnight, and with it every prompt's cache.
        prompt_date = tables.layout.first_date(account.begun.date())
        system_prompt = prompt.fill_system_prompt(
            decided.system_prompt_template, settings.model.name, prompt_date
        )
        if decided.served is not None:
            tables.layout.remember_served(decided.served.model, decided.served.version)
        counter = tokens.TokenCounter(settings.model, system_prompt)
        writer = Writer(settings.task, decided.envelope, counter)
        rasterizer = stack.enter_context(_rasterizer(settings, account.run_id))
        progress = stack.enter_context(Progress(account.summary, inputs.count))
        ledger = Ledger(language.detect_language)
        context = _engine_context(
            settings, decided, system_prompt, counter, rasterizer.scratch, account.begun
        )
        engine = stack.enter_context(
            EngineOnDemand(lambda: choose.build(decided.engine, settings.engine, context), meter.add_loading)
        )
        selection = decided.selection
        follow_ups = FollowUps(
            selection.of, decided.identity, tables.known, selection.leaders, settings.retry_errors
        )
        agenda = Agenda(
            settings=settings,
            documents=inputs.documents,
            questions_of=selection.of,
            identity=decided.identity,
            writer=writer,
            tables=tables,
            rasterizer=rasterizer,
            ledger=ledger,
            progress=progress,
            follow_ups=follow_ups,
        )
        exchange = Exchange(
            engine=engine,
            reducer=_reducer(settings, decided, writer),
            writer=writer,
            identity=decided.identity,
            tables=tables,
            ledger=ledger,
            progress=progress,
            note_progress=lambda: session.record("running"),
            most_window_tokens=settings.pack.window_tokens,
            speed=speed,
            meter=meter,
            follow_ups=follow_ups,
        )
        before, reply = (
            _last_record(tables),
            expected.reply(tables.known.mean_reply(settings.task.name), settings.task),
        )
        account.continue_from(before, inputs.plan_id, meter.rate)
        session = Session(
            settings=settings,
            inputs=inputs,
            account=account,
            tables=tables,
            rasterizer=rasterizer,
            ledger=ledger,
            agenda=agenda,
            exchange=exchange,
            budget=Budget(
                settings=settings.budget,
                meter=meter,
                account=account,
                predictor=expected.Predictor(speed, reply.tokens),
                is_stored=exchange.is_stored,
                is_scan=agenda.scans.__contains__,
                spent_by_others=lambda: spent_by_shards(tables.layout, inputs.plan_id, meter.rate),
                note=lambda: session.record("running") if settings.shard.count > 1 else None,
            ),
            speed=speed,
            reply=reply,
            context=context,
            prompt_date=prompt_date,
            before=before,
        )
        yield session


def _tables(
    settings: RunSettings,
    decided: Decided,
    account: Account,
    meter: Meter,
    gate: Callable[[Path, Path, str], None] | None,
) -> AbstractContextManager[sink.Tables]:
    settings_hash = decided.identity.settings_hash
    stamp = Stamp(account.model, account.engine, settings.task.name, account.run_id, settings_hash)
    return sink.opened(
        store.folder(settings.output),
        settings.shard,
        settings.sink,
        stamp,
        decided.field_kinds,
        meter.charge,
        gate,
    )


def _rasterizer(settings: RunSettings, run_id: str) -> raster.Rasterizer:
    place = fingerprint(store.lasting_name(settings.output), layout.shard_name(settings.shard))
    folder = scratch.choose(settings.raster.scratch, f"docbatch-{place}-{run_id[:8]}")
    geometry = draw.Geometry(settings.model.image_max_px, settings.model.image_patch_px)
    return raster.Rasterizer(
        settings.raster, geometry, folder, samples=settings.plan or _has_budget(settings)
    )


def _has_budget(settings: RunSettings) -> bool:
    return settings.budget.gpu_hours is not None or settings.budget.money is not None


def _engine_context(
    settings: RunSettings,
    decided: Decided,
    system_prompt: str,
    counter: tokens.TokenCounter,
    scratch_folder: Path,
    begun: dt.datetime,
) -> EngineContext:
    shard = f"-{layout.shard_name(settings.shard)}" if settings.shard.count > 1 else ""
    return EngineContext(
        model=decided.model,
        envelope=decided.envelope,
        system_prompt=system_prompt,
        max_output_tokens=settings.task.max_output_tokens,
        scratch=scratch_folder,
        log=store.folder(settings.output) / "logs" / f"engine-{begun:%Y-%m-%dT%H-%M-%S}{shard}-{{}}.log",
        adapt_tokenizer=tokens.skip_pixels,
        detect_language=language.detect_language,
        count_tokens=counter.request,
        served=decided.served,
    )


def _reducer(settings: RunSettings, decided: Decided, writer: Writer) -> Reducer:
    return Reducer(
        envelope=decided.envelope,
        evidence=settings.task.evidence,
        answer_field=settings.task.answer_field,
        review_below=settings.engine.review_below,
        write_merge=writer.merge,
        write_again=writer.again,
        room_tokens=decided.model.context_tokens - settings.task.max_output_tokens,
        repair_attempts=0 if decided.engine == "embedded" else settings.engine.repair_attempts,
        field_kinds=decided.field_kinds,
        checks_parts=decided.engine != "embedded",
        calibration=decided.calibration,
        review_all=choose.is_unsure_of(decided.engine, decided.envelope),
    )


def _check_questions(settings: RunSettings, decided: Decided, inputs: Inputs) -> list[str]:
    """Return the document patterns that match no input. Raises SettingsError when no question has any."""
    if inputs.plan_id is not None:  # the plan was checked; a shard need not have every question's document
        return []
    unmatched = decided.selection.unmatched(inputs.sources)
    patterns = list(dict.fromkeys(question.document for question in unmatched))
    if not patterns:
        return []
    named = ", ".join(patterns[:_MOST_NAMED]) + (", …" if len(patterns) > _MOST_NAMED else "")
    told = (
        f"{len(unmatched)} of {decided.questions} questions name documents that are not in {settings.input}"
    )
    if len(unmatched) == decided.questions:
        raise SettingsError(
            f"task.questions={settings.task.questions}: {told}: {named}; `document` is a path or glob"
            f" relative to input, such as {inputs.sources[0] if inputs.sources else 'a.pdf'}"
        )
    log.warning("%s: %s", told, named)
    return patterns


def _check_plan(settings: RunSettings, inputs: Inputs, known_as: identity.Identity) -> None:
    """Refuse to work on a plan that was made for other answers."""
    if inputs.plan_settings_hash not in (None, known_as.settings_hash):
        raise SettingsError(
            f"output={settings.output}: plan.parquet was made with other settings of model, task or"
            f" engine (here: {settings.model.name}, {settings.task.name}); repeat those or plan again"
        )


def _last_record(tables: sink.Tables) -> RunRecord | None:
    try:
        return run_record.read(tables.layout.journal / "run.json")
    except OutputError as error:
        log.warning("%s; earlier attempts are not counted", error)
        return None
