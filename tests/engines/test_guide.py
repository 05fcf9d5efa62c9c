from __future__ import annotations

import json

import jsonschema

from pipeline.engines.vllm.guide import guide

SCHEMA = {
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
    assert set(json.loads(text)["properties"]) == set(SCHEMA["properties"])  # one is named like a keyword


def test_a_valid_short_reply_is_valid_under_the_guide() -> None:
    reply = {"title": "x", "kind": None, "lines": [{"text": "y"}], "either": 1.5, "code": "ABC"}
    for schema in (SCHEMA, json.loads(guide(SCHEMA, 100))):
        jsonschema.validate(reply, schema)
