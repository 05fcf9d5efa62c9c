"""Order requests for the prefix cache: windows that fit, first questions of all, then the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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


def interleave(groups: Iterable[Iterable[Request]]) -> list[Request]:
    """Put the first request of every group first, then all the others group by group.

    The requests of a group share their images: once the first has put them into the cache the rest cost
    little, but started together each would compute them anew.
    """
    ordered = [list(group) for group in groups]
    return [g[0] for g in ordered if g] + [r for g in ordered for r in g[1:]]
