"""Stop a run before it would spend more than it may."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from pipeline.config import BudgetSettings
from pipeline.errors import OverBudget
from pipeline.flow.account import Account, spent
from pipeline.flow.expected import Predictor
from pipeline.flow.meter import Meter, Rate
from pipeline.records import FREE, Charge, Chunk, Request, Window
from pipeline.tables import run_record
from pipeline.tables.layout import WHOLE, Layout
from pipeline.tables.run_record import RunRecord

_Place = tuple[str, int]


@dataclass(slots=True)
class Budget:
    """Lets windows pass as long as what was spent, what is under way and the next one fit the budget.

    The cost model says what a window will take, corrected by what those before it took.
    """

    settings: BudgetSettings
    meter: Meter
    account: Account
    predictor: Predictor
    is_stored: Callable[[Request], bool]
    is_scan: Callable[[str], bool]
    spent_by_others: Callable[[], Charge]
    """What other shards of the same plan have spent, and have under way."""
    note: Callable[[], None]
    """Called when what is under way has changed, for the other shards to see."""
    _under_way: dict[_Place, float] = field(default_factory=dict)
    """Predicted seconds of the chunks that have passed and have not been answered."""
    _answered_s: float = 0.0
    """Predicted seconds of those that were answered."""
    _left: tuple[Charge, int] | None = None
    """What would be left to do, and of how many inputs, once no more may pass."""

    def within(self, windows: Iterable[Window]) -> Iterator[Window]:
        """Yield the windows that fit; an empty one asks for all before it to be answered first."""
        if self.settings.gpu_hours is None and self.settings.money is None:
            yield from windows
            return
        # One iterator for both: what is left is counted from where the loop stops.
        found = iter(windows)
        for window in found:
            seconds = sum(map(self._predicted, window))
            # Near the end, and before anything is known of this run, facts are waited for.
            while self._under_way and not (self._answered_s and self._fits(seconds)):
                yield []
            if not self._fits(seconds):
                charge, inputs = self._count([window, *found])
                # Questions that follow others are asked in further passes, of which each may stop here.
                before, others = self._left or (FREE, 0)  # of an earlier pass over the inputs
                self._left = _sum(before, charge), others + inputs
                return
            for chunk in window:
                place = _place(chunk)
                self._under_way[place] = self._under_way.get(place, 0.0) + self._predicted(chunk)
            self._note()
            yield window

    def answered(self, window: Window) -> None:
        """Note that a window was answered, and what it took was charged."""
        # Without a budget nothing is counted as under way, and there is nothing to say to other shards.
        if self._under_way:
            self._answered_s += sum(self._under_way.pop(_place(chunk), 0.0) for chunk in window)
            self._note()

    def check(self) -> None:
        """Raise OverBudget when something was left for the sake of the budget."""
        if self._left is None:
            return
        charge, inputs = self._left
        spent, others = self._spent(), self.spent_by_others()
        hours = (spent.gpu_seconds + others.gpu_seconds) / 3600
        limits = [
            _told("budget.gpu_hours", self.settings.gpu_hours, hours, charge.gpu_seconds / 3600),
            _told("budget.money", self.settings.money, spent.cost + others.cost, charge.cost),
        ]
        told = "; ".join(each for each in limits if each)
        raise OverBudget(f"{told}; {inputs} inputs are left; raise it and run again to continue")

    def _note(self) -> None:
        self.account.reserved = self._charge(sum(self._under_way.values()))
        self.note()

    def _fits(self, seconds: float) -> bool:
        more = self._charge(seconds + sum(self._under_way.values()))
        spent, others = self._spent(), self.spent_by_others()
        hours = (spent.gpu_seconds + others.gpu_seconds + more.gpu_seconds) / 3600
        money = spent.cost + others.cost + more.cost
        return hours <= _limit(self.settings.gpu_hours) and money <= _limit(self.settings.money)

    def _spent(self) -> Charge:
        """Return what this run has spent, and those that it continues."""
        return self.account.spent(self.meter.rate)

    def _charge(self, predicted_s: float) -> Charge:
        """Return what predicted seconds will cost, by what those before them really took."""
        factor = 1.0
        # A first window without anything to ask, all of blank pages, says nothing: all would seem to be free.
        if self._answered_s and self.meter.charged_s:
            factor = self.meter.charged_s / self._answered_s
        return self.meter.rate.charge(predicted_s * factor)

    def _predicted(self, chunk: Chunk) -> float:
        if chunk.subject.failure:
            return 0.0
        new = tuple(request for request in chunk.requests if not self.is_stored(request))
        return self.predictor.seconds(replace(chunk, requests=new), self.is_scan(chunk.subject.source))

    def _count(self, windows: Iterable[Window]) -> tuple[Charge, int]:
        """Return what windows would cost, and how many inputs they are of."""
        total, inputs = 0.0, set[str]()
        for window in windows:
            total += sum(map(self._predicted, window))
            inputs.update(chunk.subject.source for chunk in window)
        return self._charge(total), len(inputs)


def _limit(given: float | None) -> float:
    return float("inf") if given is None else given


def _told(name: str, limit: float | None, spent: float, left: float) -> str:
    if limit is None:
        return ""
    return f"{name}={limit:g}: {spent:.3g} are spent, and what is left would take about {left:.3g}"


def _place(chunk: Chunk) -> _Place:
    return chunk.subject.source, chunk.pages[0].ordinal if chunk.pages else 0


def spent_by_shards(layout: Layout, plan_id: str | None, rate: Rate) -> Charge:
    """Return what the other shards have spent and have under way, and what was spent before their plan."""
    total = FREE
    kind, count = layout.name.split("-")[0], layout.name.rpartition("-")[2]
    for folder in layout.others():
        record = run_record.read(folder / "run.json")
        if record is None:
            continue
        is_shard = folder.name.startswith(kind) and folder.name.endswith(f"-of-{count}")
        if folder.name == WHOLE:
            total = _sum(total, spent_before_plan(record, plan_id, rate))
        elif is_shard and record.plan_id == plan_id:
            total = _sum(total, spent(record, rate))
    return total


def spent_before_plan(whole: RunRecord | None, plan_id: str | None, rate: Rate) -> Charge:
    """Return what was spent before a plan by what it continues: a pilot, a run or a plan that did not end.

    `whole`: what the last of these, or publishing the plan, has recorded.
    """
    if whole is None:
        return FREE
    if whole.plan_id == plan_id and whole.attempt.state != "pilot":
        return Charge(**whole.spent_before)
    return FREE if whole.attempt.state == "complete" else spent(whole, rate)


def _sum(one: Charge, other: Charge) -> Charge:
    return Charge(one.gpu_seconds + other.gpu_seconds, one.cost + other.cost)
