"""Read the stream of a reply: the boundary where a server's words become a record."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.engines.vllm.messages import Reply
from pipeline.engines.vllm.reply import token_ends, without_first_space

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk

_CHARACTERS_PER_TOKEN = 128
"""More than any token of the tokenizers writes: a reply beyond it is none of a model."""


class Malformed(Exception):
    """A reply is not of the protocol, or is cut; the message says where."""


@dataclass(slots=True)
class _Written:
    """What has come of a reply so far."""

    most_characters: int
    parts: list[str] = field(default_factory=list)
    characters: int = 0
    pieces: list[str] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int = 0
    output_tokens: int = 0

    def add(self, chunk: ChatCompletionChunk) -> None:
        """Take a chunk. Raises Malformed for what is none."""
        # The library builds its records of whatever comes, without a look at the types.
        try:
            self._add(chunk)
        except (AttributeError, TypeError, IndexError, KeyError) as error:
            raise Malformed(f"the reply is not of the protocol ({error})") from error

    def _add(self, chunk: ChatCompletionChunk) -> None:
        if chunk.usage is not None:
            self.prompt_tokens = _count(chunk.usage.prompt_tokens)
            self.output_tokens = _count(chunk.usage.completion_tokens)
            if (details := chunk.usage.prompt_tokens_details) is not None:
                self.cached_tokens = _count(details.cached_tokens or 0)
        for choice in chunk.choices:
            if choice.delta is not None and choice.delta.content:
                self._write(choice.delta.content)
            for token in (choice.logprobs.content or []) if choice.logprobs else []:
                self.pieces.append(_text(token.token))
                self.probabilities.append(_probability(token.logprob))
            if choice.finish_reason is not None:
                self.finish_reason = _text(choice.finish_reason)

    def _write(self, content: str) -> None:
        self.parts.append(_text(content))
        self.characters += len(content)
        if self.characters > self.most_characters:
            raise Malformed(f"the reply has over {self.most_characters} characters")

    def reply(self, request_id: str, seconds: float) -> Reply:
        """Return the whole reply. Raises Malformed when its end has not come."""
        if self.finish_reason is None or self.prompt_tokens is None:
            raise Malformed("the reply was cut off on its way")
        if self.finish_reason == "abort":  # of a server that is ended while it has requests
            raise Malformed("the server ended the reply before its end")
        text = without_first_space("".join(self.parts))
        # Without a score for every token there is none that could be trusted.
        is_scored = len(self.pieces) == self.output_tokens
        return Reply(
            request_id=request_id,
            text=text,
            finish_reason=self.finish_reason,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            output_tokens=self.output_tokens,
            token_ends=token_ends(text, self.pieces) if is_scored else (),
            token_probabilities=tuple(self.probabilities) if is_scored else (),
            seconds=seconds,
        )


async def read(
    chunks: AsyncIterator[ChatCompletionChunk], request_id: str, max_tokens: int, begun: Callable[[], None]
) -> Reply:
    """Return the reply that a stream brings; call `begun` when its first token is there.

    Raises Malformed. The time of the reply is left 0.
    """
    written = _Written(_CHARACTERS_PER_TOKEN * max(max_tokens, 64))
    is_begun = False
    async for chunk in chunks:
        written.add(chunk)
        # The first chunk names the role alone, and may come before anything is read.
        if not is_begun and (written.characters or written.pieces or written.finish_reason):
            is_begun = True
            begun()
    return written.reply(request_id, 0.0)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} in place of a text")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise TypeError(f"{type(value).__name__}, or a negative number, in place of a count")
    return value


def _probability(logprob: object) -> float:
    if not isinstance(logprob, int | float):
        raise TypeError(f"{type(logprob).__name__} in place of a log-probability")
    # At most 0: rounding leaves some probabilities a little over 1.
    return 0.0 if math.isnan(logprob) else math.exp(min(0.0, logprob))
