"""Answer a sample of the inputs first, and say from it what all of them will take."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import store
from pipeline.config import RunSettings
from pipeline.errors import SettingsError
from pipeline.flow.inputs import Inputs
from pipeline.flow.session import Session
from pipeline.reading import source
from pipeline.sharding import forecast, plan, sample, shards
from pipeline.sharding.prediction import PlanRow
from pipeline.sharding.sample import Chosen, Interval, Unit
from pipeline.tables import read


@dataclass(frozen=True, slots=True)
class Pilot:
    """A sample of the units that can be read, and what all of them are predicted to take."""

    sample: list[Chosen]
    units: int
    predicted: float
    inputs: list[tuple[Path, str]]
    """The files of the sample, and their names."""


def make(settings: RunSettings, answer: Callable[[Callable[[], Inputs]], object]) -> str:
    """Answer a sample of `settings.pilot` inputs, and return the plan of all with what the sample says.

    `answer` runs over the inputs that it is given, and leaves everything else as it is. What was answered is
    in the tables: the run over all inputs does not ask it again.
    """
    with plan.opened(settings) as run:
        # As if nothing were stored: a pilot that goes on must see the inputs as the first one did.
        rows = list(plan.predict(run, lambda request: False).rows.values())
        pilot = _pilot(settings, rows, run.account.settings_hash)
    # All names: a question about an input outside of the sample is not one that matches nothing.
    names = [row.source for row in rows]
    answer(lambda: Inputs(source.listed(pilot.inputs, settings.source), names, len(pilot.inputs)))
    with plan.opened(settings) as run:
        estimate = _estimate(settings, pilot, run)
    return plan.make(settings, estimate)


def _pilot(settings: RunSettings, rows: Sequence[PlanRow], settings_hash: str) -> Pilot:
    """Choose the sample; a pilot that was begun before with the same settings and inputs goes on."""
    members: dict[str, list[PlanRow]] = defaultdict(list)
    for row in rows:
        # A duplicate takes nothing: what is answered about its bytes is counted at their first name.
        if row.error_code is None and row.duplicate_of is None:
            members[_unit_of(row, settings.task.scope)].append(row)
    if not members:
        raise SettingsError(
            f"pilot={settings.pilot}: none of the {len(rows)} inputs can be read; plan=true says why"
        )
    # As an earlier pilot saw them, before any was answered: its sample is taken again.
    output = store.folder(settings.output)
    units = shards.read_units(output, settings_hash)
    if {unit.name for unit in units} != set(members):
        units = [_unit(name, each) for name, each in members.items()]
        shards.write_units(output, settings_hash, units)
    chosen = sample.choose(units, settings.pilot)
    files = [(Path(os.fsdecode(row.path)), row.source) for each in chosen for row in members[each.unit.name]]
    return Pilot(chosen, len(units), sum(unit.predicted for unit in units), sorted(files, key=lambda f: f[1]))


def _unit_of(row: PlanRow, scope: str) -> str:
    # In folder scope a request shows pages of several files: none can be in the sample alone.
    return row.source if scope != "folder" else row.source.rpartition("/")[0] or "."


def _unit(name: str, rows: Sequence[PlanRow]) -> Unit:
    first, pages = rows[0], sum(row.pages for row in rows)
    stratum = (first.kind, first.language or "", pages.bit_length(), first.source.rpartition("/")[0])
    return Unit(name, stratum, sum(row.engine_seconds for row in rows))


def _estimate(settings: RunSettings, pilot: Pilot, run: Session) -> str:
    """Return what the sample says of all inputs, as lines below the plan."""
    spent, cost, codes = _spent(settings, pilot.sample)
    time = sample.total(pilot.sample, spent, pilot.predicted)
    lines = [
        f"pilot           {len(pilot.sample)} of {pilot.units} that can be read are answered;"
        " all of them, with 95 % intervals:",
        "  " + _hours(time, run),
    ]
    if any(forecast.prices(run)):
        money = sample.total(pilot.sample, cost, pilot.predicted)
        lines.append(f"  cost          {money.value:,.2f} ({money.low:,.2f} to {_shown(money.high, 2)})")
    met, others = sample.by_code(pilot.sample, codes, pilot.units)
    lines += [
        f"  {code:14}{found.value:.0f} inputs ({found.low:.0f} to {found.high:.0f})"
        for code, found in met.items()
    ]
    return "\n".join([*lines, f"  other errors  at most {others} inputs for each code"])


def _hours(seconds: Interval, run: Session) -> str:
    what = "GPU hours" if run.speed.gpus else "hours"
    value, low, high = (each / 3600 for each in (seconds.value, seconds.low, seconds.high))
    return f"{what:14}{value:.3g} ({low:.3g} to {_shown(high, 3)})"


def _shown(number: float, digits: int) -> str:
    return (
        "unknown"
        if math.isinf(number)
        else f"{number:,.{digits}g}"
        if digits == 3
        else f"{number:,.{digits}f}"
    )


def _spent(
    settings: RunSettings, chosen: Sequence[Chosen]
) -> tuple[dict[str, float], dict[str, float], dict[str, set[str]]]:
    """Return what each unit of a sample took, in seconds and money, and the error codes of those with any.

    Seconds are those of GPUs, or of the engine where it holds none.
    """
    output, names = store.folder(settings.output), {each.unit.name for each in chosen}
    seconds, cost = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    asked = read.requests(output)
    values = (asked[name].to_pylist() for name in ("source", "task", "gpu_seconds", "engine_seconds", "cost"))
    for name, task, gpu_s, engine_s, money in zip(*values, strict=True):
        if name in names and task == settings.task.name:
            # The one that the plan predicts: GPU-seconds are 0 for an engine that holds no GPU.
            seconds[name] += gpu_s or engine_s or 0.0
            cost[name] += money or 0.0
    answers = read.answers(output)
    values = (answers[name].to_pylist() for name in ("source", "task", "error_code"))
    codes: dict[str, set[str]] = defaultdict(set)
    for name, task, code in zip(*values, strict=True):
        if name in names and task == settings.task.name and code:
            codes[name].add(code)
    return seconds, cost, codes
