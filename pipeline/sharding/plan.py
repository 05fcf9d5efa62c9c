"""Plan a run without an engine: predict what each input takes, and divide the inputs into shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace

from pipeline import store
from pipeline.config import RunSettings, whole
from pipeline.flow import session
from pipeline.flow.session import Session
from pipeline.records import Outline
from pipeline.sharding import prediction, shards
from pipeline.sharding.balance import balance
from pipeline.sharding.prediction import PlanRow

_FILE_COST_S = 0.01
"""What a file costs besides its tokens: it keeps files that only fail from all landing on one shard."""


def make(settings: RunSettings) -> str:
    """Divide what is left to do into shard.count shards in plan.parquet, and return the plan as a table."""
    of_all = whole(settings)
    with session.opened(of_all, lambda: session.find_inputs(of_all, balance)) as run:
        # What the tasks of an earlier plan left unpublished would be unknown to those of this one.
        if run.tables.layout.has_leftovers:
            run.tables.sink.publish(complete=False)
        # Else the lock of a shard that is no more would be looked at for ever.
        run.tables.layout.forget_shards()
        rows, todo = _predict(run)
        assign(rows, todo, settings.task.scope, settings.shard.count)
        listed = list(rows.values())
        shards.write(
            store.folder(settings.output),
            listed,
            settings.task.name,
            settings.shard.count,
            run.account.settings_hash,
        )
        return describe(listed, run, settings.shard.count)


def _predict(run: Session) -> tuple[dict[str, PlanRow], set[str]]:
    """Return a row per input, by source, and the sources that something is left to do on."""
    rows: dict[str, PlanRow] = {}
    todo: set[str] = set()

    def noted() -> Iterator[Outline]:
        for outline in run.agenda.outlines():
            document = outline.document
            rows[document.source] = prediction.row(document, len(outline.pages), outline.failure)
            if run.tables.known.document(document) is None and not document.duplicate_of:
                todo.add(document.source)
            yield outline

    for chunk in run.agenda.chunks(noted()):
        name = chunk.pages[0].document.source if chunk.pages else chunk.subject.source
        if name in rows:
            requests = tuple(each for each in chunk.requests if not run.exchange.is_stored(each))
            prediction.add(rows[name], replace(chunk, requests=requests), run.settings.model)
            todo.add(name)
    return rows, todo


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
            work.append(entries if scope == "folder" else busy)
    costs = [sum(entry.gpu_seconds + _FILE_COST_S for entry in entries) for entries in work]
    for entries, shard in zip(work, balance(costs, count), strict=True):
        for entry in entries:
            entry.shard = shard


def describe(rows: Sequence[PlanRow], run: Session, count: int) -> str:
    """Return the plan as a short table; `count`: into how many shards it is divided."""
    model, wanted = run.settings.model, run.tables.wanted
    bad = Counter(entry.error_code for entry in rows if entry.error_code)
    total = {
        name: sum(getattr(entry, name) for entry in rows)
        for name in ("pages", "requests", "merge_requests", "prompt_tokens", "computed_tokens", "gpu_seconds")
    }
    share = 1 - total["computed_tokens"] / total["prompt_tokens"] if total["prompt_tokens"] else 0.0
    kept, _, _ = run.tables.known.count(wanted.cells())
    unmatched = len(run.summary.questions_unmatched)
    lines = [
        f"task            {run.settings.task.name}",
        f"model           {model.name}",
        f"inputs          {len(rows)} = {len(rows) - bad.total()} readable + {bad.total()} that will fail",
        f"questions       {wanted.questions} asked, in {wanted.row_count} rows of the answers"
        + (f"; {unmatched} document patterns match no input" if unmatched else ""),
        f"pages           {total['pages']}",
        f"requests        {total['requests']} (and {total['merge_requests']} merges of long documents)",
        f"prompt tokens   {total['prompt_tokens']:,} ({share:.0%} from the prefix cache)",
        f"answers kept    {kept}",
        f"GPU hours       {total['gpu_seconds'] / 3600:.2f} to read the prompts"
        f" ({total['gpu_seconds'] / 3600 / model.gpus:.2f} h on {model.gpus} GPUs)",
    ]
    if count > 1:
        loads = [0.0] * count
        for entry in rows:
            if entry.shard is not None:
                loads[entry.shard] += entry.gpu_seconds
        lines.append(
            f"shards          {count}: {min(loads) / 3600:.2f} to {max(loads) / 3600:.2f} GPU hours each"
        )
    return "\n".join(
        [*lines, *(f"  {entry.error_code:14}{entry.error}" for entry in rows if entry.error_code)]
    )
