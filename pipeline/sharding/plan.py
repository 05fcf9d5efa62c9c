"""Plan a run without an engine: predict what each input takes, and divide the inputs into shards."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from pipeline import store
from pipeline.config import RunSettings, whole
from pipeline.evaluating.installed import gate_of
from pipeline.flow import meter, session
from pipeline.flow.expected import Predictor
from pipeline.flow.inputs import find_inputs
from pipeline.flow.session import Session
from pipeline.reading.language import detect_language
from pipeline.records import Outline, Request
from pipeline.sharding import forecast, prediction, shards
from pipeline.sharding.balance import balance
from pipeline.sharding.prediction import PlanRow

_FILE_COST_S = 0.01
"""What a file costs besides its tokens: it keeps files that only fail from all landing on one shard."""


@dataclass(slots=True)
class Predicted:
    """What a run has to do."""

    rows: dict[str, PlanRow] = field(default_factory=dict)
    """A row per input, by source."""
    todo: set[str] = field(default_factory=set)
    """The sources that something is left to do on."""


def make(settings: RunSettings, estimate: str = "") -> str:
    """Divide what is left to do into shard.count shards in plan.parquet, and return the plan as a table.

    `estimate`: what is known better than predicted, in words.
    """
    with opened(settings) as run:
        # What the tasks of an earlier plan left unpublished would be unknown to those of this one. What a
        # gate keeps unpublished is unknown: where such a document has something new, all is asked again.
        if run.tables.layout.has_leftovers:
            run.tables.sink.publish(complete=False)
        # Else the lock of a shard that is no more would be looked at for ever.
        run.tables.layout.forget_shards()
        predicted = predict(run, run.exchange.is_stored)
        assign(predicted.rows, predicted.todo, settings.task.scope, settings.shard.count)
        listed = list(predicted.rows.values())
        shards.write(
            store.folder(settings.output),
            listed,
            settings.task.name,
            settings.shard.count,
            run.account.settings_hash,
        )
        told = forecast.describe(listed, run, settings.shard.count)
        return f"{told}\n{estimate}" if estimate else told


def opened(settings: RunSettings) -> AbstractContextManager[Session]:
    """Open a session over all inputs that looks at them without drawing any page."""
    of_all = replace(whole(settings), plan=True)
    return session.opened(of_all, lambda: find_inputs(of_all, balance), gate_of(settings))


def predict(run: Session, is_stored: Callable[[Request], bool]) -> Predicted:
    """Go over all inputs; requests that are stored take nothing."""
    found = Predicted()
    predictor = Predictor(run.speed, run.reply.tokens)
    rate = meter.rate(run.speed, run.settings.cost)

    def noted() -> Iterator[Outline]:
        for outline in run.agenda.outlines():
            document, text = outline.document, (outline.sample or "").strip()
            found.rows[document.source] = prediction.row(outline, _language(text))
            if run.tables.known.document(document) is None and not document.duplicate_of:
                found.todo.add(document.source)
            yield outline

    for chunk in run.agenda.chunks(noted()):
        name = chunk.pages[0].document.source if chunk.pages else chunk.subject.source
        if name in found.rows:
            requests = tuple(each for each in chunk.requests if not is_stored(each))
            row = found.rows[name]
            prediction.add(row, replace(chunk, requests=requests), predictor, rate, name in run.agenda.scans)
            found.todo.add(name)
    return found


def _language(text: str) -> str | None:
    """Return the language of a text, `und` where it says too little, and None where there is no text."""
    return (detect_language(text) or "und") if text else None


def assign(rows: Mapping[str, PlanRow], todo: Container[str], scope: str, count: int) -> None:
    """Give the inputs with something left to do to shards of equal cost.

    The same bytes under two names are answered once, and a folder asked about as a whole in one request, so
    these go to one shard. `todo` has the sources that something is left to do on.
    """
    groups: dict[str, list[PlanRow]] = {}
    for source, entry in rows.items():
        group = source.rpartition("/")[0] if scope == "folder" else entry.document_id or source
        groups.setdefault(group, []).append(entry)
    work = []
    for entries in groups.values():
        busy = [entry for entry in entries if entry.source in todo]
        if busy:
            # A folder is asked about as a whole: its shard needs all its files, finished or not.
            work.append(entries if scope == "folder" else busy)
    costs = [sum(entry.engine_seconds + _FILE_COST_S for entry in entries) for entries in work]
    for entries, shard in zip(work, balance(costs, count), strict=True):
        for entry in entries:
            entry.shard = shard
