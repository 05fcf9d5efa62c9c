"""The fields of a structured answer: each may be null, and each has a column of one kind."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

import jsonschema

from pipeline.records import Json

# JSON schema's `number` covers integers. Kept apart here, so that a field that is never a fraction gets an
# integer column, whichever way its schema says so.
_TYPES = frozenset(("string", "integer", "fraction", "boolean", "array", "object"))
_NUMBER = frozenset(("integer", "fraction"))
_KINDS = {
    frozenset(("integer",)): "integer",
    frozenset(("fraction",)): "number",
    _NUMBER: "number",
    frozenset(("boolean",)): "boolean",
}
_REMARKS = ("title", "description", "examples")
_LONGEST_NAME = 200


def nullable(field: Json) -> Json:
    """Return a field's schema with null allowed as well."""
    if field is False:
        return {"type": "null"}
    if not isinstance(field, dict) or _takes_null(field):
        return field
    simple = dict(field)
    # `const` cannot be widened by null, an enumeration can.
    if "const" in simple and "enum" not in simple:
        simple["enum"] = [simple.pop("const")]
    kinds, values, options = (simple.get(name) for name in ("type", "enum", "anyOf"))
    if kinds is not None:
        simple["type"] = [*(kinds if isinstance(kinds, list) else [kinds]), "null"]
    if isinstance(values, list):
        simple["enum"] = [*values, None]
    if isinstance(options, list):
        simple["anyOf"] = [*options, {"type": "null"}]
    # Plain keywords where they do: models and guided decoding do better with them than with `anyOf`.
    if _takes_null(simple):
        return simple
    remarks = {name: field[name] for name in _REMARKS if name in field}
    rest = {name: value for name, value in field.items() if name not in remarks}
    return {**remarks, "anyOf": [rest, {"type": "null"}]}


def kind(field: Json) -> str:
    """Return the kind of a field's column: string, integer, number, boolean, strings or numbers.

    What has no flat kind (objects, lists of objects, values of several types) is `string`: its JSON text.
    """
    types = _types(field)
    if types != {"array"}:
        return _KINDS.get(types, "string")
    items = _item_types(field)
    if items == {"string"}:
        return "strings"
    return "numbers" if items and items <= _NUMBER else "string"


def check_names(names: Sequence[str]) -> None:
    """Raise ValueError for a field whose name cannot be that of a column."""
    seen: dict[str, str] = {}
    for name in names:
        if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
            raise ValueError(
                f"has a field named {name[:60]!r}, which cannot be the name of a column: rename it"
            )
        # Two that look alike would be two columns which nobody can tell apart.
        other = seen.setdefault(unicodedata.normalize("NFC", name), name)
        if other != name:
            raise ValueError(f"has two fields that both read {name!r}: rename one")


def _takes_null(field: Mapping[str, Json]) -> bool:
    return bool(jsonschema.Draft202012Validator(dict(field)).is_valid(None))


def _types(schema: Json) -> frozenset[str]:
    """Return the types that a value can have, null apart; a number is an `integer` or a `fraction`."""
    if not isinstance(schema, dict):
        return _TYPES if schema is True else frozenset()
    possible = _TYPES
    if "type" in schema:
        possible &= _named(schema["type"])
    if "const" in schema:
        possible &= _of_values([schema["const"]])
    if isinstance(values := schema.get("enum"), list):
        possible &= _of_values(values)
    for name in ("anyOf", "oneOf"):
        if isinstance(options := schema.get(name), list):
            possible &= frozenset().union(*map(_types, options))
    for member in _list(schema.get("allOf")):
        possible &= _types(member)
    return possible


def _named(types: Json) -> frozenset[str]:
    names = {str(name) for name in (types if isinstance(types, list) else [types])}
    return _TYPES & (names | _NUMBER if "number" in names else names)


def _of_values(values: Sequence[Json]) -> frozenset[str]:
    return frozenset().union(*map(_of_value, values))


def _of_value(value: Json) -> frozenset[str]:
    if value is None:
        return frozenset()
    # First: True is an int to Python.
    if isinstance(value, bool):
        return frozenset(("boolean",))
    if isinstance(value, float):
        return _NUMBER if value.is_integer() else _NUMBER - {"integer"}
    for name, held in (("integer", int), ("string", str), ("array", list)):
        if isinstance(value, held):
            return frozenset((name,))
    return frozenset(("object",))


def _item_types(schema: Json) -> frozenset[str]:
    """Return the types that the items of a list can have, null apart."""
    if not isinstance(schema, dict):
        return _TYPES
    possible = _TYPES
    if isinstance(values := schema.get("enum", [schema["const"]] if "const" in schema else None), list):
        possible &= _of_values([item for value in values for item in _list(value)])
    if "items" in schema or "prefixItems" in schema:
        first = _list(schema.get("prefixItems"))
        most = schema.get("maxItems")
        closed = isinstance(most, int) and most <= len(first)
        rest = frozenset() if closed else _types(schema.get("items", True))
        possible &= rest.union(*map(_types, first))
    for name in ("anyOf", "oneOf"):
        if isinstance(options := schema.get(name), list):
            lists = [option for option in options if "array" in _types(option)]
            possible &= frozenset().union(*map(_item_types, lists))
    for member in _list(schema.get("allOf")):
        possible &= _item_types(member)
    return possible


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
