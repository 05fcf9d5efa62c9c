"""The JSON schema of a reply, and the typed columns of its fields."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema

from pipeline.asking import fields, inline, plain
from pipeline.config import TaskSettings
from pipeline.errors import SettingsError
from pipeline.records import MOST_CITED, Json


def schema(settings: TaskSettings) -> dict[str, Json] | None:
    """Return the JSON schema of the structured answer, every field nullable; None for plain-text tasks.

    What a document does not state is null: a model that must fill every field invents. References are
    written out, so that the schema is valid wherever it is put.
    """
    given_as = settings.schema
    where = (
        f"task.schema={plain.one_line(given_as)}" if isinstance(given_as, str) else f"task={settings.name}"
    )
    try:
        if (given := _given(settings)) is None:
            return None
        prepared = _prepared(given)
    except jsonschema.SchemaError as error:
        place = error.json_path.removeprefix("$.")
        message = f"is invalid at {plain.one_line(place, 100)} ({plain.one_line(error.message)})"
        raise SettingsError(f"{where}: its schema {message}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{where}: its schema {plain.one_line(error, 400)}") from error
    properties = prepared["properties"]
    if settings.answer_field and isinstance(properties, dict) and settings.answer_field not in properties:
        raise SettingsError(f"task.answer_field={settings.answer_field}: the schema has no such property")
    return prepared


def _given(settings: TaskSettings) -> Json:
    if isinstance(settings.schema, str):
        return plain.read(Path(settings.schema))
    if settings.schema is None and settings.labels:
        return {"type": "object", "properties": {"label": {"enum": list(settings.labels)}}}
    return plain.plain(settings.schema)


def _prepared(given: Json) -> dict[str, Json]:
    """Check the schema that a user wrote, and write it as the one that replies are held to."""
    if not isinstance(given, dict):
        raise ValueError("must be an object with properties")
    jsonschema.Draft202012Validator.check_schema(given)
    alone = inline.inline(given)
    properties = alone.get("properties") if isinstance(alone, dict) else None
    if not isinstance(alone, dict) or not isinstance(properties, dict) or not properties:
        raise ValueError(
            "must be an object with properties; put a list or a choice of objects into one of them"
        )
    # Once more: a reference may point at what is no schema.
    jsonschema.Draft202012Validator.check_schema(alone)
    kinds = alone.get("type", "object")
    if "object" not in (kinds if isinstance(kinds, list) else [kinds]):
        raise ValueError(f"has properties, but the type {kinds!r}: it must be an object")
    fields.check_names(list(properties))
    prepared: dict[str, Json] = {
        **alone,
        "type": "object",
        "properties": {name: fields.nullable(field) for name, field in properties.items()},
    }
    _check_nulls(prepared, properties)
    if len(json.dumps(prepared, ensure_ascii=False)) > inline.MOST_CHARACTERS:
        raise ValueError(f"is longer than {inline.MOST_CHARACTERS >> 10} KiB: ask for fewer fields")
    return prepared


def _check_nulls(prepared: dict[str, Json], names: dict[str, Json]) -> None:
    """Refuse rules between fields that a document which states none of them would break."""
    # Every field may be null, but a rule such as `minProperties` or `dependentRequired` may still forbid it.
    nothing = dict.fromkeys(names)
    problem = next(jsonschema.Draft202012Validator(prepared).iter_errors(nothing), None)
    if problem is not None:
        rule = ".".join(str(part) for part in problem.absolute_schema_path)
        raise ValueError(
            f"refuses an answer in which every field is null ({plain.one_line(rule, 100)}: "
            f"{plain.one_line(problem.message)}), as for a document that states none: leave that rule out"
        )


def envelope(settings: TaskSettings) -> dict[str, Json] | None:
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
            # Bounded: a guide without a limit lets a model write numbers until its budget is spent.
            "pages": {"type": "array", "items": {"type": "integer"}, "maxItems": MOST_CITED},
            "quote": {"type": ["string", "null"]},
        },
        "required": ["answer", "pages", "quote"],
        "additionalProperties": False,
    }


def field_kinds(settings: TaskSettings) -> dict[str, str]:
    """Return the column kind of each top-level field: string, integer, number, boolean, strings or numbers.

    What has no flat kind (objects, lists of objects, values of several types) is `string`: its JSON text.
    """
    properties = (schema(settings) or {}).get("properties")
    return (
        {name: fields.kind(field) for name, field in properties.items()}
        if isinstance(properties, dict)
        else {}
    )
