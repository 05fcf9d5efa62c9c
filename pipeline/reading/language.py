"""Tell the language of a text."""

from __future__ import annotations

import functools
from collections.abc import Callable

# Written by many; among all of the model's, a chart's few labels pass for the rarest.
_LANGUAGES = (
    "ar bg bn ca cs da de el en es et eu fa fi fr gl he hi hr hu id it ja ka ko la lt lv ms nl no pl pt"
    " ro ru sk sl sq sr sv ta te th tr uk ur vi zh"
).split()


_FEWEST_LETTERS = 40


@functools.lru_cache(maxsize=1)
def _classifier() -> Callable[[str], tuple[str, float]]:
    import py3langid

    py3langid.set_languages(_LANGUAGES)
    classify: Callable[[str], tuple[str, float]] = py3langid.classify
    return classify


def warm_up() -> None:
    """Import what the first pages' rows need; pyarrow imports pandas when it writes them."""
    import pandas  # noqa: F401

    _classifier()


def detect_language(text: str) -> str | None:
    """Return the ISO 639-1 code of the language that a text is most likely in; None for a few words."""
    letters = sum(character.isalpha() for character in text)
    # A Chinese, Japanese or Korean character says as much as a syllable.
    syllables = sum(character >= "\u3040" for character in text if character.isalpha())
    return str(_classifier()(text)[0]) if letters + 2 * syllables >= _FEWEST_LETTERS else None
