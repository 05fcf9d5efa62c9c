"""Say in a short table what a run will take, and what that rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from pipeline.engines import choose
from pipeline.engines.speed import devices
from pipeline.flow.session import Session
from pipeline.sharding.prediction import PlanRow
from pipeline.texts import one_line

_MOST_RISKS = 20


def describe(rows: Sequence[PlanRow], run: Session, count: int) -> str:
    """Return the plan as a short table; `count`: into how many shards it is divided."""
    return "\n".join([*_inputs(rows, run), *_work(rows, run), *_shards(rows, count), *_risks(rows)])


def _inputs(rows: Sequence[PlanRow], run: Session) -> Iterator[str]:
    bad = sum(bool(entry.error_code) for entry in rows)
    wanted, unmatched = run.tables.wanted, len(run.summary.questions_unmatched)
    engine, model = run.account.engine, run.context.model
    yield f"task            {run.settings.task.name}"
    yield f"engine          {engine}: {choose.layout(engine, run.settings.engine, model)}"
    yield f"model           {run.account.model}"
    yield f"inputs          {len(rows)} = {len(rows) - bad} readable + {bad} that will fail"
    yield (
        f"questions       {wanted.questions} asked, in {wanted.row_count} rows of the answers"
        + (f"; {unmatched} document patterns match no input" if unmatched else "")
    )  # fmt: skip
    yield f"pages           {sum(entry.pages for entry in rows)}"


def _work(rows: Sequence[PlanRow], run: Session) -> Iterator[str]:
    prompt, computed, output = (
        sum(getattr(row, name) for row in rows)
        for name in ("prompt_tokens", "computed_tokens", "output_tokens")
    )
    merges, follow_ups = sum(row.merge_requests for row in rows), sum(row.follow_ups for row in rows)
    kept = run.tables.known.count(run.tables.wanted.cells())[0]
    yield (
        f"requests        {sum(row.requests for row in rows)} (and {merges} merges of long documents)"
        + (f"; {follow_ups} of them only where `when` holds" if follow_ups else "")
    )  # fmt: skip
    cached = f"{1 - computed / prompt if prompt else 0:.0%} from the prefix cache"
    of_what = cached if run.speed.is_model else "as a model would read them"
    on_top = "; those of merges come on top" if merges else ""
    yield f"prompt tokens   {prompt:,} ({of_what}){on_top}"
    if run.speed.is_model:
        yield f"output tokens   about {output:,}"
    yield f"answers kept    {kept}"
    yield time_taken(sum(row.engine_seconds for row in rows), run)
    if any(prices(run)):
        yield f"cost            {sum(row.cost for row in rows):,.2f}"
    yield f"assumed         {run.speed.assumed}"
    if run.speed.is_model:
        yield f"                {run.reply.tokens:.0f} tokens a reply, {run.reply.why}"
        yield "                loading the model comes on top"


def time_taken(device_seconds: float, run: Session) -> str:
    """Return the line with the time that some seconds of one device are."""
    hours, count = device_seconds / 3600, devices(run.speed)
    what = "GPU" if run.speed.gpus else "core"
    return f"{what + ' hours':16}{hours:.2f} ({hours / count:.2f} h on {count} {what}s)"


def prices(run: Session) -> tuple[float, float]:
    """Return the prices that are set."""
    return run.settings.cost.gpu_hour_price, run.settings.cost.core_hour_price


def _shards(rows: Sequence[PlanRow], count: int) -> Iterator[str]:
    if count > 1:
        loads = [0.0] * count
        for entry in rows:
            if entry.shard is not None:
                loads[entry.shard] += entry.engine_seconds / 3600
        yield f"shards          {count}: {min(loads):.2f} to {max(loads):.2f} of these hours each"


def _risks(rows: Sequence[PlanRow]) -> Iterator[str]:
    """Name what will fail, and what may; of many, how many."""
    failing = [(str(row.error_code), str(row.error)) for row in rows if row.error_code]
    risky = [("risky", f"{row.source}: {row.risk}") for row in rows if row.risk]
    for named in (failing, risky):
        yield from (f"  {code:14}{one_line(text)}" for code, text in named[:_MOST_RISKS])
        for code, more in sorted(Counter(code for code, _ in named[_MOST_RISKS:]).items()):
            yield f"  {code:14}and {more} more; plan.parquet names them"
