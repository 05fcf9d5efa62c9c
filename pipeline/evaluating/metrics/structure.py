"""ANLS*: how near a structure of texts, lists and fields comes to a gold one."""

from __future__ import annotations

from collections.abc import Sequence

from anls_star import anls_score

from pipeline.records import Json


def anls_star(prediction: Json, golds: Sequence[Json]) -> float:
    """Return the similarity to the best of the gold structures, 0 to 1; 0 without gold structures.

    A gold list against a text is a list of answers each of which is right, as the reference has it; an empty
    one, at which the reference raises, is an answer that is not there.
    """
    if not golds:
        return 0.0
    options = tuple(_gold(gold, prediction) for gold in golds)
    gold = options if len(options) > 1 else options[0]
    return anls_score(gold, prediction, return_gt=False, return_key_scores=False)


def _gold(gold: Json, prediction: Json) -> Json | tuple[Json, ...]:
    if isinstance(gold, list) and isinstance(prediction, str) and all(isinstance(each, str) for each in gold):
        return tuple(gold) or None
    return gold
