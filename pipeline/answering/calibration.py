"""What confidence is worth: the share of right answers among those of a confidence."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.records import Json

_VERSION = 1
# Room for the fingerprints of two million answers: a larger file is something else.
_MOST_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class Curve:
    """The share of right answers by the engine's confidence: straight lines between points."""

    confidence: tuple[float, ...]
    """Ascending."""
    right: tuple[float, ...]
    answers: int
    """That it was fitted on."""

    def at(self, confidence: float) -> float:
        """Return the share at a confidence; beyond the ends, that of the end."""
        place = bisect_right(self.confidence, confidence)
        if place == 0:
            return self.right[0]
        if place == len(self.confidence):
            return self.right[-1]
        low, high = self.confidence[place - 1], self.confidence[place]
        share = (confidence - low) / (high - low)
        return self.right[place - 1] + share * (self.right[place] - self.right[place - 1])


@dataclass(frozen=True, slots=True)
class Calibration:
    """A curve for all answers, and others for page qualities of which the golden set had enough."""

    engine: str
    method: str
    everything: Curve
    by_quality: Mapping[str, Curve] = field(default_factory=dict)
    fitted_on: frozenset[str] = frozenset()
    """Fingerprints of the answers: on these it must not be judged."""

    def of(self, confidence: float | None, quality: str | None) -> float | None:
        """Return the share of right answers among those as sure as this on pages of this quality."""
        if confidence is None or not math.isfinite(confidence):
            return None
        # A quality of which the golden set had too few answers is judged by the curve of all.
        return min(max(self.by_quality.get(quality or "", self.everything).at(confidence), 0.0), 1.0)

    def to_json(self) -> str:
        """Return the text of a file that holds it."""
        curves = {name: asdict(curve) for name, curve in self.by_quality.items()}
        values = {
            "version": _VERSION, "engine": self.engine, "method": self.method,
            "everything": asdict(self.everything), "by_quality": curves, "fitted_on": sorted(self.fitted_on),
        }  # fmt: skip
        return json.dumps(values, indent=1) + "\n"


def read(path: str) -> Calibration:
    """Read a file that `pipeline.evaluate calibrate=` wrote. Raises SettingsError for another."""
    file = Path(path)
    try:
        if not file.is_file() or file.stat().st_size > _MOST_BYTES:
            raise ValueError("there is no such file" if not file.is_file() else "it is too large")
        values = json.loads(file.read_text(encoding="utf-8"))
        if values["version"] != _VERSION:
            raise ValueError(f"version {values['version']!r} is not {_VERSION}")
        return Calibration(
            engine=str(values["engine"]),
            method=str(values["method"]),
            everything=_curve(values["everything"]),
            by_quality={name: _curve(curve) for name, curve in values["by_quality"].items()},
            fitted_on=frozenset(map(str, values["fitted_on"])),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise SettingsError(
            f"engine.calibration={path}: is no calibration ({reason}); give a file that pipeline.evaluate"
            " calibrate=FILE wrote"
        ) from error


def _curve(values: dict[str, Json]) -> Curve:
    x, y, answers = values["confidence"], values["right"], values["answers"]
    if not (isinstance(x, list) and isinstance(y, list) and isinstance(answers, int)):
        raise ValueError("a curve lacks its points")
    curve = Curve(tuple(map(_share, x)), tuple(map(_share, y)), answers)
    # Two points at one confidence would divide by zero in `at`.
    ascends = all(a < b for a, b in zip(curve.confidence, curve.confidence[1:], strict=False))
    if not curve.confidence or len(curve.confidence) != len(curve.right) or not ascends:
        raise ValueError("the points of a curve do not ascend")
    return curve


def _share(value: Json) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{str(value)[:40]} is not between 0 and 1")
    return float(value)
