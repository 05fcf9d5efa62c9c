"""Tell a text that was written from a cipher: a font whose codes stand for other letters than it draws."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter

_ALPHABETS = (
    "eainorstldcumpgvfhbqzyxjkw",  # the mean of English, French, German, Italian, Portuguese and Spanish
    "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё",
    "αοιετσνηυρπκμλδγωχθφβξζψ",
)
"""Letters from frequent to rare."""
_PLACES = {
    letter: (n, i / len(letters)) for n, letters in enumerate(_ALPHABETS) for i, letter in enumerate(letters)
}
_LOOKED_AT = 1000
"""Characters of a page that are counted, evenly spread."""
_FEWEST_LETTERS = 60
_RAREST_MEAN = 0.4
"""Texts lie at 0.21 to 0.33, code and names up to 0.46; shuffled letters at 0.5, a shift by one at 0.46."""

_SMALL_WORDS = frozenset(
    "a ao al an and are as at auf aus be by com con da das de dei del della dem den der des di die do dos du"
    " e ein eine el els em en er es est et for from i il in is ist it la las le les lo los mit na nel no non"
    " not of og on or os par per por pour que se si sind sur te that the to um un una und une van von was"
    " with y zu"
    " в и к на не о по с что для как от из".split()
)
_FEWEST_SMALL_WORDS = 0.03

_MOST_STRANGE = 0.1
_COMMON_SHARE = 0.8


def is_written(text: str) -> bool:
    """Tell whether a text layer can be what its page shows; a few words, numbers and part names can."""
    counts = Counter(text[:: max(len(text) // _LOOKED_AT, 1)])
    return not (_is_strange(text, counts) or _is_cipher(text, counts) or _is_random(counts))


def _is_strange(text: str, counts: Counter[str]) -> bool:
    """Tell whether many characters stand for no letter, or stand in words that no one writes."""
    strange = sum(count for character, count in counts.items() if _says_nothing(character))
    marks = sum(count for character, count in counts.items() if not character.isspace())
    if strange > _MOST_STRANGE * marks:
        return True
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


def _is_cipher(text: str, counts: Counter[str]) -> bool:
    """Tell whether the letters of the page's main alphabet come as often as no language has them."""
    total, sums = [0] * len(_ALPHABETS), [0.0] * len(_ALPHABETS)
    for character, count in counts.items():
        for letter in _base_letters(character):
            alphabet, place = _PLACES[letter]
            total[alphabet] += count
            sums[alphabet] += count * place
    main = max(range(len(total)), key=total.__getitem__)
    # A page in Chinese, Japanese or Korean has Latin letters for names and code alone.
    signs = sum(count for character, count in counts.items() if character > "\u2e80" and character.isalpha())
    if total[main] < max(_FEWEST_LETTERS, 2 * signs) or sums[main] <= _RAREST_MEAN * total[main]:
        return False
    words = re.findall(r"[^\W\d_]+", text.lower())
    return sum(word in _SMALL_WORDS for word in words) < _FEWEST_SMALL_WORDS * len(words)


@functools.lru_cache(maxsize=4096)
def _base_letters(character: str) -> str:
    """Return a letter without its accents, in the alphabets above; nothing for any other character."""
    return "".join(c for c in unicodedata.normalize("NFD", character.lower()) if c in _PLACES)


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
