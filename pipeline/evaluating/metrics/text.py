"""Forms of a text that more than one metric compares."""

from __future__ import annotations

import functools
import re
import string

_PUNCTUATION = frozenset(string.punctuation)
_ARTICLES = frozenset(("a", "an", "the"))
_ASCII_PUNCTUATION = re.compile(f"[{re.escape(string.punctuation)}]+")
_SHARED = 16
"""Texts whose forms are kept: several metrics look at the same answer one after the other."""


@functools.lru_cache(_SHARED)
def collapse(text: str) -> str:
    """Return a text in lower case with single spaces between its words."""
    return " ".join(text.lower().split())


def unquote(text: str) -> str:
    """Take away one pair of straight quotation marks; a lone one is its own pair."""
    return text[1:-1] if text[:1] in {"'", '"'} and text[:1] == text[-1:] else text


def strip_end(text: str) -> str:
    """Take away ASCII punctuation and white space at the end, up to a percent sign."""
    end = len(text)
    while end and text[end - 1] != "%" and (text[end - 1] in _PUNCTUATION or text[end - 1].isspace()):
        end -= 1
    return text[:end]


@functools.lru_cache(_SHARED)
def words(text: str) -> tuple[str, ...]:
    """Return the words of a text in lower case, without punctuation and English articles."""
    plain = text.lower()
    if not plain.isalnum():
        plain = _ASCII_PUNCTUATION.sub("", plain)
    return tuple(word for word in plain.split() if word not in _ARTICLES)


def to_float(text: str) -> float | None:
    """Return what Python's `float` makes of a text; None where it refuses."""
    try:
        return float(text)
    except ValueError:
        return None
