"""Check replies against their schema, and values against the columns that they will fill."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from decimal import Decimal

import jsonschema
import referencing

from pipeline.answering.parse import EXACT_UP_TO, Problem
from pipeline.records import Json

_INT64 = range(-(2**63), 2**63)


class Form:
    """The form that replies have to have: a JSON schema."""

    def __init__(self, schema: Mapping[str, Json]) -> None:
        # An empty registry: a `$ref` to another place is a problem, never a request to the network.
        self._validator = _Validator(dict(schema), registry=referencing.Registry())

    def problem(self, value: Json) -> Problem | None:
        """Return what is wrong with a value, if anything is."""
        try:
            error = next(self._validator.iter_errors(value), None)
            return error and Problem(error.message[:200])
        # Whatever it is (numbers too large to divide, `$ref` in a circle, patterns that are none), it is
        # this reply's own row.
        except Exception as error:
            return Problem(f"it could not be checked against the schema: {error!r}"[:200])


def fit(value: Json, kind: str) -> Json | Problem:
    """Return a value as the column of its `kind` takes it, to the digit; or why it cannot."""
    if value is None or kind == "string":
        return value
    if kind == "boolean":
        return value if isinstance(value, bool) else Problem(f"{_shown(value)} is not true or false")
    if kind == "integer":
        return _integer(value)
    if kind == "number":
        return _number(value)
    if not isinstance(value, list):
        return Problem(f"{_shown(value)} is not a list")
    if kind == "strings":
        wrong = next((item for item in value if item is not None and not isinstance(item, str)), None)
        return value if wrong is None else Problem(f"{_shown(wrong)} in a list is not a text")
    return _numbers(value)


def _numbers(items: list[Json]) -> list[Json] | Problem:
    fitted: list[Json] = []
    for item in items:
        number = None if item is None else _number(item)
        if isinstance(number, Problem):
            return number
        fitted.append(number)
    return fitted


def _integer(value: Json) -> int | Problem:
    # 1e18 is written to the digit by its shortest form; the float's own value would add digits to others.
    if isinstance(value, float) and value.is_integer():
        value = int(Decimal(repr(value)))
    if isinstance(value, bool) or not isinstance(value, int):
        return Problem(f"{_shown(value)} is not an integer")
    return value if value in _INT64 else Problem(f"{_shown(value)} is beyond what an int64 holds")


def _number(value: Json) -> int | float | Problem:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Problem(f"{_shown(value)} is not a number")
    try:
        exact = float(value)
    except OverflowError:
        exact = math.inf
    if exact != value:
        return Problem(f"{_shown(value)} is beyond what a float64 holds exactly")
    # Arrow takes no integer over 2**53 for a float, not even one that the float holds.
    return exact if abs(exact) > EXACT_UP_TO else value


def _shown(value: Json) -> str:
    return f"{value!r}"[:60]


def _unique(
    validator: object, wanted: bool, value: Json, schema: object
) -> Iterator[jsonschema.ValidationError]:
    """Check `uniqueItems` in one pass: comparing each with each takes hours on a hostile list."""
    if wanted and isinstance(value, list) and len({_key(item) for item in value}) < len(value):
        yield jsonschema.ValidationError("a list holds the same thing twice")


def _key(value: Json) -> Hashable:
    """Return what is equal for values that JSON calls equal: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, list):
        return ("list", *map(_key, value))
    if isinstance(value, dict):
        return frozenset((name, _key(item)) for name, item in value.items())
    # To Python True equals 1.
    return isinstance(value, bool), value


_Validator = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator, {"uniqueItems": _unique}
)
