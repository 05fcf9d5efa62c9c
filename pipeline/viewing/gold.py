"""Tell whether an answer holds the answer that is known to be right."""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal

_NUMBER = re.compile(r"(?=[-−\d])(?:(?<!\w)[-−])?\d+(?:[.,'\u00a0\u202f ]\d{3})*(?:[.,]\d+)?")
_WORD = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+")
"""Digits around a point or comma are one number: `5 %` is not in `0.5 %`."""
_YES_NO = frozenset(
    "yes no true false ja nein oui non sí si no sim não да нет はい いいえ 是 否 예 아니요".split()
)
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_LONG_LETTERS = 12
"""Letters that are no accident when they follow each other, whatever stands between them."""


def is_right(answer: str | None, gold: str) -> bool:
    """Tell whether `answer` says what `gold` does; `a | b` is either of two.

    A number counts by its value, yes and no only as the first word, everything else as whole words, without
    regard to case, punctuation and white space. The answer may say more: a passage that holds the gold answer
    is right.
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
        return any(wanted.values & _values(number) for number in _NUMBER.findall(said))
    if wanted.letters:
        return wanted.letters in "".join(_WORD.findall(said))
    if wanted.words[0] not in said:
        return False  # as most wrong answers are told
    return f" {' '.join(wanted.words)} " in f" {' '.join(_WORD.findall(said))} "


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A gold answer in the forms that answers are compared with."""

    plain: str
    words: list[str]
    is_yes_or_no: bool
    values: frozenset[Decimal]
    """What it may mean where it is a number."""
    letters: str
    """Of a text that is looked for without regard to where words end; else empty."""


@functools.lru_cache(4096)
def _wanted(gold: str) -> _Wanted:
    given, plain = gold.strip(), _plain(gold).strip()
    words = _WORD.findall(plain)
    # What looks like a number and cannot be read as one, such as section 1.234.5, is compared as text.
    values = _values(given) if _NUMBER.fullmatch(given) else ()
    # Chinese and Japanese have no spaces between words, and a line's end may split a word with a hyphen.
    letters = "".join(words)
    is_looked_for = len(letters) >= _LONG_LETTERS or _CJK.search(letters)
    return _Wanted(
        plain, words, given.casefold() in _YES_NO, frozenset(values), letters if is_looked_for else ""
    )


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _values(number: str) -> set[Decimal]:
    """Return what a written number may mean: 1.234 is one and a bit, or over a thousand."""
    if number.isdecimal():
        return {Decimal(number)}
    sign = -1 if number[0] in "-−" else 1
    digits = re.sub(r"[-−'\u00a0\u202f ]", "", number)
    separators = re.findall(r"[.,]", digits)
    readings = set()
    if not separators or (len(set(separators)) == 1 and re.fullmatch(r"\d+(?:[.,]\d{3})+", digits)):
        readings.add(re.sub(r"[.,]", "", digits))
    if len(separators) == 1 or len(set(separators)) == 2:
        whole, part = re.split(r"[.,](?=\d+$)", digits)
        readings.add(f"{re.sub(r'[.,]', '', whole)}.{part}")
    return {sign * Decimal(reading) for reading in readings}
