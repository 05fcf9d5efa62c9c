"""Ask servers what they serve before a run is anything: it is a part of what is asked."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time

from pipeline.config import ServerSettings
from pipeline.engines.base import Served
from pipeline.engines.server import connect, registry, talk
from pipeline.engines.server.talk import KeyRefused, Unavailable, Unnamed
from pipeline.errors import SettingsError

log = logging.getLogger("pipeline")

_POLL_S = 2.0


def served(settings: ServerSettings, remembered: Served | None) -> Served:
    """Return what the servers serve; what they said the last time where none is up now.

    Waits for the first server when nothing is remembered. Raises SettingsError when they serve different
    things, or none comes within `load_timeout_s`.
    """
    connect.check(settings)
    end = time.monotonic() + settings.load_timeout_s
    has_waited = False
    while True:
        found, reasons = _ask(settings)
        if found:
            return _the_same(found)
        # Only for the model that is asked for: remembered is what an earlier run was told, maybe of another.
        if remembered is not None and settings.served_model in (None, remembered.model):
            log.info("no server is up (%s): taken for what it was, %s", reasons, remembered)
            return remembered
        if time.monotonic() >= end:
            raise SettingsError(
                f"engine=server: no server answers: {reasons}; start one, or check engine.urls and"
                " engine.registry"
            )
        if not has_waited:
            log.info("waiting for a server (%s)", reasons)
            has_waited = True
        time.sleep(min(_POLL_S, settings.load_timeout_s))


def _the_same(found: dict[str, Served]) -> Served:
    (first_url, first), *others = found.items()
    for url, other in others:
        if other != first:
            raise SettingsError(
                f"engine.urls: {first_url} serves {first.model} by vLLM {first.version}, {url} serves"
                f" {other.model} by vLLM {other.version}; name servers that are the same"
            )
    return first


def _ask(settings: ServerSettings) -> tuple[dict[str, Served], str]:
    """Return what each server that is up serves, and why others are not."""
    answers: queue.SimpleQueue[list[Served | BaseException]] = queue.SimpleQueue()
    urls = registry.urls(settings)

    async def ask_all() -> list[Served | BaseException]:
        return await asyncio.gather(*(_ask_one(url, settings) for url in urls), return_exceptions=True)

    # In a thread of its own: a notebook has an event loop in this one already.
    threading.Thread(target=lambda: answers.put(asyncio.run(ask_all())), daemon=True).start()
    found: dict[str, Served] = {}
    reasons: list[str] = []
    for url, answer in zip(urls, answers.get(), strict=True):
        # No waiting makes a key or a name right.
        if isinstance(answer, KeyRefused | Unnamed):
            raise SettingsError(f"{url}: {answer}")
        if isinstance(answer, Unavailable):
            reasons.append(f"{url}: {answer}")
        elif isinstance(answer, BaseException):
            raise answer
        else:
            found[url] = answer
    return found, "; ".join(reasons) or f"none is announced in {settings.registry}"


async def _ask_one(url: str, settings: ServerSettings) -> Served:
    async with connect.client(url, settings) as client:
        return (await talk.offer(client, settings)).served
