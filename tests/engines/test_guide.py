from __future__ import annotations

import json
from collections.abc import Iterator

import jsonschema
import pytest
from hypothesis import given, settings
from random_schemas import Schema, schemas

from pipeline.asking import schema as asking
from pipeline.config import TaskSettings
from pipeline.engines.vllm.guide import guide
from pipeline.records import Json

SCHEMA: Schema = {
    "type": "object",
    "title": "An invoice",
    "properties": {
        "title": {"type": ["string", "null"], "description": "What it is called."},
        "date": {"type": "string", "format": "date"},
        "code": {"type": "string", "pattern": "^[A-Z]{3}$"},
        "kind": {"enum": ["a", "b", None]},
        "short": {"type": "string", "maxLength": 5},
        "lines": {
            "type": "array",
            "uniqueItems": True,
            "items": {"type": "object", "properties": {"text": {"type": "string"}}},
        },
        "either": {"anyOf": [{"type": "string"}, {"type": "number", "multipleOf": 0.5}]},
    },
    "required": ["title"],
}


def test_whatever_could_go_on_for_ever_has_an_end() -> None:
    bounded = json.loads(guide(SCHEMA, 100))["properties"]
    assert bounded["title"]["maxLength"] == bounded["date"]["maxLength"] == 200
    assert bounded["lines"]["maxItems"] > 0
    assert bounded["lines"]["items"]["properties"]["text"]["maxLength"] == 200
    assert bounded["either"]["anyOf"][0]["maxLength"] == 200
    assert bounded["short"]["maxLength"] == 5
    assert "maxLength" not in bounded["code"]  # its pattern bounds it


def test_what_the_grammar_compiler_refuses_is_left_to_validation() -> None:
    text = guide(SCHEMA, 100)
    for keyword in ("format", "uniqueItems", "multipleOf", "description"):
        assert f'"{keyword}"' not in text
    assert isinstance(SCHEMA["properties"], dict)
    assert set(json.loads(text)["properties"]) == set(SCHEMA["properties"])  # one is named like a keyword


def test_a_valid_short_reply_is_valid_under_the_guide() -> None:
    reply = {"title": "x", "kind": None, "lines": [{"text": "y"}], "either": 1.5, "code": "ABC"}
    for schema in (SCHEMA, json.loads(guide(SCHEMA, 100))):
        jsonschema.validate(reply, schema)


def made(schema: Json) -> Json:
    guided: Json = json.loads(guide({"properties": {"a": schema}}, 100))["properties"]["a"]
    return guided


def walk(schema: Json) -> Iterator[dict[str, Json]]:
    if isinstance(schema, dict):
        yield schema
        for name, value in schema.items():
            if name not in ("enum", "const"):
                yield from walk(value)
    elif isinstance(schema, list):
        for inner in schema:
            yield from walk(inner)


@given(schemas)
@settings(max_examples=200, deadline=None)
def test_under_any_schema_all_that_is_guided_has_an_end_and_nothing_refers(given_schema: Schema) -> None:
    task = TaskSettings(
        name="extract", scope="document", question="?", questions=None, instruction="", schema=given_schema,
        labels=[], answer_field=None, evidence=True, max_output_tokens=10,
    )  # fmt: skip
    envelope = asking.envelope(task)
    assert envelope is not None
    guided = json.loads(guide(envelope, 100))
    for inner in walk(guided):
        kinds = inner.get("type", [])
        assert not {"$ref", "$defs", "oneOf", "allOf", "format", "uniqueItems", "multipleOf"} & inner.keys()
        if inner.get("type") is None or "enum" in inner:
            continue
        if "string" in kinds:  # type: ignore[operator]
            assert "maxLength" in inner or "pattern" in inner
        if "array" in kinds:  # type: ignore[operator]
            assert "maxItems" in inner
        if "object" in kinds:  # type: ignore[operator]
            assert inner["additionalProperties"] is False or "maxProperties" in inner
    fields = envelope["properties"]["answer"]["properties"]  # type: ignore[index,call-overload]
    reply: Json = {"answer": dict.fromkeys(fields), "pages": [], "quote": None}  # type: ignore[arg-type]
    assert jsonschema.Draft202012Validator(guided).is_valid(reply)


@pytest.mark.parametrize(
    ("schema", "guided"),
    [
        # The compiler takes a pattern to describe the whole text, and knows no word bounds.
        ({"type": "string", "pattern": r"\d"}, {"type": "string", "maxLength": 200}),
        ({"type": "string", "pattern": "^a|b$"}, {"type": "string", "maxLength": 200}),
        ({"type": "string", "pattern": r"^\bfoo$"}, {"type": "string", "maxLength": 200}),
        ({"type": "string", "pattern": r"^(a)\1$"}, {"type": "string", "maxLength": 200}),
        ({"type": "string", "pattern": r"^(?!a)\d*$"}, {"type": "string", "maxLength": 200}),
        ({"type": "string", "pattern": r"^\d{4}-\d\d$"}, {"type": "string", "pattern": r"^\d{4}-\d\d$"}),
        ({"type": "string", "minLength": 500}, {"type": "string", "minLength": 500, "maxLength": 500}),
        ({"type": "string", "maxLength": 10**6}, {"type": "string", "maxLength": 200}),
        ({"type": "integer", "minimum": -(10**30)}, {"type": "integer"}),
        ({"type": "integer", "minimum": 0.5}, {"type": "integer"}),
        ({"type": "integer", "minimum": 5, "maximum": 3}, {"type": "integer"}),
        ({"type": "number", "minimum": 0.5}, {"type": "number", "minimum": 0.5}),
        ({"const": {"x": 1}, "type": "object"}, {"const": {"x": 1}}),
        ({"oneOf": [False, {"type": "null"}]}, {"anyOf": [{"type": "null"}]}),
        ({"allOf": [{"minimum": 3}, {"type": "integer"}]}, {"type": "integer"}),
        (
            {
                "type": "object",
                "properties": {"b": {"type": "null"}, "c": False},
                "anyOf": [{"required": ["b"]}],
            },
            {"type": "object", "properties": {"b": {"type": "null"}}, "additionalProperties": False},
        ),
        ({"type": "object", "oneOf": [{"const": 1}]}, {"anyOf": [{"const": 1}]}),
        (
            {"type": "array", "prefixItems": [{"type": "null"}], "items": False, "minItems": 1},
            {
                "type": "array",
                "items": False,
                "prefixItems": [{"type": "null"}],
                "minItems": 1,
                "maxItems": 200,
            },
        ),
    ],
)
def test_what_the_compiler_misreads_is_left_out_or_said_otherwise(schema: Json, guided: Json) -> None:
    assert made(schema) == guided


def test_a_list_may_be_as_long_as_the_task_says() -> None:
    assert made({"type": "array", "items": {"type": "null"}, "maxItems": 190})["maxItems"] == 190  # type: ignore[index,call-overload]
    long = json.loads(guide({"type": "array", "items": {"type": "null"}, "maxItems": 400}, 4096))
    assert long["maxItems"] == 400
    assert made({"type": "array", "minItems": 500})["maxItems"] == 500  # type: ignore[index,call-overload]
