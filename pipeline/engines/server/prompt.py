"""What a request says to a server: the same messages and sampling as the offline engine's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.config import ServerSettings
from pipeline.records import Json, Request

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionContentPartParam, ChatCompletionMessageParam


@dataclass(frozen=True, slots=True)
class Sampling:
    """What all requests of a run have in common."""

    system_prompt: str
    max_tokens: int
    schema: Json
    """JSON schema that guides the reply; None: none does."""
    repetition_tokens: int
    repetition_count: int
    repetition_penalty: float


def sampling(settings: ServerSettings, system_prompt: str, max_tokens: int, schema: Json) -> Sampling:
    """Return the sampling that the settings name."""
    return Sampling(
        system_prompt=system_prompt,
        max_tokens=max_tokens,
        schema=schema,
        repetition_tokens=settings.repetition_tokens,
        repetition_count=settings.repetition_count,
        repetition_penalty=settings.repetition_penalty,
    )


def messages(
    system_prompt: str, images: Sequence[tuple[str, str]], text: str
) -> list[ChatCompletionMessageParam]:
    """Return a conversation; `images`: label and URL of each page.

    Images first, question last: what questions about the same pages share is then in the prefix cache.
    """
    content: list[ChatCompletionContentPartParam] = []
    for label, url in images:
        content.append({"type": "text", "text": label})
        content.append({"type": "image_url", "image_url": {"url": url}})
    content.append({"type": "text", "text": text})
    return [{"role": "system", "content": system_prompt}, {"role": "user", "content": content}]


def options(given: Sampling, request: Request) -> dict[str, Json]:
    """Return vLLM's own options of a request, beside those of the protocol."""
    chosen: dict[str, Json] = {
        "repetition_penalty": given.repetition_penalty if request.fault == "repetition" else 1.0,
        # The first token tells that the pages are read; the others need not come one by one.
        "stream_interval": 64,
    }
    if given.schema is not None:
        # vLLM 0.32 leaves white space out by an option of the server alone: docs/server.md.
        chosen["structured_outputs"] = {"json": given.schema, "disable_any_whitespace": True}
    if given.repetition_tokens:
        chosen["repetition_detection"] = {
            "max_pattern_size": given.repetition_tokens,
            "min_count": given.repetition_count,
        }
    return chosen
