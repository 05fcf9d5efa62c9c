"""Sort characters by what they mean for a comparison of quotes: letters, digits, signs, separators."""

from __future__ import annotations

import unicodedata

LETTER, UNSPACED, MARK, DIGIT, FIGURE = "L", "C", "c", "D", "N"
HYPHEN, SOFT_HYPHEN, DASH, MINUS, PLUS = "H", "s", "E", "M", "P"
PERCENT, CURRENCY, COMPARISON, POINT, COLON, APOSTROPHE = "%", "$", "=", ".", ":", "A"
SPACE, BREAK, IGNORED, OTHER, OPENING, CLOSING = "W", "B", "X", "O", "(", ")"

_KNOWN = {
    **dict.fromkeys("-\u2010\u2011", HYPHEN), **dict.fromkeys("\u2012\u2013\u2014\u2015", DASH),
    "\xad": SOFT_HYPHEN, "\u2212": MINUS, **dict.fromkeys("+±", PLUS), **dict.fromkeys("%‰٪", PERCENT),
    **dict.fromkeys("<>=≤≥≠≈", COMPARISON), **dict.fromkeys(".,٫٬", POINT),
    **dict.fromkeys(":/\u2044", COLON),
    **dict.fromkeys("'\u2019\u02bc`\u2018", APOSTROPHE), "(": OPENING, ")": CLOSING,
    "\ufffd": LETTER, "\u0640": IGNORED,
}  # fmt: skip
# Scripts whose words have no space between them, or (Hangul) particles stuck to them.
_UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1100, 0x11FF), (0x2E80, 0x2FDF),
    (0x3005, 0x3007), (0x3040, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xAC00, 0xD7AF),
    (0xF900, 0xFAFF), (0x20000, 0x3FFFF),
)  # fmt: skip
# Vowel points of Hebrew and Arabic: one writer sets them and the next does not.
_POINTS = ((0x0591, 0x05C7), (0x0610, 0x061A), (0x064B, 0x065F), (0x0670, 0x0670), (0x06D6, 0x06ED))
_BY_CATEGORY = {"Nd": DIGIT, "No": FIGURE, "Sc": CURRENCY, "Cf": IGNORED, "Cn": IGNORED, "Cc": BREAK}
_BREAKS = "\n\r\t\f\v\u2028\u2029\x85"


class _Kinds(dict[int, str]):
    """Work out a character's kind when it is first met: `str.translate` asks by code point."""

    def __missing__(self, code: int) -> str:
        self[code] = _kind(chr(code))
        return self[code]


def _kind(given: str) -> str:
    category = unicodedata.category(given)
    if given in _KNOWN or category in ("Nd", "No"):
        return _KNOWN.get(given) or _BY_CATEGORY[category]
    plain = unicodedata.normalize("NFKC", given)[0]
    if plain in _KNOWN:
        return _KNOWN[plain]
    category, code = unicodedata.category(plain), ord(plain)
    if plain in _BREAKS or category == "Zs":
        return BREAK if plain in _BREAKS else SPACE
    if category[0] == "M" and any(low <= code <= high for low, high in _POINTS):
        return IGNORED
    if category[0] in "LM" and any(low <= code <= high for low, high in _UNSPACED):
        return MARK if category[0] == "M" else UNSPACED
    if category[0] in "LM" or category == "Nl":
        return LETTER
    return _BY_CATEGORY.get(category, OTHER)


_KINDS = _Kinds()


def kinds(text: str) -> str:
    """Return the kind of each character, as a text of the same length."""
    return text.translate(_KINDS)
