"""Guide structured replies: the schema that the decoder is held to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_NOT_GUIDED = {
    "format", "multipleOf", "uniqueItems", "contains", "minContains", "maxContains", "propertyNames",
    "patternProperties", "title", "description", "default", "examples", "$schema", "$id",
}  # fmt: skip
_MOST_ITEMS = 200


def guide(schema: Mapping[str, Any], max_tokens: int) -> str:
    """Return the schema to guide replies with: bounded, and without what the grammar compiler refuses.

    A string or an array without an end can fill the whole reply; a bound lets it close. Replies are validated
    against the full schema afterwards, so keywords left out here are not lost.
    """
    return json.dumps(_bounded(schema, 2 * max_tokens))


def _bounded(schema: Any, characters: int) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    bounded = {key: value for key, value in schema.items() if key not in _NOT_GUIDED}
    kinds = bounded.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds or []
    if "string" in kinds and "enum" not in bounded and "pattern" not in bounded:
        bounded.setdefault("maxLength", characters)
    if "array" in kinds:
        bounded.setdefault("maxItems", _MOST_ITEMS)
    for key in ("properties", "$defs", "definitions"):
        if isinstance(bounded.get(key), Mapping):
            bounded[key] = {name: _bounded(inner, characters) for name, inner in bounded[key].items()}
    for key in ("items", "additionalProperties"):
        if key in bounded:
            bounded[key] = _bounded(bounded[key], characters)
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if key in bounded:
            bounded[key] = [_bounded(inner, characters) for inner in bounded[key]]
    return bounded
