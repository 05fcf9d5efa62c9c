"""Tell whether an answer holds the answer that is known to be right."""

from __future__ import annotations

import functools
import re
import unicodedata
from decimal import Decimal
from typing import NamedTuple

# A minus, and then thousands in groups of three, or digits: `2019 450` is two numbers, 3.14159 is one.
_FIGURES = r"(?=[-−\d])(?:(?<!\w)[-−][$€£¥]?)?(?:\d{1,3}(?:[.,'’ ]\d{3}(?!\d))+|\d+)(?:[.,]\d+)?"
_NUMBER = re.compile(_FIGURES)
_AMOUNT = re.compile(rf"\+?[$€£¥]?\s*({_FIGURES})\s*[%‰$€£¥]?")
_WORD = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+")
"""Digits around a point or comma are one number: `5 %` is not in `0.5 %`."""
_SIGNS = bytes(code for code in range(128) if not chr(code).isalnum())
_SIGNS_TO_SPACES = bytes.maketrans(_SIGNS, b" " * len(_SIGNS))
_YES_NO = frozenset(
    "yes no true false ja nein oui non sí si no sim não да нет はい いいえ 是 否 예 아니요".split()
)
_LEFT_OUT, _SEPARATORS = str.maketrans("", "", "-−$€£¥'’ "), str.maketrans("", "", ".,")
_THOUSANDS = re.compile(r"\d+(?:[.,]\d{3})+")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_LONG_LETTERS = 12
"""Letters that are no accident when they follow each other, whatever stands between them."""


def is_right(answer: str | None, gold: str) -> bool:
    """Tell whether `answer` says what `gold` does; `a | b` is either of two.

    A number counts by its value, with or without a currency or percent sign, yes and no only as the first
    word, everything else as whole words, without regard to case, punctuation and white space. The answer may
    say more: a passage that holds the gold answer is right.
    """
    return answer is not None and any(holds(answer, each) for each in gold.split("|") if each.strip())


def holds(answer: str, gold: str) -> bool:
    """Tell whether an answer says what one gold answer does."""
    wanted, said = _wanted(gold), _plain(answer)
    if not wanted.words:
        return said.strip() == wanted.plain
    # "no" stands somewhere in nearly every English text.
    if wanted.is_yes_or_no:
        first = _WORD.search(said)
        return first is not None and wanted.words == [first[0]]
    if wanted.values:
        return any(not wanted.values.isdisjoint(_values(each)) for each in _NUMBER.findall(said))
    if wanted.letters:
        return wanted.letters in _letters(said)
    if wanted.words[0] not in said:
        return False  # as most wrong answers are told
    return f" {' '.join(wanted.words)} " in f" {' '.join(_words(said))} "


class _Wanted(NamedTuple):
    """A gold answer in the forms that answers are compared with: a tuple, for there are millions."""

    plain: str
    words: list[str]
    is_yes_or_no: bool
    values: frozenset[Decimal]
    """What it may mean where it is a number."""
    letters: str
    """Of a text that is looked for without regard to where words end; else empty."""


@functools.lru_cache(4096)
def _wanted(gold: str) -> _Wanted:
    plain = _plain(gold).strip()
    words, amount = _words(plain), _AMOUNT.fullmatch(plain)
    # What looks like a number and cannot be read as one, such as section 1.234.5, is compared as text.
    values = _values(amount[1]) if amount else frozenset()
    # Chinese and Japanese have no spaces between words, and a line's end may split a word with a hyphen.
    letters = "".join(words)
    is_looked_for = len(letters) >= _LONG_LETTERS or (not letters.isascii() and _CJK.search(letters))
    return _Wanted(plain, words, plain in _YES_NO, values, letters if is_looked_for else "")


def _words(text: str) -> list[str]:
    """Return the words and numbers of a text."""
    # Searching for numbers takes three times as long, and most texts are of letters alone.
    spaced = text.encode("utf-8", "surrogatepass").translate(_SIGNS_TO_SPACES)
    words = spaced.decode("utf-8", "surrogatepass").split()
    return words if "".join(words).isalpha() else _WORD.findall(text)


def _letters(text: str) -> str:
    """Return the words and numbers of a text without anything between them."""
    letters = text.encode("utf-8", "surrogatepass").translate(None, _SIGNS).decode("utf-8", "surrogatepass")
    return letters if letters.isalpha() else "".join(_WORD.findall(text))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


@functools.lru_cache(4096)
def _values(number: str) -> frozenset[Decimal]:
    """Return what a written number may mean: 1.234 is one and a bit, or over a thousand."""
    if number.isdecimal():
        return frozenset([Decimal(number)])
    sign = -1 if number[0] in "-−" else 1
    digits = number.translate(_LEFT_OUT)
    separators = [letter for letter in digits if letter in ".,"]
    readings = set()
    if not separators or (len(set(separators)) == 1 and _THOUSANDS.fullmatch(digits)):
        readings.add(digits.translate(_SEPARATORS))
    if len(separators) == 1 or len(set(separators)) == 2:
        whole, _, part = digits.rpartition(separators[-1])
        readings.add(f"{whole.translate(_SEPARATORS)}.{part}")
    return frozenset([sign * Decimal(reading) for reading in readings])
