"""Publish what the shards of a plan have answered."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline import store
from pipeline.config import RunSettings, SourceSettings, whole
from pipeline.evaluating.installed import gate_of
from pipeline.flow import session
from pipeline.flow.budget import spent_before_plan
from pipeline.flow.inputs import Inputs
from pipeline.flow.progress import describe
from pipeline.reading import source
from pipeline.records import Document, DocumentRow, Failure
from pipeline.sharding import shards
from pipeline.sharding.progress import attempts
from pipeline.summary import Summary
from pipeline.tables.run_record import Attempt
from pipeline.texts import one_line


@dataclass(frozen=True, slots=True)
class Published:
    summary: Summary
    missing: Mapping[int, tuple[int, int]]
    """Of each shard that is not finished: how many answers are missing, about how many inputs."""


def publish(settings: RunSettings) -> Published:
    """Publish the tables and return what is in them and what is not. Raises OutputError and SettingsError."""
    settings = replace(whole(settings), retry_errors=False)  # an error is an answer, too, until asked again
    output = store.folder(settings.output)
    plan = shards.read(output)
    shard_of = _shards(plan, settings.task.scope)
    names = [row.source for row in plan.rows()]
    documents = _documents(plan, settings.source, lambda source: run.tables.known.document_named(source))
    inputs = Inputs(documents, names, len(names), Counter(), plan.plan_id, plan.settings_hash)
    with session.opened(settings, lambda: inputs, gate_of(settings)) as run:
        for _ in run.agenda.chunks(run.agenda.outlines()):
            pass  # going over all inputs notes which rows are wanted
        missing = run.tables.wanted.missing(run.tables.known.has_row)
        answers, lacking = Counter[int](), Counter[int]()
        for name, count in missing.items():
            shard = shard_of.get(name, 0)
            answers[shard] += count
            lacking[shard] += 1
        run.tables.known.count_shards_as_new()
        # Behind a gate nothing is published before all of it can be scored.
        is_gated = settings.evaluate.min_score is not None
        run.publish(complete=not (missing and is_gated))
        run.account.spent_before = spent_before_plan(run.recorder.before, plan.plan_id, run.budget.meter.rate)
        _add_up(run.summary, [each for tries in attempts(output, plan).values() for each in tries])
        state = "incomplete" if missing else "complete"
        run.record(state, missing={str(shard): count for shard, count in answers.items()})
        summary = replace(run.summary)  # its time is that of the tasks, not of publishing
    published = Published(summary, {shard: (answers[shard], lacking[shard]) for shard in lacking})
    with store.disk_errors(output):
        store.write_text(output / "summary.md", summarize(published, settings, plan))
    return published


def _shards(plan: shards.Plan, scope: str) -> dict[str, int]:
    """Return which shard answers each input, or each folder that is asked about as a whole."""
    found: dict[str, int] = {}
    for row in plan.rows():
        # A copy is in no shard: its answers are those of the same bytes under the name met first.
        shard = found.get(row.duplicate_of or "", 0) if row.shard is None else row.shard
        found[row.source] = shard
        if scope == "folder" and row.shard is not None:
            found[row.source.rpartition("/")[0] or "."] = shard
    return found


def complaints(published: Published, output: Path) -> list[str]:
    """Return one line for each shard of which something is missing."""
    return [
        f"shard {shard}: {answers} answers about {inputs} inputs are missing{explain(output, shard)}"
        for shard, (answers, inputs) in sorted(published.missing.items())
    ]


def summarize(published: Published, settings: RunSettings, plan: shards.Plan) -> str:
    """Return what was published, what is missing and what each shard took, as Markdown."""
    output = store.folder(settings.output)
    summary = published.summary
    lines = [
        f"# {settings.input}: {settings.task.name}",
        "",
        "```",
        describe(summary, settings.output),
        "```",
    ]
    if published.missing:
        lines += ["", "## Missing", "", *(f"- {line}" for line in complaints(published, output))]
    if summary.errors:
        lines += ["", "## Errors", "", "| code | rows |", "|---|---|"]
        lines += [f"| {code} | {count} |" for code, count in sorted(summary.errors.items())]
    lines += [
        "",
        "## Shards",
        "",
        "| shard | state | attempts | on | pages | answers | errors | seconds | GPU hours | cost |",
    ]
    lines.append("|---|---|---|---|---|---|---|---|---|---|")
    for shard, tries in sorted(attempts(output, plan).items()):
        did = [each.summary for each in tries]
        cells = [
            str(shard),
            tries[-1].state,
            str(len(tries)),
            ", ".join(dict.fromkeys(each.node or "this host" for each in tries)),
            *(str(sum(getattr(each, key) for each in did)) for key in ("pages", "answered", "failed")),
            f"{sum(each.seconds for each in did):.0f}",
            f"{sum(each.gpu_seconds for each in did) / 3600:.3g}",
            f"{sum(each.cost for each in did):,.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def explain(output: Path, shard: int) -> str:
    """Return what the last attempt at a shard said about its end, as the end of a sentence."""
    tries = attempts(output, shards.read(output)).get(shard)
    if not tries:
        return ": no task has worked on it"
    last = tries[-1]
    job = f" of job {last.job} on {last.node}" if last.job else ""
    if last.state == "running":
        return f": the last attempt{job} ended without writing a final state (killed or out of memory)"
    return f": the last attempt{job} is {last.state}" + (f" ({one_line(last.error)})" if last.error else "")


def _documents(
    plan: shards.Plan, given: SourceSettings, row_named: Callable[[str], DocumentRow | None]
) -> Iterator[Document]:
    """Yield the inputs as the plan lists them, or as a task found them if they have changed since."""
    for row in plan.rows():
        location = source.location(row.path)
        document = Document(
            source=row.source,
            path=Path(location),
            kind=row.kind,
            bytes=row.bytes,
            document_id=row.document_id,
            duplicate_of=row.duplicate_of,
            failure=Failure(row.error_code, row.error or "") if row.error_code else None,
        )
        answered = row_named(row.source)
        if answered is not None and answered.document_id != document.document_id:
            (document,) = source.listed([(location, row.source)], given)
        yield document


def _add_up(summary: Summary, attempts: Sequence[Attempt]) -> None:
    """Add what the tasks did to the summary of the whole."""
    for attempt in attempts:
        for name in ("documents", "pages", "requests", "prompt_tokens", "cached_tokens", "output_tokens",
                     "gpu_seconds", "cost", "loading_gpu_seconds"):  # fmt: skip
            setattr(summary, name, getattr(summary, name) + getattr(attempt.summary, name))
    if attempts:
        begun = min(dt.datetime.fromisoformat(attempt.begun) for attempt in attempts)
        ended = max(dt.datetime.fromisoformat(attempt.ended) for attempt in attempts)
        summary.seconds = max(0.0, (ended - begun).total_seconds())  # clocks of several machines
