"""Choose the engine that answers, and build it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from pipeline.config import EngineSettings, ModelSettings
from pipeline.engines.base import Engine, EngineContext
from pipeline.engines.embedded import limits
from pipeline.engines.vllm import preflight
from pipeline.errors import SettingsError
from pipeline.records import Json

ENGINES = ("auto", "vllm", "embedded")
REPLIES = {"vllm": 1, "embedded": 4}
"""Of each engine: raised when its code gives other replies to the same requests."""


def choose(engine: EngineSettings, model: ModelSettings) -> tuple[str, str]:
    """Return the engine to use and the reason, in words for the user."""
    if engine.name != "auto":
        return engine.name, "as set"
    if (reason := _why_not_vllm(engine, model)) is None:
        return "vllm", "the GPUs can hold the model"
    return "embedded", f"{reason}; answers come from the text itself, not from {model.name}"


def _why_not_vllm(engine: EngineSettings, model: ModelSettings) -> str | None:
    # Not imported: that takes seconds and touches the GPU, in a process that never needs it.
    if importlib.util.find_spec("vllm") is None:
        return "vllm is not installed"
    if not (gpus := preflight.visible_gpus()):
        return "no GPU is visible"
    try:
        preflight.check(engine.vllm, model, gpus, Path(model.path) if model.path else None)
    except SettingsError as error:
        return str(error)
    return None


def identity(name: str, model: ModelSettings) -> str:
    """Return whose words the answers of an engine are: the `model` column."""
    return "embedded-reader" if name == "embedded" else model.name


def is_unsure_of(name: str, envelope: Mapping[str, Json] | None) -> bool:
    """Tell whether every answer of an engine under this schema of replies is for review."""
    return name == "embedded" and limits.is_unsure_of(envelope)


def build(name: str, settings: EngineSettings, context: EngineContext) -> Engine:
    """Build the engine of that name; its heavy imports happen here."""
    if name == "vllm":
        from pipeline.engines.vllm.engine import VllmEngine

        return VllmEngine(settings.vllm, context)
    from pipeline.engines.embedded.engine import EmbeddedEngine

    return EmbeddedEngine(settings.embedded, context)
