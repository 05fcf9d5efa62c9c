"""Settle what needs no engine, and tell a reply that loops."""

from __future__ import annotations

from dataclasses import replace

from pipeline.records import Chunk, Completion, Request

Settled = tuple[Request, Completion]


def settle(chunk: Chunk) -> tuple[list[Request], list[Settled]]:
    """Split a rendered chunk into what to ask the engine and what is settled without it.

    Pages that could not be rendered are left out of the request; a blank page is not asked about on its own.
    """
    readable = tuple(page for page in chunk.pages if not page.failure)
    failure = chunk.subject.failure or (chunk.pages[0].failure if chunk.pages and not readable else None)
    left_out = tuple(page for page in chunk.pages if page.failure)
    requests = [replace(request, pages=readable, left_out=left_out) for request in chunk.requests]
    if failure:
        return [], [(request, Completion("", "error", failure=failure)) for request in requests]
    if chunk.subject.scope == "page" and readable[0].blank:
        return [], [(request, Completion("", "blank")) for request in requests]
    return requests, []


def loops(text: str) -> bool:
    """Tell whether a text that was cut ends in one passage, of up to 400 characters, over and over."""
    # Exact repetition alone: a list of like rows, cut at the limit, is long and not a loop.
    for period in range(1, 401):
        tail = text[-max(4 * period, 200) :]
        if len(tail) >= max(4 * period, 200) and tail[period:] == tail[:-period]:
            return True
    return False
