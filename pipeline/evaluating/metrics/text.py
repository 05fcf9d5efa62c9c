"""Forms of a text that more than one metric compares."""

from __future__ import annotations

import string

_PUNCTUATION = frozenset(string.punctuation)
_ARTICLES = frozenset(("a", "an", "the"))
_PUNCTUATION_BYTES = string.punctuation.encode()
_NUMBER_ENDS = frozenset(".fnyFNY")
"""What a number ends with as Python reads it, where that is no digit: `1.`, `inf`, `nan`, `infinity`."""


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


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation and English articles."""
    return split(without_punctuation(text))


def without_punctuation(text: str) -> str:
    """Return a text in lower case, without ASCII punctuation."""
    # In UTF-8 no part of another character looks like ASCII, and bytes are deleted in one go.
    plain = text.lower().encode("utf-8", "surrogatepass").translate(None, _PUNCTUATION_BYTES)
    return plain.decode("utf-8", "surrogatepass")


def split(text: str) -> list[str]:
    """Return the words of a text, without English articles."""
    found = text.split()
    return found if _ARTICLES.isdisjoint(found) else [word for word in found if word not in _ARTICLES]


def to_float(text: str) -> float | None:
    """Return what Python's `float` makes of a text; None where it refuses."""
    last = text.rstrip()[-1:]
    if not last.isdecimal() and last not in _NUMBER_ENDS:  # most texts: raising an error takes its time
        return None
    try:
        return float(text)
    except ValueError:
        return None
