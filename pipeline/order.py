"""Order requests for the prefix cache: windows that fit, first questions of all, then the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pipeline.records import Chunk, Request

_MOST_CHUNKS = 1024


def windows(chunks: Iterable[Chunk], room_tokens: int) -> Iterator[list[Chunk]]:
    """Group consecutive chunks so that the prompts of a group fit `room_tokens` together.

    A chunk's images are held once for all its questions, which is what the prefix cache does.
    """
    window: list[Chunk] = []
    held = 0
    for chunk in chunks:
        tokens = chunk.prefix_tokens + sum(r.prompt_tokens - chunk.prefix_tokens for r in chunk.requests)
        if window and (held + tokens > room_tokens or len(window) >= _MOST_CHUNKS):
            yield window
            window, held = [], 0
        window.append(chunk)
        held += tokens
    if window:
        yield window


class Followers:
    """Hold back all but the first question about the same pages until that one is answered.

    The others find the pages in the prefix cache then. An engine looks into its cache only when it begins a
    request, and it begins requests early, to fill a step with the few tokens before their first image: sent
    together, even with the first of every document before the rest, they would all read the pages anew.
    """

    def __init__(self) -> None:
        self._held: dict[str, list[Request]] = {}

    def first(self, groups: Sequence[Sequence[Request]]) -> list[Request]:
        """Return the first request of every group, whose requests share their images; keep the others."""
        for group in groups:
            if len(group) > 1:
                self._held[group[0].request_id] = list(group[1:])
        return [group[0] for group in groups if group]

    def after(self, request: Request) -> list[Request]:
        """Return those that waited for this request to be answered."""
        return self._held.pop(request.request_id, [])
