"""Conversations of MM-MT-Bench: each turn of a person as a question of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from pipeline.errors import SettingsError

_EARLIER = "Earlier in this conversation about the image:"
_NOW = "Now answer this:"


def conversation(value: object) -> Iterator[tuple[str, str]]:
    """Yield what is asked in each turn, after what was said before it, and the reference answer."""
    said: list[str] = []
    asked = ""
    for role, words in _messages(value):
        if role == "user":
            asked = words
        elif role == "assistant":
            before = "\n\n".join([_EARLIER, *said, _NOW, asked]) if said else asked
            yield before, words
            said += [f"User: {asked}", f"Assistant: {words}"]


def _messages(value: object) -> Iterator[tuple[str, str]]:
    try:
        loaded = json.loads(value) if isinstance(value, str | bytes) else value
    except ValueError as error:
        raise SettingsError(f"conversation: is not JSON ({error}); give the files of the data set") from error
    if isinstance(loaded, Mapping):
        loaded = loaded.get("messages")
    for message in loaded if isinstance(loaded, list) else ():
        if isinstance(message, Mapping):
            yield str(message.get("role", "")), _words(message.get("content"))


def _words(content: object) -> str:
    """Return the text of a message; images are shown once, before all words."""
    if not isinstance(content, list):
        return "" if content is None else str(content)
    chunks = (
        chunk for chunk in content if isinstance(chunk, Mapping) and chunk.get("type", "text") == "text"
    )
    return "\n".join(str(chunk.get("text", chunk.get("content", ""))) for chunk in chunks)
