"""Fill the fields of a schema from text, without a model: what is not found is null."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.engines.embedded.passages import tokens

_NUMBER = re.compile(r"-?\d+(?:[.,]\d{3})*(?:[.,]\d+)?")
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|\n{2,}")
_LABELLED = re.compile(r"^\s*([^:：=]{2,60}?)\s*[:：=]\s*(\S.*)$")


def fill(
    schema: Mapping[str, Any], texts: Mapping[int, str], detect_language: Callable[[str], str | None]
) -> dict[str, Any]:
    """Return an object valid under `schema`, each property found in `texts` (page number to text) or null."""
    return {
        name: _property(name, spec, texts, detect_language) for name, spec in schema["properties"].items()
    }


def combine(parts: Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the objects of a document's parts: the first that is stated, lists one after the other."""
    merged: dict[str, Any] = {}
    for name, spec in schema["properties"].items():
        values = [part[name] for part in parts if part.get(name) is not None]
        if values and isinstance(values[0], list):
            merged[name] = [item for value in values for item in value][: spec.get("maxItems", 100)]
        else:
            merged[name] = values[0] if values else None
    return merged


def _property(
    name: str, spec: Any, texts: Mapping[int, str], detect_language: Callable[[str], str | None]
) -> Any:
    spec = spec if isinstance(spec, Mapping) else {}
    everything = "\n".join(texts.values())
    if "enum" in spec:
        return _most_named([value for value in spec["enum"] if isinstance(value, str)], everything)
    kinds = [spec["type"]] if isinstance(spec.get("type"), str) else list(spec.get("type") or ["string"])
    if name == "title" and "string" in kinds:
        return _title(texts, spec.get("maxLength", 200))
    if name == "language" and "string" in kinds:
        return detect_language(everything[:4000])
    if name == "summary" and "string" in kinds:
        return _opening(everything, spec.get("maxLength", 600))
    if name == "key_facts" and "array" in kinds:
        return _facts(texts, spec)
    return _typed(_labelled(f"{name} {spec.get('title', '')}", everything), kinds, spec)


def _most_named(values: Sequence[str], text: str) -> str | None:
    counts = Counter(tokens(text))
    scores = {value: sum(counts[term] for term in set(tokens(value))) for value in values}
    top = max(scores, key=lambda value: scores[value], default=None)
    return top if top is not None and scores[top] > 0 else None


def _title(texts: Mapping[int, str], most_chars: int) -> str | None:
    """Return the first line that is more than a label."""
    lines = [" ".join(line.split()) for text in texts.values() for line in text.splitlines()]
    return next((line[:most_chars] for line in lines if _reads_as_prose(line, 8)), None)


def _reads_as_prose(text: str, fewest_letters: int) -> bool:
    letters = sum(c.isalpha() for c in text)
    # A Chinese, Japanese or Korean character says as much as a syllable.
    syllables = sum(c >= "\u3040" for c in text if c.isalpha())
    return letters + syllables >= fewest_letters and letters >= 0.6 * len(text)


def _opening(text: str, most_chars: int) -> str | None:
    """Return the first sentences that read as prose."""
    kept = ""
    for sentence in _SENTENCE.split(text):
        plain = " ".join(sentence.split())
        if not _reads_as_prose(plain, 20) or "...." in plain.replace(" ", ""):
            continue
        if len(kept) + len(plain) + 1 > most_chars:
            break
        kept = f"{kept} {plain}".strip()
    return kept or None


def _facts(texts: Mapping[int, str], spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return sentences that state a figure, at most one per page, with their page."""
    item = spec.get("items", {}).get("properties", {})
    most_chars = item.get("fact", {}).get("maxLength", 300)
    facts = []
    for page, text in texts.items():
        sentences = (" ".join(s.split()) for s in _SENTENCE.split(text))
        stated = [
            s for s in sentences if _reads_as_prose(s, 30) and len(s) <= most_chars and re.search(r"\d\d", s)
        ]
        facts += [{"fact": sentence, "page": page} for sentence in stated[:1]]
    return facts[: spec.get("maxItems", 10)]


def _labelled(label: str, text: str) -> str | None:
    """Return the value on a line `Label: value` whose label is the field's name."""
    wanted = set(tokens(label.replace("_", " ")))
    for line in text.splitlines():
        if (match := _LABELLED.match(line)) and set(tokens(match[1])) & wanted >= wanted - {
            "number",
            "name",
        } != set():
            return match[2].strip()
    return None


def _typed(value: str | None, kinds: Sequence[str], spec: Mapping[str, Any]) -> Any:
    if value is None:
        return None
    if "string" in kinds:
        return value[: spec.get("maxLength", len(value))] or None
    if "number" in kinds or "integer" in kinds:
        return _number(value, whole="number" not in kinds)
    return None


def _number(text: str, *, whole: bool) -> float | int | None:
    """Read the first number, with a comma or a point before the decimals."""
    if (match := _NUMBER.search(text)) is None:
        return None
    digits = match[0]
    if "," in digits and (digits.rfind(",") > digits.rfind(".") and not re.search(r",\d{3}$", digits)):
        digits = digits.replace(".", "").replace(",", ".")
    value = float(digits.replace(",", ""))
    return int(value) if whole and value.is_integer() else None if whole else value
