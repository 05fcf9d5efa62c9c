"""Turn the text of a reply into JSON values, within bounds: nothing that it says can raise."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from decimal import Decimal

from pipeline.records import Json
from pipeline.texts import clean_text

LONGEST_REPLY_CHARS = 1_000_000
DEEPEST_NESTING = 64
# More than the largest float64 has (309): those are refused by their value, with a better message.
_MOST_DIGITS = 400
EXACT_UP_TO = 2**53


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a reply cannot be used: the end of a sentence."""

    reason: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """The one JSON value that a reply's text is."""

    value: Json


def parse(text: str) -> Parsed | Problem:
    """Parse a reply that is one JSON value: white space, or one fence, may be around it and nothing else.

    Numbers that a float64 would have to round by more than their last digits are refused, as are NaN and
    Infinity; halves of surrogate pairs become U+FFFD.
    """
    if len(text) > LONGEST_REPLY_CHARS:
        return Problem(f"it has {len(text):,} characters, the most is {LONGEST_REPLY_CHARS:,}")
    body = unfenced(text)
    # Counted before parsing: json and jsonschema recurse, and deep enough they end the process.
    if _depth(body) > DEEPEST_NESTING:
        return Problem(f"it is nested more than {DEEPEST_NESTING} levels deep")
    try:
        value = json.loads(body, parse_int=_integer, parse_float=_decimal, parse_constant=_constant)
        return Parsed(_cleaned(value))
    except json.JSONDecodeError as error:
        return Problem(f"it is not one JSON value: {error.msg} at character {error.pos}")
    except (ValueError, RecursionError) as error:
        return Problem(clean_text(f"{error}"))


def unfenced(text: str) -> str:
    """Return a reply without the white space, byte order mark or Markdown fence around the whole of it."""
    body = text.strip("\ufeff \t\r\n")
    # Six: a reply of one fence alone would be taken for its own end.
    if len(body) >= 6 and body.startswith("```") and body.endswith("```"):
        opening, _, rest = body.partition("\n")
        if opening.removeprefix("```").strip().lower() in ("", "json"):
            return rest[:-3].strip()
    return body


def _depth(text: str) -> int:
    deepest = depth = 0
    inside = False
    for match in re.finditer(r'\\.|["\[\]{}]', text, re.DOTALL):
        mark = match.group()
        if mark == '"':
            inside = not inside
        elif not inside and mark in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif not inside and mark in "]}":
            depth -= 1
    return deepest


def _integer(text: str) -> int:
    # Python refuses over 4,300 digits with a message about its own settings.
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number in it has {len(text):,} digits")
    return int(text)


def _decimal(text: str) -> float:
    value = float(text)
    vanished = value == 0 and re.search("[1-9]", re.split("[eE]", text)[0])
    if math.isinf(value) or vanished:
        raise ValueError(f"the number {text[:40]} in it is beyond what a float64 holds")
    # A large number with a decimal point is most likely a sum or an identifier: it is kept to the digit.
    if abs(value) >= EXACT_UP_TO and Decimal(repr(value)) != Decimal(text):
        raise ValueError(f"the number {text[:40]} in it has more digits than a float64 holds")
    return value


def _constant(name: str) -> float:
    raise ValueError(f"{name} in it is not JSON")


def _cleaned(value: Json) -> Json:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {clean_text(key): _cleaned(item) for key, item in value.items()}
    return value
