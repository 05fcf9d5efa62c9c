"""What can go wrong with a request at a server, split by what is done next."""

from __future__ import annotations

import datetime as dt
import email.utils
import json
from collections.abc import Mapping

from pipeline.config import ServerSettings
from pipeline.engines.server import connect, talk
from pipeline.engines.server.images import UnreadableImage
from pipeline.engines.server.stream import Malformed

_MOST_WAIT_S = 300.0
_MOST_REASON = 300


class Fault(Exception):
    """A request got no reply; the message says why."""


class Refused(Fault):
    """The server will never answer this request: it becomes an error row."""


class Busy(Fault):
    """The server has no room now: the request is sent again, however often."""

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s
        """Seconds that the server asks to wait."""


class Broken(Fault):
    """The reply was cut, malformed or late, or the server failed: the request is sent again a few times."""


def of(error: Exception, settings: ServerSettings) -> Fault | None:
    """Return what an error of sending a request means; None for one that nobody has foreseen."""
    import openai

    if isinstance(error, UnreadableImage):
        return Refused(str(error))
    if isinstance(error, openai.APIStatusError):
        return _of_status(error.status_code, _said(error, settings), error.response.headers)
    # Before version 3 the library lets errors of its HTTP client through while it reads a stream.
    of_transport = type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2")
    if isinstance(error, Malformed):
        return Broken(_short(connect.without_key(str(error), settings)))
    if "ConnectTimeout" in type(error.__cause__).__name__:
        return Broken("it cannot be connected to")
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return Broken(f"no whole reply in {settings.request_timeout_s:g} s (engine.request_timeout_s)")
    if isinstance(error, openai.OpenAIError | json.JSONDecodeError | UnicodeDecodeError) or of_transport:
        return Broken(_short(talk.reason(error, settings)))
    return None


def _of_status(status: int, said: str, headers: Mapping[str, str]) -> Fault:
    reason = f"{status}: {said}"
    if status in (429, 502, 503, 504):
        return Busy(reason, retry_after_s(headers))
    # Of the rest these are no matter of the request: the server may be another now, or have lost its model.
    if status < 500 and status not in (401, 403, 404, 408, 409, 425):
        return Refused(reason)
    return Broken(reason)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait, as a number or a date; None where it does not say."""
    given = headers.get("retry-after", "").strip()
    try:
        wait_s = float(given)
    except ValueError:
        try:
            wait_s = (email.utils.parsedate_to_datetime(given) - dt.datetime.now(dt.UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(wait_s, 0.0), _MOST_WAIT_S) if wait_s == wait_s else None


def _said(error: Exception, settings: ServerSettings) -> str:
    body = getattr(error, "body", None)
    said = body.get("message") if isinstance(body, dict) else None
    return _short(connect.without_key(str(said or error), settings))


def _short(text: str) -> str:
    # A server may quote the whole request, images and all.
    return " ".join(text[: 4 * _MOST_REASON].split())[:_MOST_REASON]
