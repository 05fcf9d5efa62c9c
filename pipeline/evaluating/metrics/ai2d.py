"""AI2D and other questions with lettered options: which letter a reply chooses."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence

_BEGINS_WITH_LETTER = re.compile(r"^\s*([A-Z])\.")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SEPARATORS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_NEAR_END = 4
"""Words from the end among which a letter counts."""
_NONE = "Z"
"""What a refusal chooses."""
_FAILED = "Failed to obtain answer via API"
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)


def choice_exact(prediction: str, golds: Sequence[str]) -> float:
    """Return 1 where a reply is the letter and punctuation, or begins with it and a full stop; else 0.

    This is how lmms-eval scores AI2D: a space beside the letter makes it wrong.
    """
    match = _BEGINS_WITH_LETTER.match(prediction)
    said = _bare(match[1] if match else prediction)
    return float(any(said == _bare(gold) for gold in golds))


def _bare(text: str) -> str:
    return text.lower().translate(_WITHOUT_PUNCTUATION)


def choice_inferred(prediction: str, golds: Sequence[str], options: Mapping[str, str]) -> float:
    """Return 1 where VLMEvalKit's rules, without a model's help, infer a gold letter from a reply; else 0."""
    return float(infer(prediction, options) in golds)


def infer(prediction: str, options: Mapping[str, str]) -> str | None:
    """Return the one letter near the end of a reply, or else of the one option whose text it holds."""
    return _by_letter(prediction, options) or _by_text(prediction.lower(), options)


def _by_letter(prediction: str, options: Mapping[str, str]) -> str | None:
    if _FAILED in prediction:
        return None
    if any(refusal in prediction for refusal in _REFUSALS):
        return _NONE
    words = prediction.translate(_SEPARATORS).split()
    found = [letter for letter in options if letter in words]
    if len(found) == 1:
        return found[0] if words.index(found[0]) >= len(words) - _NEAR_END else None
    return _NONE if not found and _NONE in words else None


def _by_text(prediction: str, options: Mapping[str, str]) -> str | None:
    if len(prediction) > 2 * sum(map(len, options.values())):
        return None
    found = [letter for letter, text in options.items() if text.lower() in prediction]
    return found[0] if len(found) == 1 else None
