"""Read JSON and YAML that a user wrote, as plain JSON within bounds."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipeline.records import Json
from pipeline.texts import clean_text

_MOST_BYTES = 1 << 20
_MOST_VALUES = 1 << 16
_MOST_LEVELS = 52


def read(path: Path) -> Json:
    """Read a JSON or YAML file. Raises OSError or ValueError, with the reason, for what is not one."""
    import yaml

    if not path.is_file():
        raise ValueError("cannot be read: there is no such file")
    with path.open("rb") as file:
        # One more than allowed, to know: a size that was asked for before could have changed.
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"is larger than {_MOST_BYTES >> 10} KiB")
    try:
        is_yaml = path.suffix.lower() in (".yaml", ".yml")
        loaded = yaml.safe_load(data) if is_yaml else json.loads(data, object_pairs_hook=once)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot be read ({one_line(error)})") from error
    return plain(loaded)


def plain(value: object) -> Json:
    """Return `value` as JSON holds it: names are text, dates are written out, half surrogates replaced."""
    return _Copy().of(value, 0)


def one_line(error: object, most_chars: int = 200) -> str:
    """Return the text of an error, or of a value, on one line of bounded length."""
    # Printable characters alone: others could break the line or the terminal.
    text = "".join(c if c.isprintable() else " " for c in clean_text(str(error)[: 4 * most_chars]))
    text = " ".join(text.split())
    return text if len(text) <= most_chars else f"{text[: most_chars - 1]}…"


def once(pairs: Iterable[tuple[object, object]]) -> dict[object, object]:
    """Refuse a name that is given twice, of which readers keep the last without a word."""
    found: dict[object, object] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {one_line(repr(name), 60)} is given twice")
        found[name] = value
    return found


class _Copy:
    """One copy; YAML may hold a value within itself, or the same one a million times."""

    def __init__(self) -> None:
        self._values = 0

    def of(self, value: object, level: int) -> Json:
        self._values += 1
        if level > _MOST_LEVELS:
            raise ValueError(f"is nested deeper than {_MOST_LEVELS} levels: make it flatter")
        if self._values > _MOST_VALUES:
            raise ValueError(f"holds more than {_MOST_VALUES} values: ask for fewer fields")
        if isinstance(value, str):
            return clean_text(value)
        # The same mapping under a million aliases is counted a million times: memory is what it would take.
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        if isinstance(value, dt.date):
            return value.isoformat()
        if isinstance(value, Mapping):
            return {self._name(name): self.of(inner, level + 1) for name, inner in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, bytes):
            return [self.of(inner, level + 1) for inner in value]
        raise ValueError(f"holds {one_line(repr(value), 60)}, which JSON cannot hold")

    @staticmethod
    def _name(name: object) -> str:
        if isinstance(name, str):
            return clean_text(name)
        if isinstance(name, int) and not isinstance(name, bool):
            return str(name)
        raise ValueError(f"has {one_line(repr(name), 60)} as a name: put it in quotes")
