"""Order requests for the prefix cache: windows that fit, a document's first question before its others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from pipeline.records import Chunk

# Bounds the answers that are lost with a run that dies, and the page images on disk.
_MOST_CHUNKS = 1024
# The engine waits for the first window to be drawn: of all it can hold, that would be minutes.
_FIRST_SHARE = 16


def windows(chunks: Iterable[Chunk], room_tokens: Callable[[], int]) -> Iterator[list[Chunk]]:
    """Group consecutive chunks so that the prompts of a group fit `room_tokens()` together.

    The first groups are small and double in size, so that an engine has something to read soon.
    """
    window: list[Chunk] = []
    held = 0
    allowed = room_tokens() // _FIRST_SHARE
    for chunk in chunks:
        tokens = cached_tokens(chunk)
        # Never an empty window: a chunk larger than the room goes alone, and the engine says if it cannot.
        if window and (held + tokens > allowed or len(window) >= _MOST_CHUNKS):
            yield window
            window, held = [], 0
            allowed = min(2 * allowed, room_tokens())
        window.append(chunk)
        held += tokens
    if window:
        yield window


def cached_tokens(chunk: Chunk) -> int:
    """Return the prompt tokens of a chunk in the prefix cache: its pages count once for all its questions."""
    return chunk.prefix_tokens + sum(r.prompt_tokens - chunk.prefix_tokens for r in chunk.requests)
