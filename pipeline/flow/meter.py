"""Measure what answering takes of the machine, and divide it among the requests that it was spent on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.config import CostSettings
from pipeline.engines import speed
from pipeline.engines.speed import Speed
from pipeline.records import Charge
from pipeline.summary import Summary

# Sums of multiples of these are exact, in whatever order, up to a hundred years and half a billion.
_SECONDS, _MONEY = 2.0**-20, 2.0**-24


@dataclass(frozen=True, slots=True)
class Rate:
    """What an engine holds while it works, and what that costs."""

    gpus: int
    devices: int
    money_per_second: float
    """Of one device: a GPU, or a core where no GPU answers."""

    def charge(self, device_seconds: float) -> Charge:
        """Return what some seconds of one device cost; `device_seconds` is a multiple of 2^-20."""
        money = round(device_seconds * self.money_per_second / _MONEY) * _MONEY
        return Charge(device_seconds if self.gpus else 0.0, money)


def rate(held: Speed, prices: CostSettings) -> Rate:
    """Return the rate of an engine at the prices of the settings."""
    price = prices.gpu_hour_price if held.gpus else prices.core_hour_price
    return Rate(held.gpus, speed.devices(held), price / 3600)


@dataclass(slots=True)
class Meter:
    """Runs while an engine has requests under way; what it shows is charged to those that have ended.

    Requests are read and written side by side, so that none has a time of its own: each is charged the part
    of the time that its work is of all work that ended with it.
    """

    rate: Rate
    summary: Summary
    clock: Callable[[], float] = field(default_factory=lambda: time.monotonic)
    charged_s: float = 0.0
    """Of all devices together, since the run began."""
    _began: float | None = None
    _uncharged_s: float = 0.0
    """Of each device."""

    def run(self) -> None:
        """Begin to count, if that has not begun."""
        if self._began is None:
            self._began = self.clock()

    def pause(self) -> None:
        """Count no longer: nothing is under way."""
        self._take()
        self._began = None

    def add_loading(self, seconds: float) -> None:
        """Count the time that a model took to load, which is no request's."""
        self.summary.loading_gpu_seconds += seconds * self.rate.gpus

    def charge(self, work: Sequence[float]) -> list[Charge]:
        """Divide what was counted since the last call among requests by their work; add it to the summary."""
        if not work:
            return []
        self._take()
        whole = sum(work)
        # Work that is predicted to take nothing, of failures alone, is charged in equal parts.
        shares = [each / whole for each in work] if whole > 0 else [1 / len(work)] * len(work)
        device_seconds = self._uncharged_s * self.rate.devices
        # Rounded down: no more is charged than was measured, and the rest comes with the next.
        parts = [math.floor(share * device_seconds / _SECONDS) * _SECONDS for share in shares]
        self._uncharged_s = max(0.0, device_seconds - sum(parts)) / self.rate.devices
        self.charged_s += sum(parts)
        charges = [self.rate.charge(part) for part in parts]
        self.summary.gpu_seconds += sum(charge.gpu_seconds for charge in charges)
        self.summary.cost += sum(charge.cost for charge in charges)
        return charges

    def _take(self) -> None:
        if self._began is not None:
            now = self.clock()
            self._uncharged_s += now - self._began
            self._began = now
