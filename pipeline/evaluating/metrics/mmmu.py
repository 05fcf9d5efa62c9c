"""MMMU as its authors score it: what a free reply chooses, or which numbers and words it gives."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_ENDS = (",", ".", "!", "?", ";", ":", "'")
_FEWEST_WORDS = 5
"""A reply of more words may name an option by its text."""
_INDICATORS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_TRIVIAL = frozenset(":,.!?;'")
_SENTENCE_END = re.compile(r"\.\s(?=[A-Z])|\n")
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)


@dataclass(frozen=True, slots=True)
class Choices:
    """The options of a multiple-choice question."""

    letters: Sequence[str]
    texts: Mapping[str, str]
    """The text of each letter's option."""
    seed: int | None = None
    """The reference guesses where a reply chooses nothing; None: such a reply is wrong."""


def mmmu_choice(reply: str, golds: Sequence[str], choices: Choices) -> float:
    """Return 1 where the letter that a reply chooses is a gold answer, else 0."""
    return float(chosen(reply, choices) in golds)


def chosen(reply: str, choices: Choices) -> str | None:
    """Return the letter that a reply chooses: in brackets, else alone, else by its text; the last."""
    for end in _ENDS:
        reply = reply.strip(end)
    text = f" {reply} "
    for form in ("({})", " {} "):
        if found := _last(text, {letter: form.format(letter) for letter in choices.letters}):
            return found
    if len(text.split()) > _FEWEST_WORDS and (
        found := _last(text.lower(), {letter: words.lower() for letter, words in choices.texts.items()})
    ):
        return found
    if choices.seed is None or not choices.letters:
        return None
    return random.Random(choices.seed).choice(choices.letters)


def _last(text: str, wanted: Mapping[str, str]) -> str | None:
    """Return the letter whose text stands last; of two at one place the first of them."""
    places = {letter: text.rfind(words) for letter, words in wanted.items() if words in text}
    return max(places, key=places.__getitem__) if places else None


def mmmu_open(reply: str, golds: Sequence[str]) -> float:
    """Return 1 where a number in the last words of a reply is a gold answer, or one of its texts holds one.

    Numbers count to two decimals.
    """
    known = [form for gold in golds for form in _forms(gold)]
    key_texts = _key_texts(reply)
    found = [
        *key_texts,
        *(number for text in key_texts for each in _NUMBERS for number in each.findall(text)),
    ]
    return float(any(_agrees(form, known) for text in found for form in _forms(text)))


def _agrees(said: str | float, known: Sequence[str | float]) -> bool:
    if isinstance(said, str):
        return any(isinstance(gold, str) and gold in said for gold in known)
    return said in known


def _forms(text: str) -> list[str | float]:
    """Return what a text is compared as: its number, or its words; a single letter has a space beside it."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def _key_texts(reply: str) -> list[str]:
    """Return the end of each sentence that gives a result; the whole reply where none does."""
    reply = reply.strip().strip(".").lower()
    sentences = _SENTENCE_END.split(reply)
    found = []
    for number, sentence in enumerate(sentences, 1):
        # Of the last sentence, which may be an equation alone, what stands behind its last `=` too.
        indicators = (*_INDICATORS, "=") if number == len(sentences) else _INDICATORS
        ends = [sentence.split(each)[-1].strip() for each in indicators if each in sentence]
        if (shortest := _shortest(ends)) and shortest not in _TRIVIAL:
            found.append(shortest)
    return found or [reply]


def _shortest(ends: Sequence[str]) -> str:
    """Return the shortest text; an empty one gives way to the next, as in the reference."""
    kept = ""
    for end in ends:
        if not kept or len(end) < len(kept):
            kept = end
    return kept
