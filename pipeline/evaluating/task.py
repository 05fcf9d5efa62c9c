"""What `pipeline.evaluate` is asked to do: compare vectors, write a data set, or score a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.config import EvaluateSettings


@dataclass(frozen=True, slots=True)
class Done:
    text: str
    """What to print."""
    ok: bool = True


def perform(settings: EvaluateSettings) -> Done:
    """Do it. Raises SettingsError and OutputError."""
    if settings.vectors is not None:
        return _compare(Path(settings.vectors))
    raise NotImplementedError


def _compare(folder: Path) -> Done:
    from pipeline.evaluating import vectors

    compared = vectors.compare(folder)
    return Done(vectors.describe(compared), not any(each.mismatches for each in compared))
