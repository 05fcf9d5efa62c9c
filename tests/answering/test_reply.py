"""Whatever an engine writes becomes values of ours or a problem with a sentence, and never an error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.answering.fit import Form, fit
from pipeline.answering.parse import LONGEST_REPLY_CHARS, Parsed, Problem, parse
from pipeline.answering.reply import Reader, Reply
from pipeline.records import Json


def fields(kinds: dict[str, str], text: str, **schema: Any) -> Reply | Problem:
    form = Form({"type": "object", "properties": {name: {} for name in kinds}, **schema})
    return Reader(form, False, None, kinds).read(text, {1})


def envelope(text: str, pages: set[int]) -> Reply:
    form = Form({"type": "object", "required": ["answer", "pages", "quote"]})
    reply = Reader(form, True, None, {}).read(text, pages)
    assert isinstance(reply, Reply)
    return reply


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1}', ' \n{"a": 1}\t\r\n', '\ufeff{"a": 1}', '```json\n{"a": 1}\n```', '```\n{"a": 1}```\n',
        '```JSON\r\n{"a": 1}\r\n```', '{"a": 0, "a": 1}',
    ],
)  # fmt: skip
def test_one_json_value_is_taken_whatever_white_space_or_fence_is_around_the_whole(text: str) -> None:
    assert parse(text) == Parsed({"a": 1})


@pytest.mark.parametrize(
    "text",
    [
        "", "```", "``````", "```json", 'Here it is: {"a": 1}', '{"a": 1} {"a": 2}', '{"a": 1}.',
        '```python\n{"a": 1}\n```', '```json\n{"a": 1}\n``` as asked', "{'a': 1}", '{"a": "half', '{"a": 1,}',
        '{"a": NaN}', "[Infinity]", "-Infinity", '{"a": 1e400}', '{"a": -1e99999999999999999999}',
        '{"a": 1e-400}', "9" * 401, "9" * 5000, "1." + "9" * 5000 + "e400", "12345678901234567890.5",
        "9007199254740993.0", "[" * 65 + "]" * 65, "[" * 100_000, '{"a":' * 100_000, '"\\' * 100_000,
        '["' + "x" * LONGEST_REPLY_CHARS + '"]', "\x00", '"a\nb"', '{"a": "\\x"}',
    ],
)  # fmt: skip
def test_what_is_not_one_json_value_within_bounds_is_a_problem_with_a_reason(text: str) -> None:
    problem = parse(text)
    assert isinstance(problem, Problem)
    assert problem.reason and len(problem.reason) < 300


def test_brackets_in_strings_are_not_nesting() -> None:
    assert isinstance(parse(json.dumps("[{" * 1000)), Parsed)
    assert isinstance(parse("[" * 64 + "]" * 64), Parsed)


def test_halves_of_surrogate_pairs_are_cleaned_in_values_and_keys() -> None:
    assert parse('{"\\ud800": ["\\udc00", "\\ud83d\\ude00"]}') == Parsed({"\ufffd": ["\ufffd", "\U0001f600"]})
    assert parse('["\udc80"]') == Parsed(["\ufffd"])


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("integer", "7", 7), ("integer", "7.0", 7), ("integer", "-0.0", 0), ("integer", "1e3", 1000),
        ("integer", str(2**63 - 1), 2**63 - 1), ("integer", str(-(2**63)), -(2**63)),
        ("integer", "1.23456789012345e18", 1234567890123450000), ("integer", "null", None),
        ("number", "0.1", 0.1), ("number", "5", 5),
        ("number", str(2**53), 2**53), ("number", str(2**60), 2.0**60),
        ("numbers", f"[{2**54}, 1]", [2.0**54, 1]),
        ("number", "6.02214076e23", 6.02214076e23), ("number", "null", None),
        ("boolean", "false", False), ("string", '{"x": [1, null]}', {"x": [1, None]}),
        ("strings", '["a", null]', ["a", None]), ("strings", "[]", []),
        ("numbers", "[1, null, 2.5]", [1, None, 2.5]),
    ],
)  # fmt: skip
def test_values_that_fit_their_column_are_kept_to_the_digit(kind: str, text: str, value: object) -> None:
    reply = fields({"a": kind}, f'{{"a": {text}}}')
    assert isinstance(reply, Reply) and reply.fields is not None
    assert reply.fields["a"] == value
    assert type(reply.fields["a"]) is type(value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("integer", str(2**63)), ("integer", str(-(2**63) - 1)), ("integer", "1" * 22), ("integer", "1e19"),
        ("integer", "1.5"), ("integer", "true"), ("integer", '"7"'), ("integer", "[7]"),
        ("number", str(2**53 + 1)), ("number", "1" * 22), ("number", "9" * 400), ("number", "true"),
        ("number", '"1.5"'), ("numbers", f"[1, {2**53 + 1}]"), ("numbers", "[1, true]"), ("numbers", "5"),
        ("numbers", '["1"]'), ("numbers", "[[1]]"), ("strings", "[1]"), ("strings", '"a"'),
        ("strings", '[["a"]]'), ("boolean", "1"), ("boolean", '"true"'),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_their_column_are_a_problem_that_names_the_field(kind: str, text: str) -> None:
    problem = fields({"a": kind}, f'{{"a": {text}}}')
    assert isinstance(problem, Problem)
    assert problem.reason.startswith("a: ")


def test_a_field_that_is_missing_and_one_without_a_column_are_no_problem() -> None:
    reply = fields({"a": "integer"}, '{"b": 5}')
    assert isinstance(reply, Reply)
    assert reply.fields == {"b": 5}


@pytest.mark.parametrize("text", ["5", "[1]", '"x"', "true"])
def test_a_structured_answer_that_is_no_object_is_a_problem(text: str) -> None:
    form = Form({"properties": {"a": {}}})
    assert isinstance(Reader(form, False, None, {"a": "string"}).read(text, set()), Problem)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"multipleOf": 0.01}, 10**390),
        ({"multipleOf": 1e-300}, 1e300),
        ({"$ref": "#"}, 1),
        ({"$ref": "#/$defs/nowhere"}, 1),
        ({"$ref": "https://example.org/schema.json"}, 1),
        ({"pattern": "("}, "x"),
        ({"pattern": "(a"}, "x"),
        ({"type": "nonsense"}, 1),
        ({"minLength": "three"}, "x"),
    ],
)
def test_whatever_checking_a_schema_raises_is_a_problem(schema: dict[str, Any], value: Any) -> None:
    problem = Form(schema).problem(value)
    assert problem is None or len(problem.reason) <= 200


def test_schemas_with_definitions_and_alternatives_are_checked() -> None:
    form = Form(
        {
            "type": "object",
            "properties": {"line": {"anyOf": [{"$ref": "#/$defs/Line"}, {"type": "null"}]}},
            "$defs": {
                "Line": {"type": "object", "properties": {"sum": {"type": "number"}}, "required": ["sum"]}
            },
        }
    )
    assert form.problem({"line": {"sum": 1}}) is None
    assert form.problem({"line": None}) is None
    assert form.problem({"line": {}}) is not None


def test_unique_items_are_those_that_json_calls_unequal_and_a_long_list_takes_no_time() -> None:
    form = Form({"uniqueItems": True})
    assert form.problem([1, True, "1", [1], {"a": 1}, None]) is None
    pairs: list[Json] = [[1, 1.0], [{"a": 1, "b": 2}, {"b": 2, "a": 1}], [[1, "a"], [1, "a"]], [None, None]]
    for twice in pairs:
        assert form.problem(twice) is not None
    assert form.problem([i if i % 2 else f"{i}" for i in range(200_000)]) is None


def test_pages_are_the_envelopes_own_and_those_that_there_are() -> None:
    reply = envelope(
        '{"answer": "x", "pages": [3, 2, 3, 2.0, true, "1", 1.5, null], "quote": "q"}', {2, 3, 4}
    )
    assert (reply.pages, reply.names_other_pages, reply.quote) == ((2, 3), False, "q")
    for other in ("0", "-1", "5", "1" * 300, "1e300"):
        reply = envelope(f'{{"answer": "x", "pages": [2, {other}], "quote": null}}', {2, 3, 4})
        assert (reply.pages, reply.names_other_pages) == ((2,), True)
    reply = envelope('{"answer": {"page": 2, "pages": [3]}, "pages": [], "quote": null}', {2, 3})
    assert reply.pages == ()


def test_at_most_thirty_pages_are_named() -> None:
    named = list(range(1, 100))
    assert len(envelope(json.dumps({"answer": "x", "pages": named, "quote": None}), set(named)).pages) == 30


def test_without_an_answer_quote_and_pages_do_not_matter() -> None:
    assert envelope('{"answer": null, "pages": [99], "quote": "invented"}', {1}) == Reply(None)


@pytest.mark.parametrize("kind", ["string", "integer", "number", "boolean", "strings", "numbers"])
def test_null_fits_every_column(kind: str) -> None:
    assert fit(None, kind) is None
