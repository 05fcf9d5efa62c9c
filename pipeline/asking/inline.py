"""Write out the references of a JSON schema, so that it stands alone wherever it is put."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from pipeline.records import Json

if TYPE_CHECKING:
    from referencing._core import Resolver

MOST_CHARACTERS = 1 << 16
"""Of a schema as JSON text, its references written out: it is part of every prompt."""
_MOST_LEVELS = 36
_OF_NAMES = {"properties", "patternProperties", "dependentSchemas"}
_OF_LISTS = {"anyOf", "oneOf", "prefixItems"}
_OF_ONE = {
    "items", "additionalProperties", "contains", "propertyNames", "not", "if", "then", "else",
    "unevaluatedItems", "unevaluatedProperties",
}  # fmt: skip
_OF_DATA = {"type", "enum", "const", "required", "dependentRequired", "examples"}
# What only serves references, and `default`, which invites a model to state what a document does not.
_LEFT_OUT = {"$schema", "$id", "$anchor", "$dynamicAnchor", "$vocabulary", "$comment", "$defs", "default"}
_REMARKS = {"title", "description", "examples", "deprecated", "readOnly", "writeOnly", "format"}
# Keywords that read each other: a group must stay within one schema.
_GROUPS = (
    {"properties", "patternProperties", "additionalProperties"},
    {"prefixItems", "items"},
    {"contains", "minContains", "maxContains"},
    {"if", "then", "else"},
)


def inline(schema: dict[str, Json]) -> Json:
    """Return the schema without `$ref` and `$defs`. Raises ValueError for what cannot be written out."""
    # A registry that fetches nothing: a `$ref` to the network is refused, never followed.
    resource: Resource[Json] = DRAFT202012.create_resource(schema)
    registry: Registry[Json] = Registry()
    uri = str(schema.get("$id") or "")
    return _Inliner().of(schema, registry.with_resource(uri, resource).resolver(uri))


class _Inliner:
    """One schema's; refuses schemas within themselves, and those that grow too large."""

    def __init__(self) -> None:
        self._open: list[int] = []
        self._room = MOST_CHARACTERS

    def of(self, schema: Json, resolver: Resolver[Json]) -> Json:
        """Return one schema within the whole, all that it refers to in place."""
        if not isinstance(schema, dict):
            return schema
        with self._opened(schema):
            if "$id" in schema and len(self._open) > 1:
                resolver = resolver.in_subresource(DRAFT202012.create_resource(schema))
            own = {
                name: self._keyword(name, value, resolver)
                for name, value in schema.items()
                if name not in _LEFT_OUT and name not in ("$ref", "allOf") and _is_kept(name, value)
            }
            return _join(own, self._parts(schema, resolver))

    def _parts(self, schema: dict[str, Json], resolver: Resolver[Json]) -> list[Json]:
        """Return what holds as well as the schema's own keywords: the target of `$ref`, and `allOf`."""
        for name in ("$dynamicRef", "$recursiveRef"):
            if name in schema:
                raise ValueError(f"uses {name}, which is not supported: write $ref")
        members = schema.get("allOf")
        parts = [self.of(member, resolver) for member in members] if isinstance(members, list) else []
        if "$ref" in schema:
            parts.insert(0, self._referred(str(schema["$ref"]), resolver))
        return parts

    def _referred(self, ref: str, resolver: Resolver[Json]) -> Json:
        try:
            found = resolver.lookup(ref)
        except (Unresolvable, LookupError, TypeError, ValueError) as error:
            where = (
                "it has no such part" if ref.startswith("#") else "only parts of the schema itself are read"
            )
            raise ValueError(f"refers to {ref[:100]!r}: {where}; put it under $defs") from error
        # A tree of comments, say: written out it would have no end.
        if id(found.contents) in self._open:
            raise ValueError(
                f"refers to {ref[:100]!r} from within it, so that it has no end; write out the levels needed"
            )
        target = self.of(found.contents, found.resolver)
        # Its title names the type, as of all fields that refer to it, not this field.
        return {k: v for k, v in target.items() if k != "title"} if isinstance(target, dict) else target

    def _keyword(self, name: str, value: Json, resolver: Resolver[Json]) -> Json:
        self._spend(len(name) + 4)
        if name in _OF_NAMES and isinstance(value, dict):
            self._spend(sum(len(key) + 4 for key in value))
            return {key: self.of(inner, resolver) for key, inner in value.items()}
        if name in _OF_LISTS and isinstance(value, list):
            return [self.of(inner, resolver) for inner in value]
        if name in _OF_ONE:
            return self.of(value, resolver)
        self._spend(len(json.dumps(value, ensure_ascii=False)))
        return value

    @contextmanager
    def _opened(self, schema: dict[str, Json]) -> Iterator[None]:
        self._spend(2)
        if len(self._open) == _MOST_LEVELS:
            raise ValueError(f"is nested deeper than {_MOST_LEVELS} schemas: make it flatter")
        # By identity: the same place in the schema, not one that merely looks the same.
        self._open.append(id(schema))
        yield
        self._open.pop()

    def _spend(self, characters: int) -> None:
        self._room -= characters
        if self._room < 0:
            raise ValueError(
                f"is longer than {MOST_CHARACTERS >> 10} KiB, references written out: ask for fewer fields"
            )


def _is_kept(name: str, value: Json) -> bool:
    """Leave out what no validator reads and what may hold references of its own (`discriminator`)."""
    known = name in _OF_NAMES | _OF_LISTS | _OF_ONE | _OF_DATA
    return known or not isinstance(value, dict | list)


def _join(own: dict[str, Json], parts: Sequence[Json]) -> Json:
    """Return one schema that holds where all hold: plain where the keywords allow it, else with `allOf`."""
    apart: list[Json] = []
    for part in parts:
        if part is True:
            continue
        joined = _joined(own, part) if isinstance(part, dict) else None
        if joined is None:
            apart.append(part)
        else:
            own = joined
    if not apart:
        return own
    inner = own.get("allOf")
    return {**own, "allOf": [*(inner if isinstance(inner, list) else []), *apart]}


def _joined(own: dict[str, Json], part: dict[str, Json]) -> dict[str, Json] | None:
    """Return both in one, `own` first in what only remarks; None where one would change the other."""
    mine, theirs = own.keys() - _REMARKS, part.keys() - _REMARKS
    if mine and theirs and any(name.startswith("unevaluated") for name in mine | theirs):
        return None
    both: dict[str, Json] = {**part, **own}
    for group in _GROUPS:
        if mine & group and theirs & group and not mine & group == theirs & group == {"properties"}:
            return None
    for name in mine & theirs:
        a, b = own[name], part[name]
        if name in ("required", "allOf") and isinstance(a, list) and isinstance(b, list):
            both[name] = [*b, *(item for item in a if item not in b)]
        elif name == "properties" and isinstance(a, dict) and isinstance(b, dict) and not a.keys() & b.keys():
            both[name] = {**b, **a}
        elif json.dumps(a, sort_keys=True) != json.dumps(b, sort_keys=True):
            return None
    return both
