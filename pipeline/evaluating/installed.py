"""Evaluation takes packages that are an extra of their own: here they are asked for."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from pipeline.config import RunSettings
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from pipeline.evaluating.gate import Gate

_PACKAGES = ("rapidfuzz", "jiwer", "anls_star", "sklearn", "matplotlib")


def check() -> None:
    """Raise SettingsError that says what to install, where something is missing."""
    if missing := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        raise SettingsError(f"evaluation needs {', '.join(missing)}: pip install 'docbatch[evaluate]'")


def gate_of(settings: RunSettings) -> Gate | None:
    """Return what tables have to pass before they are published, where anything is set."""
    if settings.evaluate.min_score is None:
        return None
    check()
    from pipeline.evaluating import gate

    return gate.of(settings)


def scores_of(settings: RunSettings) -> str | None:
    """Write the scores of what was published, for the report too, and return them in a line; None unasked."""
    if settings.evaluate.min_score is None:
        return None
    from pipeline.evaluating import task

    return task.score_published(settings)
