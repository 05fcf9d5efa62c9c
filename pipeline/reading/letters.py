"""Tell a text that was written from a cipher: a font whose codes stand for other letters than it draws."""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections import Counter

_FREQUENCIES = (
    # The mean of languages in Latin letters, those of Central and Northern Europe among them; Russian; Greek.
    "e125 a92 i74 n72 o68 r64 s64 t66 l48 d42 u40 c33 m29 p25 h24 g17 v15 f12 b13 y16 w13 q5 z15 k19 j9 x3",
    "о109 е85 а80 и74 н67 т63 с55 р47 в45 л43 к35 м32 д30 п28 у26 я20 ы19 ь17 г17 з16 б16 ч14 й12 х10 ж9 ш7"
    " ю6 ц5 щ4 э3 ф2 ъ1 ё1",
    "α114 ο98 ι93 ε83 τ78 σ78 ν67 η55 υ45 ρ45 π42 κ41 μ33 λ30 ς30 ω20 δ18 γ17 χ12 θ11 φ8 β7 ξ5 ζ4 ψ2",
)
_SMALLEST_GAIN = -0.12
"""Bits by which a page's letters are likelier in a language than at random: texts and code have 0.13 to 0.6,
shifted alphabets -0.2 to -1.3."""
_FEWEST_LETTERS = 60
_LOOKED_AT = 1000
"""Characters of a page that are counted."""

_MOST_STRANGE = 0.1
_COMMON_SHARE = 0.8


def is_written(text: str) -> bool:
    """Tell whether a text layer can be what its page shows; a few words, numbers and part names can."""
    part = text[:_LOOKED_AT]
    counts = Counter(part)
    return not (_is_strange(part, counts) or _is_random(counts) or _is_cipher(part))


def _is_strange(text: str, counts: Counter[str]) -> bool:
    """Tell whether many characters stand for no letter, or stand in words that no one writes."""
    strange = sum(count for character, count in counts.items() if _says_nothing(character))
    marks = sum(count for character, count in counts.items() if not character.isspace())
    if strange > _MOST_STRANGE * marks:
        return True
    # Most pages have no such letters, and their words need not be looked at one by one.
    if not any("\u0530" <= character < "\u1100" for character in counts):
        return False
    words = text.split()
    return sum(len(word) for word in words if _mixes_scripts(word)) > _MOST_STRANGE * sum(map(len, words))


@functools.lru_cache(maxsize=32_768)
def _says_nothing(character: str) -> bool:
    if character.isspace():
        return False
    return character == "\ufffd" or unicodedata.category(character) in ("Co", "Cn", "Cc", "Cs")


def _mixes_scripts(word: str) -> bool:
    """Tell whether letters of the Near East or India stand beside letters of a third kind; Latin ones may."""
    scripts = {_script(character) for character in word} - {0}
    return len(scripts) > 1 and any(0x0530 >> 7 <= script < 0x1100 >> 7 for script in scripts)


@functools.lru_cache(maxsize=32_768)
def _script(character: str) -> int:
    """Number the script of a letter, for the most part by Unicode's blocks of 128; 0 for what is in all."""
    code = ord(character)
    if code < 0x0100 or not character.isalpha():
        return 0
    for first, last in (
        (0x0100, 0x036F),
        (0x0370, 0x03FF),
        (0x0400, 0x052F),
        (0x0530, 0x05FF),
        (0x0600, 0x08FF),
    ):
        if first <= code <= last:
            return first >> 7
    if 0xFB1D <= code <= 0xFEFF:
        return 0  # forms of Hebrew and Arabic letters
    return 0x2E80 >> 7 if code >= 0x2E80 else code >> 7


def _is_cipher(text: str) -> bool:
    """Tell whether the letters of the page's main alphabet come as often as no language has them."""
    words = re.findall(r"[^\W\d_]+", text)
    total, gain = [0] * len(_FREQUENCIES), [0.0] * len(_FREQUENCIES)
    signs = sum(len(word) for word in words if word > "\u2e80")
    # Short words are often parts of names and numbers, which have letters of their own.
    for character, count in Counter("".join(word for word in words if len(word) > 3)).items():
        for alphabet, bits in _gains(character):
            total[alphabet] += count
            gain[alphabet] += count * bits
    main = max(range(len(total)), key=total.__getitem__)
    # A page in Chinese, Japanese or Korean has Latin letters for names and code alone.
    return total[main] >= max(_FEWEST_LETTERS, 3 * signs) and gain[main] < _SMALLEST_GAIN * total[main]


@functools.lru_cache(maxsize=4096)
def _gains(character: str) -> tuple[tuple[int, float], ...]:
    """Return a letter's alphabet and how much likelier it is there than at random, accents aside, in bits."""
    letters = unicodedata.normalize("NFD", character.lower())
    return tuple((n, table[c]) for n, table in enumerate(_tables()) for c in letters if c in table)


@functools.lru_cache(maxsize=1)
def _tables() -> list[dict[str, float]]:
    tables = []
    for listed in _FREQUENCIES:
        counts = {entry[0]: int(entry[1:]) for entry in listed.split()}
        even = sum(counts.values()) / len(counts)
        tables.append({letter: math.log2(count / even) for letter, count in counts.items()})
    return tables


def _is_random(counts: Counter[str]) -> bool:
    """Tell whether Chinese characters or Korean syllables are mostly ones that hardly any text has."""
    known = total = 0
    for character, count in counts.items():
        if "\u4e00" <= character <= "\u9fff" or "\uac00" <= character <= "\ud7a3":
            total += count
            known += count * _is_common(character)
    return total >= 30 and known < _COMMON_SHARE * total


@functools.lru_cache(maxsize=32_768)
def _is_common(character: str) -> bool:
    """Tell whether a character is in the first level of the Chinese, Japanese or Korean standards."""
    for encoding, first, last in (
        ("gb2312", 0xB0, 0xD7), ("shift_jis", 0x88, 0x98), ("big5", 0xA4, 0xC6), ("euc_kr", 0xB0, 0xC8),
    ):  # fmt: skip
        code = character.encode(encoding, "ignore")
        if len(code) == 2 and first <= code[0] <= last:
            return True
    return False
