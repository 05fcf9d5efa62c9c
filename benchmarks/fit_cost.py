"""Fit the cost model of vLLM on measured rates: `python -m benchmarks.fit_cost`.

Reads results/rates.csv, prints the constants of `pipeline/engines/vllm/speed.py` that fit best, and how far
the model with its present constants is from each rate.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.compose import compose_settings
from pipeline.config import RunSettings
from pipeline.engines.vllm import speed
from pipeline.engines.vllm.memory import Layout
from pipeline.engines.vllm.speed import VllmSpeed
from pipeline.records import Usage

RATES = Path(__file__).parent / "results" / "rates.csv"
_FITTED = ("_BF16_FLOPS", "_FP8_FLOPS", "_ATTENTION_FLOPS", "_ENCODER_S", "_PLAIN_ENCODER_S", "_PER_DOUBLING",
           "_STAGES")  # fmt: skip


@dataclass(frozen=True)
class Rate:
    """A run that was measured."""

    name: str
    speed: VllmSpeed
    usage: Usage
    requests: int
    seconds: float

    @property
    def predicted_s(self) -> float:
        """The wall-clock time that the model says."""
        return self.requests * self.speed.seconds(self.usage) / self.speed.gpus


def rates() -> Iterator[Rate]:
    """Yield what was measured, each with the model as it was then."""
    with RATES.open(newline="") as file:
        for row in csv.DictReader(file):
            yield _rate(row, compose_settings([f"input={RATES.parent}", f"model={row['model']}"]))


def _rate(row: dict[str, str], settings: RunSettings) -> Rate:
    model, engine = settings.model, settings.engine.vllm
    model.layers, model.parameters_b = int(row["layers"]), float(row["parameters_b"])
    engine.quantization, engine.eager = row["quantization"] or None, row["eager"] == "1"
    engine.args = {} if row["packed"] == "1" else {"scheduler_cls": None}
    layout = Layout(int(row["tensor_parallel"]), int(row["stages"]), 1)
    requests, pages = int(row["requests"]), int(row["pages"])
    usage = Usage(
        round(int(row["prompt_tokens"]) / requests), 0, int(row["output_tokens_each"]), pages // requests
    )
    cache, gib = int(row["cache_tokens"]), float(row["weights_gib_per_gpu"])
    made = VllmSpeed(model, engine, layout, gib, cache, row["gpu"])
    return Rate(f"{row['source']}, {usage.pages} pages", made, usage, requests, float(row["seconds"]))


def main() -> None:
    """Print the constants that fit best, and what those of today come to."""
    measured = list(rates())
    today = np.log([getattr(speed, name) for name in _FITTED])

    def residuals(logs: NDArray[np.float64]) -> list[float]:
        for name, value in zip(_FITTED, np.exp(logs), strict=True):
            setattr(speed, name, float(value))
        return [float(np.log(rate.predicted_s / rate.seconds)) for rate in measured]

    from scipy.optimize import least_squares  # type: ignore[import-untyped]

    fitted = least_squares(residuals, today)
    for name, value in zip(_FITTED, np.exp(fitted.x), strict=True):
        print(f"{name:18}{value:.4g}")
    for rate, off in zip(measured, residuals(today), strict=True):
        print(f"{rate.seconds:8.2f} s measured, {rate.predicted_s:8.2f} predicted, {off:+6.1%}  {rate.name}")


if __name__ == "__main__":
    main()
