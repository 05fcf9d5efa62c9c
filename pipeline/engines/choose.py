"""Choose the engine that answers, and build it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline import workers
from pipeline.config import EngineSettings, ModelSettings
from pipeline.engines.base import Engine, EngineContext, Served
from pipeline.engines.embedded import limits
from pipeline.engines.embedded.speed import EmbeddedSpeed
from pipeline.engines.speed import Speed
from pipeline.engines.vllm import placing, preflight
from pipeline.errors import SettingsError
from pipeline.records import Json

ENGINES = ("auto", "vllm", "server", "embedded")
REPLIES = {"vllm": 1, "server": 1, "embedded": 4}
"""Of each engine: raised when its code gives other replies to the same requests."""


def choose(engine: EngineSettings, model: ModelSettings) -> tuple[str, str]:
    """Return the engine to use and the reason, in words for the user."""
    if engine.name != "auto":
        return engine.name, "as set"
    if (reason := _why_not_vllm(engine, model)) is None:
        return "vllm", "the GPUs can hold the model"
    return "embedded", f"{reason}; answers come from the text itself, not from {model.name}"


def _why_not_vllm(engine: EngineSettings, model: ModelSettings) -> str | None:
    # What is quick to tell comes first: the GPUs are asked for by a program of the driver.
    if not placing.is_installed():
        return "vllm is not installed"
    if not (gpus := preflight.visible_gpus()):
        return "no GPU is visible"
    try:
        preflight.check(engine.vllm, model, gpus, Path(model.path) if model.path else None)
    except SettingsError as error:
        return str(error)
    return None


def speed(name: str, engine: EngineSettings, model: ModelSettings) -> Speed:
    """Return what an engine takes of its machine, or of the GPUs that are assumed where none is visible."""
    if name == "embedded":
        return EmbeddedSpeed(engine.embedded.workers or workers.cores())
    return placing.speed(engine.vllm, model)


def layout(name: str, engine: EngineSettings, model: ModelSettings) -> str:
    """Say which GPUs share a copy of the model, and why, in words for the user."""
    if name == "server":
        return "those of the servers, which are not known here: taken to be what engine.vllm says"
    return (
        placing.explain(engine.vllm, model) if name == "vllm" else "no GPU: answers come from the text itself"
    )


def identity(name: str, model: ModelSettings) -> str:
    """Return whose words the answers of an engine are: the `model` column."""
    return "embedded-reader" if name == "embedded" else model.name


def is_unsure_of(name: str, envelope: Mapping[str, Json] | None) -> bool:
    """Tell whether every answer of an engine under this schema of replies is for review."""
    return name == "embedded" and limits.is_unsure_of(envelope)


def served(name: str, engine: EngineSettings, remembered: Served | None) -> Served | None:
    """Return what the servers of a run serve, as they say now or said the last time; None without any."""
    if name != "server":
        return None
    # Here: whoever runs no servers need not have installed what they take.
    from pipeline.engines.server import introduction

    return introduction.served(engine.server, remembered)


def build(name: str, settings: EngineSettings, context: EngineContext) -> Engine:
    """Build the engine of that name; its heavy imports happen here."""
    if name == "vllm":
        from pipeline.engines.vllm.engine import VllmEngine

        return VllmEngine(settings.vllm, context)
    if name == "server":
        from pipeline.engines.server.engine import ServerEngine

        return ServerEngine(settings.server, context)
    from pipeline.engines.embedded.engine import EmbeddedEngine

    return EmbeddedEngine(settings.embedded, context)
