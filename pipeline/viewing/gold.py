"""Tell whether an answer holds the answer that is known to be right."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal

_NUMBER = re.compile(r"(?:(?<!\w)[-−])?\d+(?:[.,'\u00a0\u202f ]\d{3})*(?:[.,]\d+)?")
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
    said, wanted = _words(answer), _words(gold)
    if not wanted:
        return _plain(answer).strip() == _plain(gold).strip()
    # "no" stands somewhere in nearly every English text.
    if gold.strip().casefold() in _YES_NO:
        return said[:1] == wanted
    # What looks like a number and cannot be read as one, such as section 1.234.5, is compared as text.
    if _NUMBER.fullmatch(gold.strip()) and (values := _values(gold.strip())):
        return any(values & _values(number) for number in _NUMBER.findall(_plain(answer)))
    if f" {' '.join(wanted)} " in f" {' '.join(said)} ":
        return True
    # Chinese and Japanese have no spaces between words, and a line's end may split a word with a hyphen.
    letters = "".join(wanted)
    return bool(_CJK.search(letters) or len(letters) >= _LONG_LETTERS) and letters in "".join(said)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _words(text: str) -> list[str]:
    # Digits around a point or comma are one number: "5 %" is not in "0.5 %".
    return re.findall(r"\d+(?:[.,]\d+)+|[^\W_]+", _plain(text))


def _values(number: str) -> set[Decimal]:
    """Return what a written number may mean: 1.234 is one and a bit, or over a thousand."""
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
