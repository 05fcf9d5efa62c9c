"""The JSON schema of a reply, and the typed columns of its fields."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema

from pipeline.config import TaskSettings
from pipeline.errors import SettingsError


def schema(settings: TaskSettings) -> dict[str, Any] | None:
    """Return the JSON schema of the structured answer, every field nullable; None for plain-text tasks.

    What a document does not state is null: a model that must fill every field invents.
    """
    given = settings.schema
    if isinstance(given, str):
        try:
            given = json.loads(Path(given).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"task.schema={settings.schema}: is not a readable JSON schema ({error})"
            ) from error
    if given is None and settings.labels:
        given = {"type": "object", "properties": {"label": {"enum": list(settings.labels)}}}
    if given is None:
        return None
    if not (
        isinstance(given, Mapping) and isinstance(given.get("properties"), Mapping) and given["properties"]
    ):
        raise SettingsError(f"task={settings.name}: its schema must be an object with properties")
    try:
        jsonschema.Draft202012Validator.check_schema(dict(given))
    except jsonschema.SchemaError as error:
        raise SettingsError(f"task={settings.name}: its schema is invalid ({error.message})") from error
    if settings.answer_field and settings.answer_field not in given["properties"]:
        raise SettingsError(f"task.answer_field={settings.answer_field}: the schema has no such property")
    nullable: dict[str, Any] = copy.deepcopy(dict(given))
    nullable["properties"] = {name: _nullable(value) for name, value in given["properties"].items()}
    return nullable


def _nullable(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    value = dict(value)
    if "enum" in value and None not in value["enum"]:
        value["enum"] = [*value["enum"], None]
    kinds = value.get("type")
    if isinstance(kinds, str):
        value["type"] = [kinds, "null"] if kinds != "null" else kinds
    elif isinstance(kinds, list) and "null" not in kinds:
        value["type"] = [*kinds, "null"]
    return value


def envelope(settings: TaskSettings) -> dict[str, Any] | None:
    """Return the schema of a whole reply: the answer with its evidence, or the bare structured answer."""
    inner = schema(settings)
    if inner is None and not settings.evidence:
        return None
    if not settings.evidence:
        return inner
    return {
        "type": "object",
        "properties": {
            "answer": inner or {"type": ["string", "null"]},
            "pages": {"type": "array", "items": {"type": "integer"}, "maxItems": 30},
            "quote": {"type": ["string", "null"]},
        },
        "required": ["answer", "pages", "quote"],
        "additionalProperties": False,
    }


def field_kinds(settings: TaskSettings) -> dict[str, str]:
    """Return the column kind of each top-level field: string, integer, number, boolean, strings or numbers.

    What has no flat kind (objects, lists of objects) is `string`: its JSON text.
    """
    properties = (schema(settings) or {}).get("properties", {})
    return {name: _kind(value) for name, value in properties.items()}


def _kind(value: Any) -> str:
    kind = _only_type(value)
    if kind in ("integer", "number", "boolean"):
        return kind
    if kind == "array":
        return {"string": "strings", "integer": "numbers", "number": "numbers"}.get(
            _only_type(value.get("items")) or "", "string"
        )
    return "string"


def _only_type(value: Any) -> str | None:
    kinds = value.get("type") if isinstance(value, Mapping) else None
    named = [k for k in ([kinds] if isinstance(kinds, str) else kinds or []) if k != "null"]
    return named[0] if len(named) == 1 else None
