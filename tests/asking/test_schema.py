from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from random_schemas import Schema, schemas, values

from pipeline.asking import schema
from pipeline.config import TaskSettings
from pipeline.errors import SettingsError
from pipeline.records import Json


class Currency(Enum):
    EUR = "EUR"
    USD = "USD"


class Party(BaseModel):
    name: str
    vat: str | None = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    bark: str


class Contract(BaseModel):
    supplier: str = Field(description="Who delivers.")
    currency: Currency
    second_currency: Currency | None = None
    party: Party | None = None
    parties: list[Party]
    amount: Decimal
    total: float
    count: int | None = None
    ratio: int | float | None = None
    signed: dt.date
    at: dt.datetime | None = None
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    pair: tuple[float, float]
    mixed: tuple[int, str]
    tags: list[str] = []
    years: list[int] | None = None
    rates: dict[str, float]
    paid: bool = False
    version: Literal["a"]
    level: Literal[1, 2]
    either: int | str
    note: Any = None


def task(given: object, name: str = "extract") -> TaskSettings:
    return TaskSettings(
        name=name, scope="document", question="?", questions=None, instruction="", schema=given, labels=[],
        answer_field=None, evidence=True, max_output_tokens=10,
    )  # fmt: skip


def names_in(value: Json) -> Iterator[str]:
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
        yield from names_in(inner)
    yield from value if isinstance(value, dict) else []


def properties(given: object) -> dict[str, Json]:
    made = schema.schema(task(given))
    assert made is not None
    assert isinstance(made["properties"], dict)
    return made["properties"]


def test_a_pydantic_model_becomes_a_schema_that_stands_alone() -> None:
    made = schema.envelope(task(Contract.model_json_schema()))
    assert made is not None
    jsonschema.Draft202012Validator.check_schema(made)
    assert not {"$ref", "$defs", "discriminator", "default"} & set(names_in(made))
    stated = {
        "supplier": "A", "currency": "EUR", "party": {"name": "B"}, "parties": [{"name": "C"}],
        "amount": "1.5", "total": 2, "signed": "2026-03-01", "pet": {"kind": "cat", "lives": 9},
        "pair": [1, 2.5], "mixed": [1, "x"], "rates": {"a": 1}, "version": "a", "level": 2, "either": 1,
        "note": [{}],
    }  # fmt: skip
    validator = jsonschema.Draft202012Validator(made)
    rest = {"pages": [1], "quote": None}
    assert validator.is_valid({"answer": stated, **rest})
    assert validator.is_valid({"answer": dict.fromkeys(Contract.model_fields), **rest})
    for name, wrong in {
        "currency": "GBP",
        "party": {},
        "pet": {"kind": "dog", "lives": 9},
        "level": 3,
    }.items():
        assert not validator.is_valid({"answer": {**stated, name: wrong}, **rest}), name


def test_the_columns_of_a_pydantic_model_have_its_types() -> None:
    kinds = schema.field_kinds(task(Contract.model_json_schema()))
    assert {name: kind for name, kind in kinds.items() if kind != "string"} == {
        "total": "number", "count": "integer", "ratio": "number", "pair": "numbers", "tags": "strings",
        "years": "numbers", "paid": "boolean", "level": "integer",
    }  # fmt: skip
    assert set(kinds) == set(Contract.model_fields)


def test_definitions_are_found_though_the_answer_lies_within_an_envelope() -> None:
    made = schema.envelope(task(SCHEMA_DEFS))
    assert made is not None
    reply: Json = {"answer": {"supplier": "A", "currency": "EUR", "party": None}, "pages": [], "quote": None}
    jsonschema.Draft202012Validator(made).validate(reply)


SCHEMA_DEFS: Schema = {
    "$defs": {
        "Currency": {"enum": ["EUR", "USD"], "type": "string", "title": "Currency"},
        "Party": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    },
    "type": "object",
    "title": "Contract",
    "properties": {
        "supplier": {"type": "string"},
        "currency": {"$ref": "#/$defs/Currency"},
        "party": {"anyOf": [{"$ref": "#/$defs/Party"}, {"type": "null"}], "default": None},
    },
    "required": ["supplier", "currency"],
}


@given(schemas)
@settings(max_examples=300, deadline=None)
def test_any_schema_with_definitions_stands_alone_in_its_envelope_and_takes_null(
    given_schema: Schema,
) -> None:
    made = schema.envelope(task(given_schema))
    assert made is not None
    jsonschema.Draft202012Validator.check_schema(made)
    assert "$ref" not in set(names_in(made))
    fields = given_schema["properties"]
    assert isinstance(fields, dict)
    reply: Json = {"answer": dict.fromkeys(fields), "pages": [], "quote": None}
    assert jsonschema.Draft202012Validator(made).is_valid(reply)


@given(schemas, st.lists(values, min_size=1, max_size=5))
@settings(max_examples=300, deadline=None)
def test_written_out_a_field_takes_the_same_values_and_null(given_schema: Schema, tried: list[Json]) -> None:
    kinds = schema.field_kinds(task(given_schema))
    for name, made in properties(given_schema).items():
        assert isinstance(given_schema["properties"], dict)
        assert isinstance(made, dict | bool)
        original: dict[str, Json] | bool = {
            "$defs": given_schema["$defs"],
            "allOf": [given_schema["properties"][name]],
        }
        before, after = (jsonschema.Draft202012Validator(each) for each in (original, made))
        for value in tried:
            assert after.is_valid(value) == (value is None or before.is_valid(value))
            if value is not None and after.is_valid(value):
                assert fits(value, kinds[name]), (value, kinds[name], made)


def fits(value: Json, kind: str) -> bool:
    """Tell whether a column of that kind can hold a value."""
    if kind in ("strings", "numbers"):
        items = [item for item in value if item is not None] if isinstance(value, list) else [{}]
        return all(fits(item, "text" if kind == "strings" else "number") for item in items)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "integer":
        return fits(value, "number") and value == int(value)  # type: ignore[arg-type]
    return isinstance(value, bool) if kind == "boolean" else kind == "string" or isinstance(value, str)


def chain_of(length: int) -> Schema:
    links: Schema = {
        f"d{n}": {"properties": {side: {"$ref": f"#/$defs/d{n + 1}"} for side in "ab"}} for n in range(length)
    }
    return {"$defs": {**links, f"d{length}": {}}, "properties": {"a": {"$ref": "#/$defs/d0"}}}


def nested(levels: int, keyword: str) -> Json:
    inner: Json = {"type": "string"}
    for _ in range(levels):
        inner = (
            {"type": "object", "properties": {"a": inner}} if keyword == "properties" else {keyword: inner}
        )
    return {"properties": {"a": inner}}


class Node(BaseModel):
    value: int
    children: list[Node] = []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"properties": {"node": {"$ref": "#/$defs/Node"}}, **Node.model_json_schema()}, "has no end"),
        ({"properties": {"a": {"$ref": "#"}}}, "has no end"),
        ({"properties": {"a": {"$ref": "#/properties/a"}}}, "has no end"),
        ({"properties": {"a": {"$ref": "https://example.com/a.json"}}}, "only parts of the schema itself"),
        ({"properties": {"a": {"$ref": "other.json#/a"}}}, "only parts of the schema itself"),
        ({"properties": {"a": {"$ref": "#/$defs/No"}}}, "has no such part"),
        ({"type": "object", "properties": {"a": {"$ref": "#/type"}}}, "is invalid at"),
        ({"properties": {"a": {"$dynamicRef": "#a"}}}, "write \\$ref"),
        (chain_of(15), "longer than 64 KiB"),
        (chain_of(40), "nested deeper"),
        (nested(30, "properties"), "nested deeper"),
        (nested(400, "not"), "nested deeper"),
        ({"properties": {"a": {"description": "x" * 70_000}}}, "longer than 64 KiB"),
        ({"properties": {" ": {}}}, "cannot be the name of a column"),
        ({"properties": {"a\nb": {}}}, "cannot be the name of a column"),
        ({"properties": {"\u00e9": {}, "e\u0301": {}}}, "two fields"),
        ({"properties": {True: {}}}, "put it in quotes"),
        ({"properties": {"a": {"const": float("nan")}}}, "JSON cannot hold"),
        ({"properties": {"a": {"pattern": "("}}}, "is invalid at properties.a.pattern"),
        ({"properties": {"a": {}}, "required": ["b"]}, "every field is null .required: 'b'"),
        ({"properties": {"a": {}}, "patternProperties": {"^a": {"type": "string"}}}, "every field is null"),
        ({"type": "array", "properties": {"a": {}}}, "must be an object"),
        ({"oneOf": [{"properties": {"a": {}}}]}, "must be an object with properties"),
        ([], "must be an object with properties"),
    ],
)
def test_a_schema_that_cannot_work_is_refused_in_one_line(given: object, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as refused:
        schema.envelope(task(given))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 700


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("s.json", '{"properties": {"a": {}, "a": {}}}', "'a' is given twice"),
        ("s.json", "{", "cannot be read"),
        ("s.json", "[" * 100_000, "cannot be read"),
        ("s.json", '{"properties": {"a": {"maximum": 1' + "0" * 5000 + "}}}", "cannot be read"),
        ("s.yaml", "a: [", "cannot be read"),
        ("s.yaml", "properties: &a {x: *a}", "nested deeper"),
        ("s.json", " " * 2_000_000, "is larger than"),
        (".", "", "no such file"),
    ],
)
def test_a_file_that_is_no_schema_is_refused_in_one_line(
    tmp_path: Path, name: str, text: str, says: str
) -> None:
    if name != ".":
        (tmp_path / name).write_text(text)
    with pytest.raises(SettingsError, match=says) as refused:
        schema.schema(task(str(tmp_path / name)))
    assert "\n" not in str(refused.value)


@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
@settings(max_examples=300, deadline=None)
def test_any_file_as_a_schema_is_read_or_refused_in_one_line(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for name in ("s.json", "s.yaml"):
            (Path(folder) / name).write_bytes(data)
            try:
                schema.envelope(task(str(Path(folder) / name)))
            except SettingsError as error:
                assert "\n" not in str(error)


def test_a_schema_may_be_a_json_or_a_yaml_file_or_a_mapping(tmp_path: Path) -> None:
    given: Schema = {
        "type": "object",
        "properties": {"year": {"const": 2024}, "day": {"enum": ["2024-05-01"]}},
    }
    (tmp_path / "s.json").write_text(json.dumps(given), encoding="utf-8-sig")
    (tmp_path / "s.yaml").write_text("properties: {year: {const: 2024}, day: {enum: [2024-05-01]}}\n")
    made = schema.schema(task(given))
    assert schema.schema(task(str(tmp_path / "s.json"))) == made
    assert schema.schema(task(str(tmp_path / "s.yaml"))) == made


def test_what_looks_like_a_reference_in_data_is_none() -> None:
    made = properties(
        {
            "properties": {
                "$ref": {"type": "string"},
                "a": {"enum": [{"$ref": "#/no"}]},
                "b": {"x-b": {"$ref": "#"}},
            }
        }
    )
    assert made["$ref"] == {"type": ["string", "null"]}
    assert made["a"] == {"enum": [{"$ref": "#/no"}, None]}
    assert made["b"] == {}


def test_parents_of_a_model_are_joined_where_that_changes_nothing() -> None:
    made = schema.schema(
        task(
            {
                "$defs": {"Base": {"type": "object", "properties": {"a": {}}, "required": ["a"]}},
                "allOf": [{"$ref": "#/$defs/Base"}],
                "properties": {"b": {"type": "integer"}},
                "required": ["b"],
            }
        )
    )
    assert made == {
        "type": "object", "properties": {"a": {}, "b": {"type": ["integer", "null"]}}, "required": ["a", "b"],
    }  # fmt: skip
    closed = {"allOf": [{"additionalProperties": False}], "properties": {"b": {}}}
    with pytest.raises(SettingsError, match="every field is null"):
        schema.schema(task(closed))


def test_a_reply_that_is_no_object_is_not_valid_for_want_of_a_type() -> None:
    made = schema.schema(task({"properties": {"a": {"type": "string"}}}))
    assert made is not None
    assert not jsonschema.Draft202012Validator(made).is_valid("text")


def test_of_a_reference_the_fields_own_description_counts_and_no_title_of_the_type() -> None:
    made = properties(
        {
            "$defs": {"C": {"enum": ["EUR"], "title": "Currency", "description": "A code."}},
            "properties": {"of_loan": {"$ref": "#/$defs/C", "description": "Of the loan."}},
        }
    )
    assert made["of_loan"] == {"enum": ["EUR", None], "description": "Of the loan."}
