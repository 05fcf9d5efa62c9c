"""MathVista as its authors score it, from an answer that was extracted already: to the letter."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from pipeline.records import Json

_LETTER = re.compile(r"\(([a-zA-Z])\)")


@dataclass(frozen=True, slots=True)
class Form:
    """The form that the answer to a question has."""

    question_type: str
    """`multi_choice` or `free_form`."""
    answer_type: str
    """`text`, `integer`, `float` or `list`."""
    choices: Sequence[str] = ()
    precision: float | None = None
    """Decimals of a `float`."""


def form(about: Mapping[str, Json]) -> Form:
    """Return the form that a data set says the answer to a question has."""
    choices, precision = about.get("choices"), about.get("precision")
    return Form(
        question_type=str(about.get("question_type")),
        answer_type=str(about.get("answer_type")),
        choices=[str(each) for each in choices] if isinstance(choices, list) else (),
        precision=float(precision) if isinstance(precision, int | float) else None,
    )


def mathvista(extracted: str, golds: Sequence[str], form: Form) -> float:
    """Return 1 where the answer, brought into its form, is a gold answer to the letter; else 0."""
    return float(in_form(extracted, form) in golds)


def in_form(extracted: str, form: Form) -> str | None:
    """Return an answer in the form of its question; None where it is no number, and has to be one."""
    if form.question_type == "multi_choice":
        return _choice(extracted.strip(), form.choices)
    try:
        if form.answer_type == "integer":
            return str(int(float(extracted)))
        if form.answer_type == "float":
            return None if form.precision is None else str(round(float(extracted), int(form.precision)))
    except (ValueError, OverflowError):
        return None
    return extracted


def _choice(text: str, choices: Sequence[str]) -> str | None:
    """Return the option that a letter stands for; else the nearest, so that anything chooses something."""
    letters = _LETTER.findall(text)
    text = letters[0].upper() if letters else text
    by_letter = {chr(ord("A") + place): choice for place, choice in enumerate(choices)}
    if text in by_letter:
        return by_letter[text]
    return min(choices, key=lambda choice: Levenshtein.distance(text, choice), default=None)


def shortcut(reply: str, form: Form) -> str | None:
    """Return the answer that a reply is by itself; None where a person or a model has to extract it."""
    if not reply or reply in form.choices:
        return reply
    try:
        if form.answer_type == "integer":
            return str(int(reply))
        if form.answer_type == "float":
            return str(float(reply))
    except ValueError:
        return None
    return None
