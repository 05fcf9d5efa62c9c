"""Order requests for the prefix cache: windows that fit, a document's first question before its others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline.records import Chunk, Request

_MOST_CHUNKS = 1024
_FIRST_SHARE = 16


def windows(chunks: Iterable[Chunk], room_tokens: int) -> Iterator[list[Chunk]]:
    """Group consecutive chunks so that the prompts of a group fit `room_tokens` together.

    A chunk's images are held once for all its questions, which is what the prefix cache does. The first
    groups are small and double in size, so that an engine has something to read soon.
    """
    window: list[Chunk] = []
    held = 0
    allowed = room_tokens // _FIRST_SHARE
    for chunk in chunks:
        tokens = chunk.prefix_tokens + sum(r.prompt_tokens - chunk.prefix_tokens for r in chunk.requests)
        if window and (held + tokens > allowed or len(window) >= _MOST_CHUNKS):
            yield window
            window, held = [], 0
            allowed = min(2 * allowed, room_tokens)
        window.append(chunk)
        held += tokens
    if window:
        yield window


class Followers:
    """Hold back further requests about pages that an engine has begun to read and not yet read to the end.

    They find the pages in the prefix cache then. An engine looks into its cache only when it begins a
    request, and it begins requests early, to fill a step with the few tokens before their next image: sent
    together, even with the first of every document before the rest, they would read the same pages side by
    side.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[str, ...], list[Request]] = {}
        self._leaders: dict[str, tuple[str, ...]] = {}

    def hold(self, request: Request) -> bool:
        """Keep a request for `after` if its pages are being read; if not, it is the one that reads them."""
        if not (pages := pages_key(request)):
            return False
        if pages in self._held:
            self._held[pages].append(request)
            return True
        self._held[pages] = []
        self._leaders[request.request_id] = pages
        return False

    def after(self, request_id: str) -> list[Request]:
        """Return those that waited for this request, now that it is read or has ended in any other way."""
        return self._held.pop(self._leaders.pop(request_id, ()), [])


def pages_key(request: Request) -> tuple[str, ...]:
    """Return what is the same for all requests that begin with the same images; empty without any."""
    return tuple(str(page.image) for page in request.pages)
