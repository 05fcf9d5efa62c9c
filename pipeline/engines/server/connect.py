"""Reach a server: its address, the key, and a client that takes nothing else from the environment."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipeline.config import ServerSettings
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_CONNECT_S = 10.0
_NO_KEY = "none"


def check(settings: ServerSettings) -> None:
    """Raise SettingsError for settings with which no server can be reached."""
    if importlib.util.find_spec("openai") is None:
        raise SettingsError("engine=server: openai is not installed; pip install 'docbatch[server]'")
    if settings.images not in ("data", "file"):
        raise SettingsError(f"engine.images={settings.images}: must be one of data, file")
    if settings.max_concurrency < 1 or settings.attempts < 1:
        raise SettingsError("engine.max_concurrency and engine.attempts: must be at least 1")
    if not settings.urls and settings.registry is None:
        raise SettingsError(
            "engine=server: no server is named; set engine.urls=[http://HOST:8000/v1], or engine.registry to"
            " the folder of jobs/serve.sbatch"
        )
    for url in settings.urls:
        base_url(url)


def base_url(given: str) -> str:
    """Return the base URL of a server's API. Raises SettingsError for what is none, or holds a password."""
    parts = urlsplit(given.strip().rstrip("/"))
    if "@" in parts.netloc:
        # Settings are written to run.json and to logs.
        raise SettingsError(
            f"engine.urls: the URL of {parts.hostname} holds a name or password; put the key into the"
            " environment (engine.key_variable)"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"engine.urls: {given!r} is no URL; write it as http://HOST:8000/v1")
    return f"{parts.scheme}://{parts.netloc}{parts.path or '/v1'}"


def key(settings: ServerSettings) -> str | None:
    """Return the key of the servers, from the environment; None without one."""
    return os.environ.get(settings.key_variable, "").strip() or None


def without_key(text: str, settings: ServerSettings) -> str:
    """Return a text of a server, which might repeat the key that it was sent, without it."""
    secret = key(settings)
    return text.replace(secret, "(key)") if secret else text


def client(url: str, settings: ServerSettings) -> AsyncOpenAI:
    """Return a client of one server. It never tries twice: the dispatcher decides what is sent again."""
    import openai

    made = openai.AsyncOpenAI(
        base_url=url,
        api_key=key(settings) or _NO_KEY,
        max_retries=0,
        timeout=openai.Timeout(settings.request_timeout_s, connect=_CONNECT_S),
        # Clusters name proxies for the way out of them, which must see neither the key nor the pages.
        http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
    )
    # Left alone, the library sends what the environment says of an account with another service.
    made.organization = made.project = None
    return made
