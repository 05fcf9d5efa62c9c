"""Show how far a run is, or the shards of a plan are, while they run too.

    python -m pipeline.status output=runs/march
    python -m pipeline.status output=runs/march json=true   # for programs
    watch -n 5 docbatch status output=runs/march

Settings:

    output=DIR            a directory that a run, or plan=true, writes to
    json=false            print everything as JSON
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pipeline import store, usage
from pipeline.command import errors_end_in_a_line
from pipeline.errors import OutputError, SettingsError
from pipeline.sharding.progress import DONE, FAILED, RUNNING, WAITING, Status, status
from pipeline.sharding.running import RunStatus, runs
from pipeline.texts import one_line

_MOST_LINES = 40


def main() -> None:
    """Print the status; exit 1 with one line when there is none."""
    usage.print_if_asked(__doc__)
    given = dict(each.partition("=")[::2] for each in sys.argv[1:])
    if set(given) - {"output", "json"} or "output" not in given:
        sys.exit("usage: python -m pipeline.status output=DIR [json=true]")
    with errors_end_in_a_line(), store.opened(given["output"]):
        plan, others = found_in(given["output"])
        if given.get("json") == "true":
            print(as_json(plan, others))
        else:
            print("\n".join([*([describe(plan)] if plan else []), *map(describe_run, others)]))


def found_in(output: str) -> tuple[Status | None, list[RunStatus]]:
    """Return how far the plan of an output is, where it has one, and its runs of no plan.

    Raises SettingsError for no such folder, and OutputError where nothing has begun.
    """
    folder = store.folder(output)
    store.fetch(folder / "plan.parquet")
    store.fetch(folder / "_journal", lambda name: name.endswith("/run.json") or name == "_journal/jobs")
    if not folder.is_dir():
        raise SettingsError(f"output={output}: there is no such folder; check the path")
    plan = status(output) if (folder / "plan.parquet").exists() else None
    # Beside a plan, what else is under way: the last run of before it says nothing any more.
    others = [
        run for run in runs(folder, plan.plan_id if plan else None) if plan is None or run.state == RUNNING
    ]
    if plan is None and not others:
        raise OutputError(f"output={output}: no run has begun here, and there is no plan; check the path")
    return plan, others


def describe_run(run: RunStatus) -> str:
    """Return how far a run is, as a few lines."""
    return "\n".join(_lines(run))


def _lines(run: RunStatus) -> Iterator[str]:
    begun = f"{dt.datetime.fromisoformat(run.begun).astimezone():%Y-%m-%d %H:%M:%S}"
    named = " ".join(filter(None, [run.task, run.shard]))
    yield f"run        {run.state}: {named}, begun {begun}, {_time(run.seconds)}"
    yield from (f"           {each}" for each in map(one_line, (run.where, run.reason)) if each)
    share = f" ({run.inputs_done / run.inputs:.0%})" if run.inputs else ""
    yield f"documents  {run.inputs_done} of {run.inputs}{share}"
    rate = f", {run.pages / run.seconds:.1f}/s" if run.seconds else ""
    left = f"; {_time(run.seconds_left)} left" if run.seconds_left is not None else ""
    yield f"pages      {run.pages} read{rate}{left}"
    kept = f", {run.reused} kept" if run.reused else ""
    yield f"answers    {run.answered} new{kept}, {_errors(run.errors)}"


def _errors(errors: Mapping[str, int]) -> str:
    named = ", ".join(f"{code} {count}" for code, count in sorted(errors.items()))
    return f"{sum(errors.values())} errors" + (f": {named}" if named else "")


def describe(found: Status) -> str:
    """Return the status as a few lines."""
    errors: Counter[str] = Counter()
    for shard in found.shards:
        errors.update(shard.errors)
    states = ", ".join(f"{found.count(state)} {state}" for state in (DONE, RUNNING, WAITING, FAILED))
    total = sum(shard.documents for shard in found.shards)
    lines = [
        f"shards     {len(found.shards)}: {states}",
        f"documents  {sum(s.documents_done for s in found.shards)} of {total}"
        f" ({found.documents - total} of {found.documents} needed nothing)",
        f"pages      {sum(s.pages_done for s in found.shards)} of {sum(s.pages for s in found.shards)}",
        f"answers    {sum(s.answers for s in found.shards)} new, {_errors(errors)}",
    ]
    if found.seconds_left is not None:
        lines.append(f"rate       {found.pages_per_second:.1f} pages/s; {_time(found.seconds_left)} left")
    lines += [f"{name:11}{state}" for name, state in found.jobs.items()]
    shown = [shard for shard in found.shards if shard.state in (RUNNING, FAILED) or shard.reason]
    for shard in shown[:_MOST_LINES]:
        tries = f", attempt {shard.attempts}" if shard.attempts > 1 else ""
        lines.append(
            f"  shard {shard.shard:<5}{shard.state:9}{shard.pages_done} of {shard.pages} pages"
            f"{tries}{shard.where}{': ' + one_line(shard.reason) if shard.reason else ''}"
        )
    if len(shown) > _MOST_LINES:
        lines.append(f"  and {len(shown) - _MOST_LINES} more; json=true shows all")
    return "\n".join(lines)


def as_json(plan: Status | None, others: Sequence[RunStatus]) -> str:
    """Return the status for programs."""
    found = {"runs": [dataclasses.asdict(run) | {"seconds_left": run.seconds_left} for run in others]}
    if plan is not None:
        more = {"pages_per_second": plan.pages_per_second, "seconds_left": plan.seconds_left}
        found = dataclasses.asdict(plan) | more | found
    return json.dumps(found, indent=1, ensure_ascii=False)


# ---- inside ----


def _time(seconds: float) -> str:
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {int(seconds % 60)} s"


if __name__ == "__main__":
    main()
