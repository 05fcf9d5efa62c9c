"""Read the number that a text states, in either notation, without rounding it."""

from __future__ import annotations

import re
from decimal import Decimal

_MOST_DIGITS = 100
_SPACES = "\u00a0\u202f\u2009 "
_RUN = re.compile(
    rf"\D*?(?<![\w.,/:-])([-+\u2212(]?)\s?[$€£¥]?\s?(\d(?:[\d.,'’{_SPACES}]*\d)?)(?![\w/:]|-|\s?[-–]\s?\d)"
)
_GROUPED = re.compile(rf"[1-9]\d{{0,2}}([.,'’{_SPACES}])\d{{3}}(?:\1\d{{3}})*(?:(?!\1)[.,]\d+)?")
_PLAIN = re.compile(r"\d+(?:[.,]\d+)?")
# Thousands to one reader, decimals or two numbers to another.
_EITHER = re.compile(r"[1-9]\d{0,2}[. ]\d{3}")
_SCALE = re.compile(
    r"\s*(?:thousand|million|billion|mill|mio|mrd|tsd|млн|млрд|тыс|万|億|亿|만|억)", re.IGNORECASE
)


def number(text: str, *, whole: bool) -> int | float | None:
    """Return the first number in `text`; None where there is none, or where it can be read in two ways."""
    if (match := _RUN.match(text)) is None or _SCALE.match(text, match.end()):
        return None
    sign, digits = match.groups()
    # In brackets it may be negative, or a note.
    if sign == "(" or (written := _written(digits)) is None or len(written) > _MOST_DIGITS:
        return None
    # The sign goes in with the digits: arithmetic on a Decimal would round it.
    value = Decimal(f"-{written}" if sign in ("-", "\u2212") else written)
    if "." not in written or (whole and value == int(value)):
        return int(value)
    # A float that is not the number stated, as of 22 digits, would be another number.
    return None if whole or Decimal(repr(float(value))) != value else float(value)


def _written(digits: str) -> str | None:
    """Return digits with a point before the decimals and nothing between thousands; None if unclear."""
    if _EITHER.fullmatch(digits):
        return None
    if match := _GROUPED.fullmatch(digits):
        head, _, tail = digits.rpartition(match[1])
        return "".join(c for c in head if c.isdigit()) + tail.replace(",", ".")
    return digits.replace(",", ".") if _PLAIN.fullmatch(digits) else None
