"""Relaxed correctness as mistral-evals computes it: numbers within 5 %, texts to the letter but for case."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from pipeline.evaluating.metrics.text import strip_end, to_float, unquote

_MOST_RELATIVE_CHANGE = 0.05
_LEAST_GOLD = 1e-10
_BOLD_MARKS = re.compile(r"([aA]nswer)\**:\**")
_MARKS = re.compile(r"[*_\[\]()]")
_ANSWER = "answer"


def final_answer(reply: str) -> str:
    """Return what a reply gives as its answer: the line after the last `answer:`, "" where there is none.

    Markdown is taken away from it, and with it the brackets of a list and of a negative amount.
    """
    if _ANSWER not in reply.lower():
        return ""
    text = _BOLD_MARKS.sub(r"\1:", reply)
    # The place is looked up in lower case, where a few letters are longer: as in the reference.
    begin = text.lower().rfind(f"{_ANSWER}:")
    if begin < 0:
        return ""
    lines = (line.strip() for line in text[begin + len(_ANSWER) + 1 :].split("\n"))
    return _MARKS.sub("", next(filter(None, lines), ""))


def relaxed(prediction: str, golds: Sequence[str]) -> float:
    """Return 1 for an answer that is right by any gold answer, else 0; 0 without gold answers."""
    said = _prepared(prediction)
    return max((_is_right(said, _prepared(gold)) for gold in golds), default=0.0)


def relaxed_explicit(reply: str, golds: Sequence[str]) -> float:
    """Return whether the final answer of a reply is right; a reply without one is wrong."""
    said = final_answer(reply)
    return relaxed(said, golds) if said else 0.0


def relaxed_anywhere(reply: str, golds: Sequence[str]) -> float:
    """Return whether the final answer is right or, without one, whether a gold answer stands in the reply.

    The authors of the metric say that it is too generous: it is a diagnostic, and no score.
    """
    if said := final_answer(reply):
        return relaxed(said, golds)
    phrases = [phrase.lower() for gold in golds for phrase in _phrases(gold)]
    for gold in golds:
        number = to_float(gold)
        written = _spellings(number) if number is not None and math.isfinite(number) else phrases
        if any(each in reply for each in written):
            return 1.0
    return 0.0


def _phrases(gold: str) -> tuple[str, ...]:
    return f"is {gold}", f"was {gold}", f" {gold}.", f"are {gold}", f"\n\n{gold}"


def _spellings(number: float) -> tuple[str, str]:
    whole = int(number) if number.is_integer() else number
    return format(whole, ","), str(whole)


def _prepared(text: str) -> str:
    if any(map(str.isdigit, text)):
        return strip_end(text).replace(",", "").replace("$", "")
    return unquote(text)


def _is_right(said: str, known: str) -> float:
    number, wanted = _number(said), _number(known)
    if number is not None and wanted is not None:
        return float(_numbers_agree(*number, *wanted))
    if len(known) == 1 and known.isalpha() and said:
        return float(said[0].lower() == known.lower())  # a letter of a choice, whatever follows it
    return float(said.lower() == known.lower())


def _number(text: str) -> tuple[float, bool] | None:
    """Return a number as it is written, and whether it is one of percent."""
    text = text.strip()
    value = to_float(text.rstrip("%"))
    return None if value is None else (value, text.endswith("%"))


def _numbers_agree(said: float, said_percent: bool, known: float, known_percent: bool) -> bool:
    """Compare as written, then with either side as a share; never both: 0.1 % passes for 10 %."""
    if _near(said, known):
        return True
    share = (said_percent and _near(said / 100, known)) or (known_percent and _near(said, known / 100))
    return share


def _near(said: float, known: float) -> bool:
    return abs(said - known) / max(abs(known), _LEAST_GOLD) <= _MOST_RELATIVE_CHANGE
