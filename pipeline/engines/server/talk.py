"""What a server can be asked beside requests: how it is, what it serves, how long its queue is."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.config import ServerSettings
from pipeline.engines.base import Served
from pipeline.engines.server import connect
from pipeline.records import Json

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_ASK_S = 20.0
_METRIC = re.compile(r"^vllm:(\w+)(?:\{(.*)\})? ([0-9.eE+-]+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Unavailable(Exception):
    """A server cannot be used now; the message says why."""


class KeyRefused(Unavailable):
    """A server does not take the key."""


class Unnamed(Unavailable):
    """A server has several models, or not the one that the settings name."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What one server says it serves."""

    served: Served
    context_tokens: int | None


@dataclass(frozen=True, slots=True)
class Metrics:
    """What vLLM's metrics tell, summed over its engines; None where they do not."""

    waiting: int | None = None
    cache_tokens: int | None = None


async def offer(client: AsyncOpenAI, settings: ServerSettings) -> Offer:
    """Ask a server whether it is well, and what it serves. Raises Unavailable."""
    # Optional, as the version is: these are vLLM's own, beside the protocol of OpenAI.
    await _get(client, settings, _beside(client, "health"), optional=True)
    listed = _json(await _get(client, settings, "models"))
    version = _json(await _get(client, settings, _beside(client, "version"), optional=True))
    models = {str(each["id"]): each for each in _rows(listed) if "id" in each}
    name = settings.served_model or next(iter(models), "")
    if name not in models or (settings.served_model is None and len(models) > 1):
        raise Unnamed(f"it serves {', '.join(models) or 'no model'}; name one with engine.served_model")
    context = models[name].get("max_model_len")
    told = version.get("version") if isinstance(version, dict) else None
    return Offer(Served(name, str(told or "unknown")), context if isinstance(context, int) else None)


async def metrics(client: AsyncOpenAI) -> Metrics:
    """Ask for the metrics; nothing where they cannot be had, as behind a proxy."""
    import openai

    try:
        text = await client.get(_beside(client, "metrics"), cast_to=str, options={"timeout": _ASK_S})
        return read_metrics(text)
    # OverflowError: of int(), where a number is as large as 1e999.
    except (openai.OpenAIError, ValueError, OverflowError):
        return Metrics()


def read_metrics(text: str) -> Metrics:
    """Read vLLM's metrics in the Prometheus text format."""
    waiting = cache = None
    for name, labels, value in _METRIC.findall(text):
        if name == "num_requests_waiting":
            # By way of float: the format of Prometheus writes every number as one.
            waiting = (waiting or 0) + int(float(value))
        elif name == "cache_config_info":
            told = dict(_LABEL.findall(labels))
            # The size of the cache is in the labels of this metric, whose value is always 1.
            blocks, size = told.get("num_gpu_blocks", ""), told.get("block_size", "")
            if blocks.isdecimal() and size.isdecimal():
                cache = (cache or 0) + int(blocks) * int(size)
    return Metrics(waiting, cache)


def _beside(client: AsyncOpenAI, name: str) -> str:
    """Return the URL of what vLLM serves beside its API."""
    root = str(client.base_url).rstrip("/").removesuffix("/v1")
    return f"{root}/{name}"


async def _get(client: AsyncOpenAI, settings: ServerSettings, path: str, optional: bool = False) -> str:
    """Return what a server says under a path; nothing for what it does not know and need not."""
    import openai

    try:
        return await client.get(path, cast_to=str, options={"timeout": _ASK_S})
    except openai.APIStatusError as error:
        if optional and error.status_code == 404:
            return ""
        if error.status_code in (401, 403):
            raise KeyRefused(
                f"it refuses the key ({error.status_code}); put the right one into {settings.key_variable}"
            ) from error
        raise Unavailable(f"it answers {error.status_code}") from error
    except (openai.OpenAIError, ValueError) as error:
        raise Unavailable(reason(error, settings)) from error


def _json(text: str) -> Json:
    """Return a JSON value; None where a text holds none."""
    try:
        value: Json = json.loads(text)
    # RecursionError: a server may send brackets as deep as it likes.
    except (ValueError, RecursionError):
        return None
    return value


def reason(error: Exception, settings: ServerSettings) -> str:
    """Return what is behind an error of the client library, in a line without the key."""
    cause = error.__cause__ or error
    # Without the key first: of one that is cut in two, a half would stay.
    said = connect.without_key(str(cause), settings).strip()
    return (said.splitlines() or [type(cause).__name__])[0][:200]


def _rows(listed: Json) -> list[dict[str, Json]]:
    rows = listed.get("data") if isinstance(listed, dict) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
