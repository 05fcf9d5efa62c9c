"""Send one request to a server and read its reply."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.config import ServerSettings
from pipeline.engines.server import images, prompt, stream
from pipeline.engines.server.prompt import Sampling
from pipeline.engines.vllm.messages import Reply
from pipeline.records import Page, Request

if TYPE_CHECKING:
    from openai import AsyncOpenAI


async def send(
    client: AsyncOpenAI,
    model: str,
    request: Request,
    sampling: Sampling,
    settings: ServerSettings,
    begun: Callable[[], None],
) -> Reply:
    """Return the reply to a request; `begun` is called when the server has read it.

    Raises what faults.of knows, TimeoutError after `request_timeout_s` among them.
    """
    # Encoded beside the event loop, which has the other requests to serve.
    urls = await asyncio.to_thread(_urls, request.pages, settings.images)
    labelled = [(page.label, url) for page, url in zip(request.pages, urls, strict=True)]
    begin = time.monotonic()
    async with asyncio.timeout(settings.request_timeout_s):
        chunks = await client.chat.completions.create(
            model=model,
            messages=prompt.messages(sampling.system_prompt, labelled, request.prompt),
            max_completion_tokens=sampling.max_tokens,
            temperature=0.0,
            logprobs=True,  # of the token chosen, for the confidence of the answer
            top_logprobs=0,
            stream=True,
            stream_options={"include_usage": True},
            extra_body=prompt.options(sampling, request),
        )
        async with chunks:
            reply = await stream.read(aiter(chunks), request.request_id, sampling.max_tokens, begun)
    return replace(reply, seconds=time.monotonic() - begin)


def _urls(pages: Sequence[Page], how: str) -> list[str]:
    return [images.url(page, how) for page in pages]
