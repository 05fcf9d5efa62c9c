"""What a reader of text cannot do, whatever it finds."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.records import Json

_FLAT = {"string", "number", "integer", "boolean", "null"}


def is_evidence(envelope: Mapping[str, Json]) -> bool:
    """Tell whether a reply names pages and a quote beside its answer."""
    properties = envelope.get("properties")
    return isinstance(properties, Mapping) and set(properties) == {"answer", "pages", "quote"}


def fields_schema(envelope: Mapping[str, Json]) -> Mapping[str, Json] | None:
    """Return the schema of the fields that a reply fills; None when its answer is a text."""
    if not is_evidence(envelope):
        return envelope
    answer = _mapping(_mapping(envelope["properties"])["answer"])
    return answer if "properties" in answer else None


def is_unsure_of(envelope: Mapping[str, Json] | None) -> bool:
    """Tell whether every reply under a schema is for review.

    Passages (questions), copied text (transcriptions) and values found beside their labels (flat fields with
    evidence) have a confidence that says how far they can be trusted. Everything else takes understanding:
    the label that fits, the values of a chart, lists of objects, and a summary, for which the reader has only
    the first sentences.
    """
    if envelope is None or (schema := fields_schema(envelope)) is None:
        return False
    flat = all(_is_flat(field) for field in _mapping(schema.get("properties")).values())
    return not (is_evidence(envelope) and flat)


def _is_flat(field: Json) -> bool:
    given = _mapping(field)
    if isinstance(choices := given.get("anyOf"), list):
        return all(_is_flat(choice) for choice in choices)
    kinds = given.get("type")
    named = {kinds} if isinstance(kinds, str) else set(map(str, kinds)) if isinstance(kinds, list) else set()
    # To choose a label is to understand the document, even where the label's words stand in it.
    return "enum" not in given and bool(named) and named <= _FLAT


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}
