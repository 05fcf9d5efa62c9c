"""Schemas as pydantic and people write them, and values to try on them, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from pipeline.records import Json

Schema = dict[str, Json]
DEFINITIONS = 4

_words = st.sampled_from(["EUR", "USD", "a", "total", "x y", "é"])
_scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 2.0, -1.5]) | _words
values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "kind"]), inner),
    max_leaves=6,
)
"""JSON values, of which many fit the schemas."""

_remarks = st.fixed_dictionaries(
    {}, optional={"title": _words, "description": _words, "default": st.none(), "examples": st.just(["EUR"])}
)


def _with_remarks(schema: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.builds(lambda own, remarks: {**remarks, **own}, schema, _remarks)


_leaves: st.SearchStrategy[Schema] = st.sampled_from(
    [
        {"type": "string"},
        {"type": "string", "format": "date"},
        {"type": "string", "pattern": "^[A-Z]{3}$"},
        {"type": "string", "minLength": 1, "maxLength": 3},
        {"type": "integer"},
        {"type": "integer", "minimum": 0, "exclusiveMaximum": 10**30},
        {"type": "number"},
        {"type": "number", "multipleOf": 0.5},
        {"type": "boolean"},
        {"type": ["string", "null"]},
        {"type": ["integer", "string"]},
        {"enum": ["EUR", "USD"], "type": "string"},
        {"enum": [1, 2.0, "a", None]},
        {"const": "EUR", "type": "string"},
        {"const": 1},
        {"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"}]},
        {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        {"type": "array", "minItems": 2, "maxItems": 2, "prefixItems": [{"type": "integer"}] * 2},
        {},
    ]
)


def _larger(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    named = st.dictionaries(st.sampled_from(["a", "b", "kind"]), inner, min_size=1, max_size=2)
    return st.one_of(
        st.builds(lambda one: {"anyOf": [one, {"type": "null"}]}, inner),
        st.builds(lambda one, two: {"oneOf": [one, two]}, inner, inner),
        st.builds(lambda one: {"allOf": [one]}, inner),
        st.builds(lambda one, two: {"allOf": [one, two]}, inner, inner),
        st.builds(lambda one: {"type": "array", "items": one}, inner),
        st.builds(lambda one: {"type": "object", "additionalProperties": one}, inner),
        st.builds(lambda all_, least: {"type": "object", "properties": all_, **least}, named, _rules),
    )


_rules: st.SearchStrategy[Schema] = st.sampled_from(
    [{}, {"required": ["a"]}, {"additionalProperties": False}, {"minProperties": 1}]
)


def _field(first: int) -> st.SearchStrategy[Schema]:
    """Return schemas that refer to no definition before number `first`, so that none is within itself."""
    refs: list[Schema] = [{"$ref": f"#/$defs/D{number}"} for number in range(first, DEFINITIONS)]
    leaves = _leaves | st.sampled_from(refs) if refs else _leaves
    return _with_remarks(st.recursive(_with_remarks(leaves), _larger, max_leaves=4))


schemas: st.SearchStrategy[Schema] = st.builds(
    lambda definitions, fields: {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {f"D{number}": definition for number, definition in enumerate(definitions)},
        "type": "object",
        "properties": fields,
    },
    st.tuples(*(_field(number + 1) for number in range(DEFINITIONS))),
    st.dictionaries(st.sampled_from(["a", "b", "total", "currency", "key_facts"]), _field(0), min_size=1),
)
"""Schemas of objects whose fields refer to `$defs`, directly and through others."""
