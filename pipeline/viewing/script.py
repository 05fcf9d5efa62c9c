"""Write data as scripts: a page that is opened as a file may load scripts, but fetch nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from pipeline.records import Json


def call(function: str, *values: Json) -> str:
    """Return a script that hands `values` to a function of the page.

    What documents say stays a string whatever it is: no quote, tag or line separator can end it.
    """
    text = (
        ",".join(map(_json, values))
        .replace("<", "\\u003c")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )
    return f"docbatch.{function}({text});\n"


def coded(values: Sequence[str | None]) -> Json:
    """Return a column whose values repeat: each once, and of each row its number; -1 is none."""
    numbers: dict[str, int] = {}
    codes: list[Json] = [-1 if v is None else numbers.setdefault(v, len(numbers)) for v in values]
    return {"values": list(numbers), "codes": codes}


def _json(value: Json) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:  # rare: looking for such numbers everywhere takes longer than writing
        return json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"))


def _finite(value: Json) -> Json:
    """Replace what JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(each) for each in value]
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return value
