"""The one seam: what a run asks of an engine, and how an engine is chosen."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from pipeline.config import EngineSettings, ModelSettings
from pipeline.engines import preflight
from pipeline.errors import SettingsError
from pipeline.records import Completion, Request

ENGINES = ("auto", "vllm", "embedded")


class Engine(Protocol):
    """Answers requests. A context manager that holds what it needs while it is open."""

    window_tokens: int
    """Prompt tokens that may be in flight together with all their images in the cache."""
    windows_ahead: int
    """Windows that it wants to hold beyond the one whose answers are waited for."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def put(self, requests: Sequence[Request], turn: int) -> None:
        """Take on requests; those of a lower turn, the number of their window, go first."""
        ...

    def take(self) -> list[tuple[Request, Completion]]:
        """Wait until some of the requests have ended, and return them, each once.

        A request that cannot be answered comes with a completion that has a `failure`. Raises EngineLost when
        no further request can be answered.
        """
        ...


@dataclass(frozen=True, slots=True)
class Brief:
    """What an engine has to know of the run."""

    model: ModelSettings
    envelope: dict[str, Any] | None
    """JSON schema of a reply; None for tasks that want plain text."""
    system_prompt: str
    max_output_tokens: int
    scratch: Path
    """Folder of the page images."""
    log: Path
    """Where an engine that talks a lot may write; `{}` stands for the number of the process."""


def choose(engine: EngineSettings, model: ModelSettings) -> tuple[str, str]:
    """Return the engine to use and the reason, in words for the user."""
    if engine.name != "auto":
        return engine.name, "as set"
    if (reason := _why_not_vllm(engine, model)) is None:
        return "vllm", "the GPUs can hold the model"
    return "embedded", f"{reason}; answers come from the text itself, not from {model.name}"


def _why_not_vllm(engine: EngineSettings, model: ModelSettings) -> str | None:
    if importlib.util.find_spec("vllm") is None:
        return "vllm is not installed"
    if not (gpus := preflight.visible_gpus()):
        return "no GPU is visible"
    try:
        preflight.check(engine, model, gpus, Path(model.path) if model.path else None)
    except SettingsError as error:
        return str(error)
    return None


def identity(name: str, model: ModelSettings) -> str:
    """Return whose words the answers of an engine are: the `model` column."""
    return "embedded-reader" if name == "embedded" else model.name


def build(name: str, settings: EngineSettings, brief: Brief) -> Engine:
    """Build the engine of that name; its heavy imports happen here."""
    if name == "vllm":
        from pipeline.engines.vllm import VllmEngine

        return VllmEngine(settings, brief)
    from pipeline.engines.embedded import EmbeddedEngine

    return EmbeddedEngine(settings, brief.envelope)
