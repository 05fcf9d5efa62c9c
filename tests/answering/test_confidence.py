"""An answer is as sure as its least sure token; what only makes up its form does not count."""

from __future__ import annotations

import json
import math
import re

import pytest

from pipeline.answering.confidence import confidence, spans
from pipeline.records import Completion


def written(text: str, *unsure: tuple[str, float], sure: float = 0.99) -> Completion:
    """Write a text in tokens of up to four characters; those that hold a given text are less sure."""
    tokens = [m.group() for m in re.finditer(r"\w{1,4}|\W", text)]
    ends, end = [], 0
    probabilities = []
    for token in tokens:
        start, end = end, end + len(token)
        least = [p for what, p in unsure if start < text.index(what) + len(what) and end > text.index(what)]
        probabilities.append(min(least, default=sure))
        ends.append(end)
    return Completion(text, "stop", token_ends=tuple(ends), token_probabilities=tuple(probabilities))


def of(completion: Completion, *path: str) -> float | None:
    return confidence(completion, spans(completion.text, path))


def test_one_unsure_token_among_sixty_sure_ones_makes_the_answer_unsure() -> None:
    text = json.dumps({"answer": "word " * 60 + "4711", "pages": [1], "quote": None})
    assert of(written(text, ("4711", 0.05)), "answer") == 0.05


def test_tokens_of_keys_pages_and_quote_do_not_count() -> None:
    text = '{"answer": "Purdue", "pages": [12], "quote": "at Purdue"}'
    unsure = [(what, 0.01) for what in ('{"', "answer", '": "', '", "', "pages", "12", "quote", "at ")]
    assert of(written(text, *unsure), "answer") == 0.99
    assert of(written(text, ("rdue", 0.2)), "answer") == 0.2


@pytest.mark.parametrize(
    "value", ["null", "true", "-1.5e3", '""', "[]", "{ }", '"\\u00e9\\"x"', '["a", "b"]']
)
def test_values_of_every_sort_have_their_tokens_counted(value: str) -> None:
    text = f'{{"answer": {value}, "pages": []}}'
    assert of(written(text, (value, 0.3)), "answer") == 0.3


def test_scalars_of_a_structured_answer_count_and_its_keys_do_not() -> None:
    text = '{"answer": {"total": 12.5, "items": [{"name": "nut"}, {"name": null}]}, "quote": "x"}'
    assert of(written(text, ("total", 0.1), ("name", 0.1), ("quote", 0.1)), "answer") == 0.99
    for what in ("12", "nut", "null"):
        assert of(written(text, (what, 0.1)), "answer") == 0.1
    assert of(written(text, ("nut", 0.1)), "answer", "total") == 0.99
    assert of(written('{"a": 1, "b": "x"}', ("x", 0.4))) == 0.4


def test_the_last_of_two_members_with_one_name_counts() -> None:
    assert of(written('{"answer": "first", "answer": "last"}', ("first", 0.1)), "answer") == 0.99
    assert of(written('{"answer": {"a": "first"}, "answer": {"b": 2}}', ("first", 0.1)), "answer") == 0.99


def test_a_fence_around_a_reply_does_not_count() -> None:
    assert of(written('```json\n{"a": "x"}\n```', ("json", 0.1), ("\n```", 0.1))) == 0.99


def test_all_of_a_plain_text_counts() -> None:
    completion = written("# Title\n\nSome text", ("text", 0.25))
    assert confidence(completion, spans(completion.text, None)) == 0.25


def test_a_token_without_characters_of_its_own_is_part_of_the_character_it_begins() -> None:
    text = '{"answer": "鬱"}'
    ends = (11, 12, 12, 12, 13, 15, 15)
    for place, expected in ((1, 0.9), (2, 0.1), (3, 0.1), (4, 0.1), (5, 0.9), (6, 0.9)):
        probabilities = tuple(0.1 if index == place else 0.9 for index in range(7))
        completion = Completion(text, "stop", token_ends=ends, token_probabilities=probabilities)
        assert of(completion, "answer") == expected


def test_the_engines_own_score_serves_where_there_are_no_tokens() -> None:
    text = '{"answer": "x"}'
    assert of(Completion(text, "stop", confidence=0.7), "answer") == 0.7
    assert of(Completion(text, "stop"), "answer") is None
    assert of(Completion(text, "stop", confidence=math.nan), "answer") is None


def test_without_all_tokens_of_the_answer_nothing_is_claimed() -> None:
    whole = written('{"answer": "x y z"}')
    cut = Completion(whole.text, "stop", token_ends=whole.token_ends[:5], token_probabilities=(0.9,) * 5)
    assert of(cut, "answer") is None
    assert of(whole, "other") is None


def test_a_probability_that_is_none_makes_nothing_sure() -> None:
    completion = Completion("ab", "stop", token_ends=(1, 2), token_probabilities=(0.9, math.nan))
    assert confidence(completion, [(0, 2)]) == 0.0


def test_every_item_of_a_reply_that_is_a_list_counts() -> None:
    text = '[{"a": "sure"}, {"b": "guess"}, 7]'
    assert of(written(text, ("guess", 0.1))) == 0.1
    assert of(written(text, ("7", 0.2))) == 0.2
    assert of(written('"a{b"', ("b", 0.3))) == 0.3
    assert of(written("```json\n7\n```", ("json", 0.1), ("7", 0.4))) == 0.4
