"""VQAv2: how many of ten people gave the same answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.evaluating.metrics.text import unquote

_ENOUGH = 3
"""People who have to agree with an answer for it to be right."""
_NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
    "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
_ARTICLES = ("a", "an", "the")
_SIGNS = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
_MOST_FULL_STOPS = 32
"""The reference passes a flag of this value where a count belongs."""
_CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've
    might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
    shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
    someone's something'd something'd've something'll that's there'd there'd've there're there's they'd
    they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've
    when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't
    would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
""".split()


def _without_one_apostrophe(word: str) -> list[str]:
    places = [place for place, letter in enumerate(word) if letter == "'"]
    return [word[:place] + word[place + 1 :] for place in places]


_FULL_FORMS = {short: word for word in _CONTRACTIONS for short in _without_one_apostrophe(word)}
# The one entry that the reference has the other way round.
_FULL_FORMS["somebody'd"] = "somebodyd"


def vqa_match(prediction: str, golds: Sequence[str]) -> float:
    """Return how many gold answers are the prediction to the letter, as a share of three, at most 1.

    This is the metric of mistral-evals: `Yes` does not match `yes`, and one gold answer gives a third.
    """
    said = unquote(prediction)
    return min(1.0, sum(unquote(gold) == said for gold in golds) / _ENOUGH)


def vqa_accuracy(prediction: str, golds: Sequence[str], *, always_normalize: bool = False) -> float:
    """Return the official accuracy: each person in turn is left out, and a third counts for each match left.

    Punctuation, articles and words for numbers are ignored only where people disagree, unless
    `always_normalize`, which lmms-eval and VLMEvalKit do.
    """
    if len(golds) < 2:  # without the one that is left out there is nobody to agree with
        return 0.0
    said, known = _on_one_line(prediction), [_on_one_line(gold) for gold in golds]
    if always_normalize or len(set(known)) > 1:
        said, known = normalize(said), [normalize(gold) for gold in known]
    matching = [gold == said for gold in known]
    agreeing = sum(matching)
    if not agreeing:
        return 0.0
    scores = [min(1.0, (agreeing - is_own) / _ENOUGH) for is_own in matching]
    return sum(scores) / len(scores)


def normalize(text: str) -> str:
    """Return a text as the official evaluation compares it."""
    words = (_NUMBERS.get(word, word) for word in _without_signs(text).lower().split())
    return " ".join(_FULL_FORMS.get(word, word) for word in words if word not in _ARTICLES)


def _on_one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def _without_signs(text: str) -> str:
    """Delete each sign that stands beside a space, or all where a number has commas; else make it a space."""
    deletes_all = _COMMA_IN_NUMBER.search(text) is not None
    result = text
    for sign in _SIGNS:
        deletes = deletes_all or f"{sign} " in text or f" {sign}" in text
        result = result.replace(sign, "" if deletes else " ")
    return _FULL_STOP.sub("", result, count=_MOST_FULL_STOPS)
