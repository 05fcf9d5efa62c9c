"""What is charged: all of the time that was spent, and sums that are exact."""

from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.flow.meter import Meter, Rate
from pipeline.summary import Summary


def ticking(*seconds: float) -> Iterator[float]:
    yield from seconds


@settings(deadline=None)
@given(
    st.lists(st.lists(st.floats(0, 1e6), min_size=1, max_size=20), min_size=1, max_size=8),
    st.floats(0.001, 1e4),
    st.integers(1, 64),
)
def test_charges_sum_to_the_summary_in_whatever_order(
    work: list[list[float]], each_s: float, gpus: int
) -> None:
    clock = ticking(*(n * each_s for n in range(len(work) + 1)))
    summary = Summary()
    meter = Meter(Rate(gpus, gpus, 2.5 / 3600), summary, clock=lambda: next(clock))
    meter.run()
    charges = [charge for shares in work for charge in meter.charge(shares)]
    random.Random(0).shuffle(charges)
    assert sum(charge.gpu_seconds for charge in charges) == summary.gpu_seconds
    assert sum(charge.cost for charge in charges) == summary.cost
    assert sum(Fraction(charge.cost) for charge in charges) == Fraction(summary.cost)
    # What rounding leaves is charged with the next.
    spent = len(work) * each_s * gpus
    assert summary.gpu_seconds == pytest.approx(spent, rel=1e-9, abs=1e-4)
    assert summary.cost == pytest.approx(spent * 2.5 / 3600, rel=1e-6, abs=1e-4)


def test_time_without_requests_is_nobodys() -> None:
    clock = ticking(0.0, 1.0, 100.0, 103.0)
    meter = Meter(Rate(2, 2, 1.0), Summary(), clock=lambda: next(clock))
    meter.run()
    meter.pause()  # 99 s of nothing follow
    meter.run()
    charges = meter.charge([3.0, 1.0])
    assert [charge.gpu_seconds for charge in charges] == [6.0, 2.0]
    assert [charge.cost for charge in charges] == [6.0, 2.0]


def test_cores_cost_money_and_no_gpu_time() -> None:
    clock = ticking(0.0, 10.0)
    meter = Meter(Rate(0, 4, 0.5), Summary(), clock=lambda: next(clock))
    meter.run()
    assert meter.charge([1.0])[0] == (0.0, 20.0)
