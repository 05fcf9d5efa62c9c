"""ChartQA and ChartQAPro as their authors and lmms-eval score them."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.evaluating.metrics.anls import PAPER, anls
from pipeline.evaluating.metrics.text import to_float

_MOST_RELATIVE_CHANGE = 0.05
_MOST_LITERAL = 10_000
"""Characters of a text that is tried as a list."""
_BARE_ITEM = re.compile(r"(?<!['\w])(\w[^,]*?)(?!['\w])")
_QUOTED_ITEM = r"'\1'"
_EXACT_TYPES = ("Fact Checking", "Multi Choice")


def chartqa(prediction: str, golds: Sequence[str]) -> float:
    """Return 1 where a number is within 5 % of a gold answer, or a text is one but for case; else 0.

    A percentage is a share: 10 is not 10 %. Signs of currencies and commas in numbers are not understood.
    """
    return max([_relaxed(prediction, gold) for gold in golds], default=0.0)


def _relaxed(prediction: str, gold: str) -> float:
    known = _share(gold)
    if known and (said := _share(prediction)) is not None:  # a gold answer of 0 is compared as text
        return float(abs(said - known) / abs(known) <= _MOST_RELATIVE_CHANGE)
    # Lower case makes no text shorter, and none longer than twice: most answers are told by their length.
    return float(len(prediction) <= 2 * len(gold) and prediction.lower() == gold.lower())


def _share(text: str) -> float | None:
    if not text.endswith("%"):
        return to_float(text)
    value = to_float(text.rstrip("%"))
    return None if value is None else value / 100


@dataclass(frozen=True, slots=True)
class ProItem:
    """What ChartQAPro knows of a question."""

    answers: Sequence[str]
    """One for each turn of a conversation; the last is asked for."""
    is_year: Sequence[str]
    """`YES` for each part of the answer that is a year."""
    question_type: str


def chartqapro(prediction: str, item: ProItem) -> float:
    """Return the mean over the parts of an answer: years to the letter, numbers within 5 %, texts by ANLS."""
    if not item.answers:
        return 0.0
    reply, gold = _trimmed(prediction), _trimmed(item.answers[-1])
    said, known = _parts(reply) or [reply], _parts(_with_quotes(gold)) or [gold]
    years = list(item.is_year[-1:] if item.question_type == "Conversational" else item.is_year)
    years = years if len(years) >= len(known) else years * len(known)
    is_exact = [year.upper() == "YES" for year in years] or [False] * len(known)
    if item.question_type in _EXACT_TYPES:
        is_exact = [True] * len(known)
    scores = [_part(*each) for each in zip(said, known, is_exact, strict=False)]
    # By the longer side: parts that are missing, or too many, are wrong.
    return sum(scores) / max(len(said), len(known))


def _trimmed(text: str) -> str:
    return text.strip().strip(".").strip("\n")


def _parts(text: str) -> list[str]:
    """Return the items of a list literal as texts; none where a text is no list."""
    value = _literal(text)
    return [str(item).strip(" '") for item in value] if isinstance(value, list) else []


def _with_quotes(text: str) -> str:
    """Put quotation marks around the bare items of a list, where that makes it a list literal."""
    match = re.match(r"^\[(.*)\]$", text)
    quoted = f"[{_BARE_ITEM.sub(_QUOTED_ITEM, match[1])}]" if match else ""
    return quoted if isinstance(_literal(quoted), list) else text


def _literal(text: str) -> object:
    if len(text) > _MOST_LITERAL:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python does not know
            value: object = ast.literal_eval(text)
            return value
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _part(said: str, known: str, exact: bool) -> float:
    if exact:
        return float(said.strip().lower() == known.strip().lower())
    one, other = (text.strip().strip("%").strip() for text in (said, known))
    value, wanted = to_float(one), to_float(other)
    if value is None or wanted is None:
        return anls(one.lower(), [other.lower()], PAPER)
    if wanted == 0:
        return float(value == 0)
    return float(abs(value - wanted) / abs(wanted) <= _MOST_RELATIVE_CHANGE)
