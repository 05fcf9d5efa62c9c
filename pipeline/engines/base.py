"""The one seam: what a run asks of an engine, and how an engine is chosen."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, Self

from pipeline.config import EngineSettings, ModelSettings
from pipeline.records import Completion, Request

ENGINES = ("auto", "embedded")


class Engine(Protocol):
    """Answers requests. A context manager that holds what it needs while it is open."""

    window_tokens: int
    """Prompt tokens that may be in flight together with all their images in the cache."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Completion]]:
        """Yield each request once with its completion, in any order, as they end.

        A request that cannot be answered comes with a completion that has a `failure`. Raises EngineLost when
        no further request can be answered.
        """
        ...


def choose(engine: EngineSettings, model: ModelSettings) -> tuple[str, str]:
    """Return the engine to use and the reason, in words for the user."""
    if engine.name != "auto":
        return engine.name, "as set"
    if (reason := _why_no_gpu(model)) is None:
        reason = "this version has no GPU engine yet"
    return "embedded", f"{reason}; answers come from the text itself, not from {model.name}"


def _why_no_gpu(model: ModelSettings) -> str | None:
    if importlib.util.find_spec("vllm") is None:
        return "vllm is not installed"
    if shutil.which("nvidia-smi") is None:
        return "no NVIDIA driver is present"
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    listed = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
    have_gib = sum(float(mib) for mib in listed) / 1024
    need_gib = model.parameters_b * 1e9 * 2 / 2**30
    return None if have_gib > need_gib else f"{len(listed)} GPUs hold {have_gib:.0f} of {need_gib:.0f} GiB"


def identity(name: str, engine: EngineSettings, model: ModelSettings) -> str:
    """Return whose words the answers of an engine are: the `model` column."""
    return "embedded-reader" if name == "embedded" else model.name


def build(
    name: str, settings: EngineSettings, envelope: Mapping[str, Any] | None, system_prompt: str
) -> Engine:
    """Build the engine of that name; its heavy imports happen here."""
    from pipeline.engines.embedded import EmbeddedEngine

    return EmbeddedEngine(settings, envelope)
