"""Predict what requests will take of an engine, before they are made."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config import TaskSettings
from pipeline.engines.speed import Speed
from pipeline.records import Chunk, Usage

_REPLY_SHARE = 0.25
"""Of the longest reply: what a reply is assumed to be, where none was seen."""


@dataclass(frozen=True, slots=True)
class Reply:
    """How long a reply is taken to be, and why."""

    tokens: float
    why: str


def reply(known: float | None, task: TaskSettings, speed: Speed) -> Reply:
    """Return how long replies will be: as long as those of the task that are `known`, or a guess."""
    if not speed.is_model:
        return Reply(0, "for the engine writes none")
    if known is not None:
        return Reply(known, "as stored replies have on average")
    return Reply(_REPLY_SHARE * task.max_output_tokens, "a quarter of task.max_output_tokens")


@dataclass(frozen=True, slots=True)
class Predictor:
    """Predicts the time of requests by the engine's cost model."""

    speed: Speed
    reply_tokens: float
    """Of one reply."""

    def cached(self, chunk: Chunk, index: int) -> int:
        """Return how many tokens of a chunk's request, which is the `index`th, are in the engine's cache.

        The prefix gate holds the others back until the first has read the pages.
        """
        return chunk.prefix_tokens if index and self.speed.is_model else 0

    def seconds(self, chunk: Chunk, is_scan: bool) -> float:
        """Predict the seconds of one device that a chunk takes, with the merges of its replies.

        The first request computes the images.
        """
        total, pages = 0.0, len(chunk.pages)
        for index, request in enumerate(chunk.requests):
            new, cached = 0 if index else pages, self.cached(chunk, index)
            usage = Usage(request.prompt_tokens, cached, self.reply_tokens, new, new if is_scan else 0)
            total += self.speed.seconds(usage)
            if request.siblings > 1 and request.position == 0:
                # Once for all parts; a merge is of text alone, and the replies are in place of the pages.
                text = request.prompt_tokens - chunk.prefix_tokens
                read = round(request.siblings * self.reply_tokens) + text
                total += self.speed.seconds(Usage(read, 0, self.reply_tokens))
        return total
