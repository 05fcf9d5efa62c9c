"""Open the parts of a run, each complete when it is made."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from pipeline import store
from pipeline.answering.reduce import Reducer
from pipeline.asking import prompt, tokens
from pipeline.asking.writer import Writer
from pipeline.config import RunSettings
from pipeline.engines import choose
from pipeline.engines.base import EngineContext
from pipeline.engines.speed import Speed
from pipeline.flow.account import Account
from pipeline.flow.agenda import Agenda
from pipeline.flow.decided import Decided
from pipeline.flow.engine_on_demand import EngineOnDemand
from pipeline.flow.exchange import Exchange
from pipeline.flow.follow_ups import FollowUps
from pipeline.flow.meter import Meter
from pipeline.flow.progress import Progress
from pipeline.reading import draw, language, raster, scratch
from pipeline.records import Document
from pipeline.tables import layout, sink
from pipeline.tables.ledger import Ledger
from pipeline.tables.rows import Stamp
from pipeline.texts import fingerprint

Gate = Callable[[Path, Path, str], None]
"""Raises OutputError for files of answers and of documents that must not be published for a task."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What agenda and exchange share."""

    tables: sink.Tables
    prompt_date: dt.date
    writer: Writer
    rasterizer: raster.Rasterizer
    progress: Progress
    ledger: Ledger
    context: EngineContext
    """What the engine is told of the run."""
    engine: EngineOnDemand
    follow_ups: FollowUps


def opened(
    stack: ExitStack,
    settings: RunSettings,
    decided: Decided,
    account: Account,
    meter: Meter,
    gate: Gate | None,
    inputs: int,
) -> Parts:
    """Open, in the order of the flow, what `stack` closes. `inputs`: how many there are."""
    tables = stack.enter_context(_tables(settings, decided, account, meter, gate))
    # Today's date in the system prompt would change at midnight, and with it every prompt's cache.
    prompt_date = tables.layout.first_date(account.begun.date())
    system_prompt = prompt.fill_system_prompt(
        decided.system_prompt_template, settings.model.name, prompt_date
    )
    if decided.served is not None:
        tables.layout.remember_served(decided.served.model, decided.served.version)
    counter = tokens.TokenCounter(settings.model, system_prompt)
    rasterizer = stack.enter_context(_rasterizer(settings, account.run_id))
    progress = stack.enter_context(Progress(account.summary, inputs))
    context = _engine_context(settings, decided, system_prompt, counter, rasterizer.scratch, account.begun)
    engine = stack.enter_context(
        EngineOnDemand(lambda: choose.build(decided.engine, settings.engine, context), meter.add_loading)
    )
    selection = decided.selection
    return Parts(
        tables=tables,
        prompt_date=prompt_date,
        writer=Writer(settings.task, decided.envelope, counter),
        rasterizer=rasterizer,
        progress=progress,
        ledger=Ledger(language.detect_language),
        context=context,
        engine=engine,
        follow_ups=FollowUps(
            selection.of, decided.identity, tables.known, selection.leaders, settings.retry_errors
        ),
    )


def agenda(settings: RunSettings, decided: Decided, parts: Parts, documents: Iterator[Document]) -> Agenda:
    """Return what is still to be asked of the documents."""
    return Agenda(
        settings=settings,
        documents=documents,
        questions_of=decided.selection.of,
        identity=decided.identity,
        writer=parts.writer,
        tables=parts.tables,
        rasterizer=parts.rasterizer,
        ledger=parts.ledger,
        progress=parts.progress,
        follow_ups=parts.follow_ups,
    )


def exchange(
    settings: RunSettings,
    decided: Decided,
    parts: Parts,
    speed: Speed,
    meter: Meter,
    note_progress: Callable[[], None],
) -> Exchange:
    """Return what sends windows to the engine and makes answers of its replies."""
    return Exchange(
        engine=parts.engine,
        reducer=_reducer(settings, decided, parts.writer),
        writer=parts.writer,
        identity=decided.identity,
        tables=parts.tables,
        ledger=parts.ledger,
        progress=parts.progress,
        note_progress=note_progress,
        most_window_tokens=settings.pack.window_tokens,
        speed=speed,
        meter=meter,
        follow_ups=parts.follow_ups,
    )


def _tables(
    settings: RunSettings,
    decided: Decided,
    account: Account,
    meter: Meter,
    gate: Gate | None,
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
    # What stands before the last hyphen is the same for one output and shard: `sweep` goes by it.
    place = fingerprint(store.lasting_name(settings.output), layout.shard_name(settings.shard))
    folder = scratch.choose(settings.raster.scratch, f"docbatch-{place}-{run_id[:8]}")
    geometry = draw.Geometry(settings.model.image_max_px, settings.model.image_patch_px, settings.raster.crop)
    # Texts of first pages tell scans, which cost more: only predictions need them.
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
    # Shards may begin in the same second and have one folder of logs.
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
        # It reads the same pages by the same rules: a second attempt would say the same.
        repair_attempts=0 if decided.engine == "embedded" else settings.engine.repair_attempts,
        field_kinds=decided.field_kinds,
        # Its parts hand on candidates, in a form of their own, which only the merge makes an answer.
        checks_parts=decided.engine != "embedded",
        calibration=decided.calibration,
        review_all=choose.is_unsure_of(decided.engine, decided.envelope),
    )
