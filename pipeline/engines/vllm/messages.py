"""What the run and an engine process tell each other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request as the engine process needs it."""

    request_id: str
    images: tuple[tuple[str, str], ...]
    """(label, path of the image file) of each page, in order."""
    text: str
    """What follows the images."""
    rank: int
    """Lower ones are scheduled first."""
    repetition_penalty: float = 1.0


@dataclass(frozen=True, slots=True)
class Sampling:
    """What all requests of a run have in common."""

    system_prompt: str
    max_tokens: int
    schema: str | None
    """JSON schema that guides the reply, as text."""
    repetition_tokens: int
    repetition_count: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The engine is loaded."""

    cache_tokens: int
    """Tokens that the KV cache has room for."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """Images of a prompt are being read: if the process dies before its next message, they are the cause."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Queued:
    """A prompt has reached the engine."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Prefilled:
    """A prompt is read to its end, and what it has in common with others is in the prefix cache."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What the engine wrote; or `refusal`, why it did not take the prompt."""

    request_id: str
    text: str = ""
    finish_reason: str = "error"
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    token_ends: tuple[int, ...] = ()
    """How many characters of `text` are written when each token is."""
    token_probabilities: tuple[float, ...] = ()
    seconds: float = 0.0
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Dead:
    """The engine could not be loaded, or is gone."""

    reason: str


Message = Ready | Rendering | Queued | Prefilled | Reply | Dead
