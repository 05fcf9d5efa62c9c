"""Guide structured replies: the schema that the decoder is held to."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from pipeline.records import Json

# What the grammar compiler knows, by type; it refuses or misreads the rest, which is left to validation.
_KNOWN = {
    "object": ("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("pattern", "minLength", "maxLength"),
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    "boolean": (),
    "null": (),
}
_MOST_ITEMS = 200
_MOST_BOUND = 2**63 - 1
# From end to end: the compiler takes any pattern to describe the whole text, which others do not.
_WHOLE = re.compile(
    r"\^(?:\\[dDwWsS.+*?()\[\]{}/^$|\\-]|\[\^?(?:\\[dwsDWS.\-\]\\/]|[^\\\[\]])+\]|[^\\\[\]|^$])*\$"
)
_ODD = re.compile(r"\(\?(?!:)|\{\d*,?\d{4}")


def guide(schema: Mapping[str, Json], max_tokens: int) -> str:
    """Return the schema to guide replies with: bounded, and without what the grammar compiler refuses.

    A string or an array without an end can fill the whole reply; a bound lets it close. Replies are validated
    against the full schema afterwards, so keywords left out here are not lost.
    """
    return json.dumps(_Guide(2 * max_tokens).of(dict(schema)))


class _Guide:
    """Narrows schemas; what they still allow can be said within a number of characters."""

    def __init__(self, characters: int) -> None:
        self._characters = characters

    def of(self, schema: Json) -> Json:
        """Return one schema within the whole."""
        if not isinstance(schema, dict):
            return self._anything()
        # A list of values is a bound already; other keywords beside it could only confuse the compiler.
        for name in ("const", "enum"):
            if name in schema:
                return {name: schema[name]}
        if not (types := _types(schema)):
            return self._choice(schema)
        guided: dict[str, Json] = {"type": types if len(types) > 1 else types[0]}
        for kind in types:
            guided.update((name, schema[name]) for name in _KNOWN[str(kind)] if name in schema)
        if "object" in types:
            self._bound_object(guided)
        if "array" in types:
            self._bound_array(guided)
        if "string" in types:
            self._bound_string(guided)
        if "integer" in types or "number" in types:
            _bound_number(guided, whole="integer" in types)
        return guided

    def _choice(self, schema: dict[str, Json]) -> Json:
        for name in ("anyOf", "oneOf"):
            if isinstance(options := schema.get(name), list):
                possible = [self.of(option) for option in options if option is not False]
                return {"anyOf": possible} if possible else {"type": "null"}
        members = schema.get("allOf")
        named = (
            [member for member in members if isinstance(member, dict)] if isinstance(members, list) else []
        )
        return self.of(max(named, key=lambda member: "type" in member)) if named else self._anything()

    def _anything(self) -> Json:
        """Allow any value that has an end: no lists and objects within those."""
        text: Json = {"type": "string", "maxLength": self._characters}
        flat: list[Json] = [text, {"type": "number"}, {"type": "boolean"}, {"type": "null"}]
        items: Json = {"type": "array", "items": {"anyOf": flat}, "maxItems": _MOST_ITEMS}
        named: Json = {
            "type": "object", "additionalProperties": {"anyOf": flat}, "maxProperties": _MOST_ITEMS,
        }  # fmt: skip
        return {"anyOf": [*flat, items, named]}

    def _bound_object(self, guided: dict[str, Json]) -> None:
        properties = guided.get("properties")
        if isinstance(properties, dict):
            possible = {name: inner for name, inner in properties.items() if inner is not False}
            guided["properties"] = {name: self.of(inner) for name, inner in possible.items()}
        # Without a word about others, the compiler takes the named properties to be all there are.
        others = guided.get("additionalProperties", not properties)
        guided["additionalProperties"] = self.of(others) if others is not False else False
        if others is not False:
            named = len(properties) if isinstance(properties, dict) else 0
            self._bound(guided, "Properties", named + _MOST_ITEMS)

    def _bound_array(self, guided: dict[str, Json]) -> None:
        first = guided.get("prefixItems")
        if isinstance(first, list):
            guided["prefixItems"] = [self.of(inner) for inner in first]
        if guided.get("items") is not False:
            guided["items"] = self.of(guided.get("items", True))
        self._bound(guided, "Items", _MOST_ITEMS)

    def _bound_string(self, guided: dict[str, Json]) -> None:
        pattern = guided.get("pattern")
        if isinstance(pattern, str) and _WHOLE.fullmatch(pattern) and not _ODD.search(pattern):
            return
        guided.pop("pattern", None)
        self._bound(guided, "Length", self._characters)

    def _bound(self, guided: dict[str, Json], what: str, most: int) -> None:
        """Let there be a `max…` that a reply can reach, and no less than `min…`."""
        least, given = guided.get(f"min{what}"), guided.get(f"max{what}")
        most = min(int(given), self._characters) if isinstance(given, int | float) else most
        guided[f"max{what}"] = max(most, int(least)) if isinstance(least, int | float) else most


def _types(schema: Mapping[str, Json]) -> list[Json]:
    """Return the types that a schema names or that its keywords are about; none where it leaves a choice."""
    about = [
        kind for kind in ("object", "array", "string", "number") if any(k in schema for k in _KNOWN[kind])
    ]
    if not about and any(name in schema for name in ("anyOf", "oneOf", "allOf")):
        return []
    given = schema.get("type", list(about))
    return given if isinstance(given, list) else [given]


def _bound_number(guided: dict[str, Json], *, whole: bool) -> None:
    """Leave out bounds that the compiler refuses: beyond 64 bits, a fraction for an integer, none between."""
    bounds = {name: bound for name in _KNOWN["number"] if isinstance(bound := guided.get(name), int | float)}
    odd = any(abs(bound) >= _MOST_BOUND or (whole and bound != int(bound)) for bound in bounds.values())
    lower = [bound for name, bound in bounds.items() if "inimum" in name]
    upper = [bound for name, bound in bounds.items() if "aximum" in name]
    if odd or (lower and upper and max(lower) >= min(upper)):
        for name in bounds:
            del guided[name]
