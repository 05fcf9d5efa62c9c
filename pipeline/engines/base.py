"""The contract between a run and whatever answers its requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeAlias

from pipeline.config import ModelSettings
from pipeline.records import Completion, Json, Page, Request

AdaptTokenizer: TypeAlias = Callable[[object], None]
"""Changes a tokenizer of mistral_common, of which engines know nothing else."""


CountTokens: TypeAlias = Callable[[Sequence[Page], str], int]
"""Counts the tokens of a prompt that shows pages, by their labels and sizes, and ends with a text."""


@dataclass(frozen=True, slots=True)
class Served:
    """What servers say they serve: a part of the identity of what is asked of them."""

    model: str
    version: str


class Engine(Protocol):
    """Answers requests. A context manager that holds what it needs while it is open."""

    window_tokens: int
    """Prompt tokens that may be in flight together with all their images in the cache."""
    windows_ahead: int
    """Windows that it wants to hold beyond the one whose answers are waited for; of small ones, more."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def put(self, requests: Sequence[Request], window_number: int) -> None:
        """Take on requests; those of an earlier window go first."""
        ...

    def take(self) -> list[tuple[Request, Completion]]:
        """Wait until some of the requests have ended, and return them, each once.

        A request that cannot be answered comes with a completion that has a `failure`. Raises EngineLost when
        no further request can be answered.
        """
        ...


@dataclass(frozen=True, slots=True)
class EngineContext:
    """What an engine has to know of the run, and the functions of other stages that it calls."""

    model: ModelSettings
    envelope: dict[str, Json] | None
    """JSON schema of a reply; None for tasks that want plain text."""
    system_prompt: str
    max_output_tokens: int
    scratch: Path
    """Folder of the page images."""
    log: Path
    """Log file of an engine process; `{}` stands for the number of the process."""
    adapt_tokenizer: AdaptTokenizer
    """Lets a tokenizer of mistral_common count image files without reading their pixels."""
    detect_language: Callable[[str], str | None]
    """Gives the ISO 639-1 code of a text."""
    count_tokens: CountTokens
    served: Served | None = None
    """What the servers of the run serve; None for engines of its own."""
