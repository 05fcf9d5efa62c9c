"""The cost model against the rates that were measured on GPUs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks import fit_cost
from pipeline.config import RunSettings
from pipeline.engines import choose
from pipeline.engines.speed import devices
from pipeline.engines.vllm.memory import Layout
from pipeline.engines.vllm.speed import VllmSpeed
from pipeline.records import Usage


def test_predicted_times_are_within_a_fifth_of_all_measured_ones() -> None:
    rates = list(fit_cost.rates())
    assert len(rates) == 36
    off = {rate.name: rate.predicted_s / rate.seconds - 1 for rate in rates}
    assert all(abs(share) < 0.2 for share in off.values()), off


@pytest.mark.parametrize(
    ("gib", "layers", "eager", "measured"),
    [(23.6, 40, False, 3870), (115, 88, False, 709), (57, 44, False, 1390), (115, 88, True, 457)],
)
def test_the_rate_of_writing_is_within_a_fifth_of_the_measured_one(
    compose: Callable[..., RunSettings], gib: float, layers: int, eager: bool, measured: float
) -> None:
    """32 replies together, on one H200."""
    settings = compose("input=.", f"model.layers={layers}", f"engine.eager={eager}")
    made = VllmSpeed(settings.model, settings.engine.vllm, Layout(1, 1, 1), gib, 10**7, "H200")
    assert 1 / made.seconds(Usage(output_tokens=1)) == pytest.approx(measured, rel=0.2)


def test_what_is_found_in_the_cache_is_not_paid_again(compose: Callable[..., RunSettings]) -> None:
    speed = choose.speed("vllm", compose("input=.").engine, compose("input=.").model)
    first, again = (speed.seconds(Usage(24_000, cached, 40, 8)) for cached in (0, 23_900))
    assert again < 0.05 * first


def test_the_embedded_engine_needs_no_gpu(compose: Callable[..., RunSettings]) -> None:
    settings = compose("input=.", "engine.workers=3")
    speed = choose.speed("embedded", settings.engine, settings.model)
    assert (speed.gpus, devices(speed)) == (0, 3)
    assert speed.seconds(Usage(3_000, pages=1, scans=1)) > 20 * speed.seconds(Usage(3_000, pages=1))
