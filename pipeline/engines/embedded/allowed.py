"""What the schema of a field allows: its types, its choices, its limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import jsonschema

from pipeline.records import Json


def first_valid(values: Sequence[Json], spec: Json) -> Json:
    """Return the first value that a field may have; null when none is."""
    return next((value for value in values if value is not None and is_valid(value, spec)), None)


def is_valid(value: Json, spec: Json | Mapping[str, Json]) -> bool:
    """Tell whether a schema allows a value."""
    # JSON Schema has two schemas that are no objects: `true` allows everything, `false` nothing.
    whole = dict(spec) if isinstance(spec, Mapping) else spec is not False
    return bool(jsonschema.Draft202012Validator(whole).is_valid(value))


def properties(schema: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return the schemas of an object's fields."""
    named = schema.get("properties")
    return named if isinstance(named, Mapping) else {}


def options(spec: Json) -> Iterator[Mapping[str, Json]]:
    """Yield a field's schema and those that it chooses from."""
    if isinstance(spec, Mapping):
        yield spec
        for name in ("anyOf", "oneOf", "allOf"):
            inner = spec.get(name)
            for option in inner if isinstance(inner, list) else []:
                yield from options(option)


def choices(spec: Json) -> list[Json] | None:
    """Return the values that a field is confined to; None where it is not."""
    if not isinstance(spec, Mapping):
        return None
    if "const" in spec or spec.get("type") == "null":
        return [spec.get("const")]
    if isinstance(values := spec.get("enum"), list):
        return values
    # Confined only if every branch is: one that takes any text lets any text through.
    branches = spec.get("anyOf", spec.get("oneOf"))
    each = [choices(option) for option in branches] if isinstance(branches, list) else [None]
    known = [values for values in each if values is not None]
    return list(chain.from_iterable(known)) if len(known) == len(each) else None


def kinds(spec: Json) -> set[str]:
    """Return the types that a field's schema names."""
    named = [option["type"] for option in options(spec) if "type" in option]
    return {str(kind) for kinds in named for kind in (kinds if isinstance(kinds, list) else [kinds])}


def limit(spec: Json, name: str, most: int) -> int:
    """Return the least limit of that name, such as `maxLength`; `most` where there is none."""
    # The least of all branches: for which of them a value will be valid is not known yet.
    given = [option[name] for option in options(spec) if name in option]
    return min((int(limit) for limit in given if isinstance(limit, int | float)), default=most)
