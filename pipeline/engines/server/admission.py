"""Admit a server to a run: it must be what the settings say, by what it tells and by one probe."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from pipeline.config import ServerSettings
from pipeline.engines.base import EngineContext, Served
from pipeline.engines.server import faults, talk
from pipeline.engines.server.prompt import Sampling
from pipeline.engines.server.remote import Remote
from pipeline.engines.server.send import send
from pipeline.engines.server.talk import Unavailable
from pipeline.records import Cell, Document, Page, Question, Request, Subject

log = logging.getLogger("pipeline")

_TEXT = "Reply with one word."


class Wrong(Unavailable):
    """A server is not what the settings say: waiting does not help; the message says what does."""


async def admit(
    remote: Remote, settings: ServerSettings, context: EngineContext, served: Served, sampling: Sampling
) -> Sampling:
    """Check a server; return the sampling that it takes, without a schema that it refuses.

    Raises Unavailable where it may come back, and Wrong where it is another than the settings say.
    """
    offered = await talk.offer(remote.client, settings)
    # What is served is a part of each request's identity: another model's replies must not pass for it.
    if offered.served != served:
        raise Wrong(f"it serves {_said(offered.served)} now, not {_said(served)}; run again to ask that one")
    needed = context.model.context_tokens
    context_tokens = offered.context_tokens
    if context_tokens is not None and context_tokens < needed:
        raise Wrong(
            f"its context is {context_tokens:,} tokens; set model.context_tokens={context_tokens}, or start"
            f" it with --max-model-len {needed}"
        )
    given = await _probe(remote, settings, context, served, sampling)
    remote.cache_tokens = (await talk.metrics(remote.client)).cache_tokens
    return given


def _said(served: Served) -> str:
    return f"{served.model} by vLLM {served.version}"


async def _probe(
    remote: Remote, settings: ServerSettings, context: EngineContext, served: Served, sampling: Sampling
) -> Sampling:
    """Ask about as many small images as a request may have; the tokens must be those counted here."""
    request = _request(context)
    # One token is enough: what is wanted is the count of the prompt's, and whether anything is refused.
    given = replace(sampling, max_tokens=1)
    try:
        try:
            reply = await send(remote.client, served.model, request, given, settings, _nothing)
        except Exception as error:
            if sampling.schema is None or not isinstance(faults.of(error, settings), faults.Refused):
                raise
            # Every request would fail with a schema that is refused; replies are validated in any case.
            given = replace(given, schema=None)
            reply = await send(remote.client, served.model, request, given, settings, _nothing)
            log.warning(
                "%s: replies are not guided: it refuses the schema (%s)",
                remote.url,
                faults.of(error, settings),
            )
    except Exception as error:
        fault = faults.of(error, settings)
        if fault is None:
            raise
        raise (
            _refusal(fault, request, settings)
            if isinstance(fault, faults.Refused)
            else Unavailable(str(fault))
        ) from error
    # Documents are packed to the last token of the context: another count would have requests refused.
    if reply.prompt_tokens != request.prompt_tokens:
        raise Wrong(
            f"it counts {reply.prompt_tokens} tokens in a prompt of {len(request.pages)} small images, and"
            f" {request.prompt_tokens} are counted here; set model=… and model.path=… to what it serves"
        )
    return replace(given, max_tokens=sampling.max_tokens)


def _refusal(fault: faults.Refused, request: Request, settings: ServerSettings) -> Wrong:
    count = len(request.pages)
    how = f"start it with --limit-mm-per-prompt '{{\"image\": {count}}}', or lower model.max_images"
    if settings.images == "file":
        how += "; for engine.images=file, with --allowed-local-media-path and the same file system"
    return Wrong(f"it refuses a prompt of {count} small images ({fault}); {how}")


def _request(context: EngineContext) -> Request:
    side = context.model.image_patch_px
    image = _image(context.scratch, side)
    document = Document("probe", image, "png", 0, "probe")
    count = context.model.max_images
    # One patch each: as many images as a request may have, for hardly any work of the server.
    pages = tuple(
        Page(document, number, count, side, side, number, label=f"Page {number} of {count}", image=image)
        for number in range(1, count + 1)
    )
    subject = Subject("document", "probe", "probe", pages, count)
    cell = Cell("probe", subject, Question("probe", _TEXT))
    return Request("probe", cell, "ask", pages, _TEXT, context.count_tokens(pages, _TEXT))


def _image(scratch: Path, side: int) -> Path:
    from PIL import Image

    file = scratch / "probe.png"
    if not file.exists():
        scratch.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (side, side), "white").save(file)
    return file


def _nothing() -> None:
    """Nobody waits for the probe to be read."""
