from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_schemas import Schema, schemas

from pipeline.asking import schema as asking
from pipeline.config import TaskSettings
from pipeline.engines.embedded import extract
from pipeline.engines.embedded.lines import lines_of
from pipeline.engines.embedded.numbers import number
from pipeline.reading.language import detect_language
from pipeline.records import Json


def prepared(given_schema: Json) -> Schema:
    """Return a schema as a run hands it to an engine."""
    task = TaskSettings(
        name="extract", scope="document", question="?", questions=None, instruction="", schema=given_schema,
        labels=[], answer_field=None, evidence=True, max_output_tokens=10,
    )  # fmt: skip
    made = asking.schema(task)
    assert made is not None
    return made


def filled(made: Schema, text: str) -> Schema:
    return extract.values(extract.fill(made, {1: lines_of(text)}, detect_language))


def fill(fields: Schema, text: str) -> Schema:
    made = prepared({"type": "object", "properties": fields})
    found = filled(made, text)
    jsonschema.validate(found, made)
    return found


@pytest.mark.parametrize(
    ("text", "number_", "whole"),
    [
        ("1234567890123456789012", 1234567890123456789012, 1234567890123456789012),
        ("-7", -7, -7),
        ("\u22127.5 °C", -7.5, None),
        ("-$5", -5, -5),
        ("1,234.50", 1234.5, None),
        ("1.234,50 €", 1234.5, None),
        ("1'234'567.25", 1234567.25, None),
        ("1\u202f234\u202f567", 1234567, 1234567),
        ("1.234.567", 1234567, 1234567),
        ("12,5", 12.5, None),
        ("5.00", 5.0, 5),
        ("0.125", 0.125, None),
        ("EUR 4,812.50 in all", 4812.5, None),
        ("1.234", None, None),  # one thousand and more to some, one and a little to others
        ("1234 5678 9012", None, None),
        ("01.05.2024", None, None),
        ("2024-05-01", None, None),
        ("1/2", None, None),
        ("10-20", None, None),
        ("10 – 20", None, None),
        ("(1,234.50)", None, None),
        ("1.2 million", None, None),
        ("INV2024", None, None),
        ("0.12345678901234567890123", None, None),  # no float is this number
        ("9" * 5000, None, None),
        ("none", None, None),
    ],
)
def test_a_number_is_read_exactly_or_not_at_all(text: str, number_: float | None, whole: int | None) -> None:
    assert number(text, whole=False) == number_
    found = number(text, whole=True)
    assert found == whole
    assert found is None or isinstance(found, int)


@given(st.integers(-(10**40), 10**40), st.sampled_from(["integer", "number"]))
@settings(deadline=None)
def test_a_whole_number_of_any_size_keeps_every_digit(value: int, kind: str) -> None:
    found = fill({"account_number": {"type": kind}}, f"Account number: {value}\n")
    assert json.dumps(found) == json.dumps({"account_number": value})


@given(st.text(alphabet="0123456789.,'- ()€/:kM\u00a0\u2212"))
@settings(max_examples=500, deadline=None)
def test_any_text_is_a_number_or_none(text: str) -> None:
    for whole in (True, False):
        found = number(text, whole=whole)
        assert found is None or not whole or isinstance(found, int)


@pytest.mark.parametrize(
    ("field", "line", "value"),
    [
        ("total", "Total: 5", "5"),
        ("total", "TOTAL : 5", "5"),
        ("total", "Total Qty: 5", None),
        ("total", "Sub total: 5", None),
        ("total_amount", "Total: 5", None),
        ("totalAmount", "Total amount: 5", "5"),
        ("invoice_number", "Invoice No.: 5", "5"),
        ("invoice_number", "Invoice: 5", "5"),
        ("customer", "Customer name: A", "A"),
        ("customer_name", "Customer number: 5", None),
        ("name", "Number: 5", None),
        ("name", "Name: A", "A"),
        ("金額", "金額：5", "5"),
    ],
)
def test_a_label_is_a_fields_only_as_a_whole(field: str, line: str, value: str | None) -> None:
    assert fill({field: {"type": "string"}}, f"Some words\n{line}\n") == {field: value}


def test_a_label_of_all_the_words_is_preferred_to_one_that_lacks_some() -> None:
    assert fill({"invoice_number": {}}, "Invoice: March\nInvoice number: 17") == {"invoice_number": "17"}


def test_the_title_of_a_field_is_its_label_too() -> None:
    assert fill({"vat": {"type": "string", "title": "USt-IdNr."}}, "USt-IdNr.: DE1") == {"vat": "DE1"}


@pytest.mark.parametrize(
    ("spec", "text", "value"),
    [
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "Total: 12", 12),
        (
            {"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^\d+$"}]},
            "Total: 4,812.50 EUR",
            4812.5,
        ),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}]}, "Total: 1.5", 1.5),
        ({"type": "integer"}, "Total: 1.5", None),
        ({"type": "number", "minimum": 10}, "Total: 5", None),
        ({"type": "string", "pattern": "^[A-Z]{3}$"}, "Total: EUR", "EUR"),
        ({"type": "string", "pattern": "^[A-Z]{3}$"}, "Total: EUR 5", None),
        ({"type": "string", "maxLength": 3}, "Total: too long", None),
        ({"enum": ["EUR", "USD"]}, "USD USD USD\nTotal: EUR", "EUR"),
        ({"enum": [1, 2]}, "Total: 2", 2),
        ({"enum": [1, 2]}, "Total: 3", None),
        ({"const": "EUR"}, "in EUR", "EUR"),
        ({"const": "EUR"}, "in dollars", None),
        ({"type": "boolean"}, "Total: 1", None),
        ({"type": "object", "properties": {"name": {"type": "string"}}}, "Total: 1", None),
        ({"anyOf": [{"type": "object"}, {"type": "null"}]}, "Total: 1", None),
        ({"type": "array", "items": {"type": "number"}}, "Total: 1", None),
        (False, "Total: 1", None),
    ],
)
def test_a_field_is_valid_under_its_schema_or_null(spec: Json, text: str, value: Json) -> None:
    assert fill({"total": spec}, text) == {"total": value}


@pytest.mark.parametrize("name", ["title", "language", "summary"])
def test_the_named_fields_keep_to_their_schema(name: str) -> None:
    prose = "The history of the project is told here in a few sentences. It began in 1993 with a note."
    assert fill({name: {"type": "string"}}, prose)[name]
    assert fill({name: {"anyOf": [{"type": "string", "pattern": "^x"}, {"type": "null"}]}}, prose) == {
        name: None
    }


def test_facts_may_be_bare_sentences() -> None:
    prose = "The history of the project began in 1993 with a long note to a news group."
    assert fill({"key_facts": {"type": "array", "items": {"type": "string"}}}, prose) == {
        "key_facts": [prose]
    }


def test_fields_that_their_schema_forbids_together_are_all_null() -> None:
    rule: dict[str, Json] = {
        "if": {"properties": {"a": {"type": "string"}}},
        "then": {"properties": {"b": {"type": "string"}}},
    }
    made = prepared({"properties": {"a": {}, "b": {}}, **rule})
    assert filled(made, "A: 1") == {"a": None, "b": None}
    made = prepared({"properties": {"aa": {}, "b": {}}})
    assert filled(made, "aa: 1") == {"aa": "1", "b": None}


_lines = st.lists(
    st.sampled_from(
        ["a: 1", "b: EUR", "total: 1.5", "currency: USD", "a: x", "It was 1993 in 24 sentences of prose."]
    )
).map("\n".join)


@given(schemas, _lines, _lines)
@settings(max_examples=300, deadline=None)
def test_whatever_the_schema_what_is_filled_in_and_merged_is_valid(
    given_schema: Schema, first: str, second: str
) -> None:
    made = prepared(given_schema)
    parts = [extract.fill(made, {1: lines_of(text)}, detect_language) for text in (first, second)]
    for found in map(extract.values, (*parts, extract.combine(parts, made))):
        jsonschema.Draft202012Validator(made).validate(found)
        assert found.keys() == made["properties"].keys()  # type: ignore[union-attr]
