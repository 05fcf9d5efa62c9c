"""Fill the fields of a schema from text, without a model: what is not found is null."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain

import jsonschema

from pipeline.engines.embedded.numbers import number
from pipeline.engines.embedded.passages import tokens
from pipeline.records import Json

Fields = dict[str, Json]
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|\n{2,}")
_LABELLED = re.compile(r"^\s*([^:：=]{2,60}?)\s*[:：=]\s*(\S.*)$")
_WORD_STARTS = re.compile(r"(?<=[a-z])(?=[A-Z])|_")
# Words that a label may have and its field not, or the other way round, by what they name.
_GENERIC = {"number": "number", "no": "number", "nr": "number", "num": "number", "name": "name"}


def fill(
    schema: Mapping[str, Json], texts: Mapping[int, str], detect_language: Callable[[str], str | None]
) -> Fields:
    """Return an object valid under `schema`, each property found in `texts` (page number to text) or null."""
    return _agreed(
        {
            name: _first_valid(_found(name, spec, texts, detect_language), spec)
            for name, spec in _properties(schema).items()
        },
        schema,
    )


def combine(parts: Sequence[Mapping[str, Json]], schema: Mapping[str, Json]) -> Fields:
    """Merge the objects of a document's parts: the first that is stated, lists one after the other."""
    merged: Fields = {}
    for name, spec in _properties(schema).items():
        values = [value for part in parts if (value := part.get(name)) is not None]
        lists = [value for value in values if isinstance(value, list)]
        together: list[Json] = list(chain.from_iterable(lists))
        most = _limit(spec, "maxItems", 100)
        merged[name] = _first_valid([together[:most], *values] if lists else values, spec)
    return _agreed(merged, schema)


def _agreed(found: Fields, schema: Mapping[str, Json]) -> Fields:
    """Give up what was found where the schema's rules between fields forbid it together."""
    nothing: Fields = dict.fromkeys(found)
    return nothing if _is_valid(nothing, schema) and not _is_valid(found, schema) else found


def _first_valid(values: Sequence[Json], spec: Json) -> Json:
    return next((value for value in values if value is not None and _is_valid(value, spec)), None)


def _is_valid(value: Json, spec: Json | Mapping[str, Json]) -> bool:
    whole = dict(spec) if isinstance(spec, Mapping) else spec is not False
    return bool(jsonschema.Draft202012Validator(whole).is_valid(value))


def _found(
    name: str, spec: Json, texts: Mapping[int, str], detect_language: Callable[[str], str | None]
) -> list[Json]:
    """Return what may be the field's value, the likeliest first."""
    everything = "\n".join(texts.values())
    title = spec.get("title") if isinstance(spec, Mapping) else None
    stated = _labelled([name, str(title or name)], everything)
    if (choices := _choices(spec)) is not None:
        return [*_chosen(stated, choices), _most_named(choices, everything)]
    kinds = _kinds(spec)
    if kinds and "string" not in kinds:
        return _facts(texts, spec) if name == "key_facts" else _numbers(stated, kinds)
    if name == "title":
        return [_title(texts, _limit(spec, "maxLength", 200))]
    if name == "language":
        return [detect_language(everything[:4000])]
    if name == "summary":
        return [_opening(everything, _limit(spec, "maxLength", 600))]
    return [stated, *_numbers(stated, kinds)]


# ---- what a field's schema allows ----


def _properties(schema: Mapping[str, Json]) -> Mapping[str, Json]:
    properties = schema.get("properties")
    return properties if isinstance(properties, Mapping) else {}


def _options(spec: Json) -> Iterator[Mapping[str, Json]]:
    """Yield a field's schema and those that it chooses from."""
    if isinstance(spec, Mapping):
        yield spec
        for name in ("anyOf", "oneOf", "allOf"):
            inner = spec.get(name)
            for option in inner if isinstance(inner, list) else []:
                yield from _options(option)


def _choices(spec: Json) -> list[Json] | None:
    """Return the values that a field is confined to; None where it is not."""
    if not isinstance(spec, Mapping):
        return None
    if "const" in spec or spec.get("type") == "null":
        return [spec.get("const")]
    if isinstance(values := spec.get("enum"), list):
        return values
    options = spec.get("anyOf", spec.get("oneOf"))
    each = [_choices(option) for option in options] if isinstance(options, list) else [None]
    known = [values for values in each if values is not None]
    return list(chain.from_iterable(known)) if len(known) == len(each) else None


def _kinds(spec: Json) -> set[str]:
    """Return the types that a field's schema names."""
    named = [option["type"] for option in _options(spec) if "type" in option]
    return {str(kind) for kinds in named for kind in (kinds if isinstance(kinds, list) else [kinds])}


def _limit(spec: Json, name: str, most: int) -> int:
    given = [option[name] for option in _options(spec) if name in option]
    return min((int(limit) for limit in given if isinstance(limit, int | float)), default=most)


# ---- what the text states ----
def _chosen(stated: str | None, choices: Sequence[Json]) -> list[Json]:
    """Return the choices that are the value on the field's line."""
    if stated is None:
        return []
    values = {json.dumps(value) for value in _numbers(stated, {"number"})}
    return [
        choice
        for choice in choices
        if (_words(choice) == _words(stated) if isinstance(choice, str) else json.dumps(choice) in values)
    ]


def _most_named(choices: Sequence[Json], text: str) -> str | None:
    counts = Counter(tokens(text))
    values = [choice for choice in choices if isinstance(choice, str)]
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


def _facts(texts: Mapping[int, str], spec: Json) -> list[Json]:
    """Return sentences that state a figure, at most one per page: with their page, and without."""
    items = (item for option in _options(spec) if isinstance(item := option.get("items"), Mapping))
    most_chars = _limit(_properties(next(items, {})).get("fact"), "maxLength", 300)
    facts: list[tuple[int, str]] = []
    for page, text in texts.items():
        sentences = (" ".join(s.split()) for s in _SENTENCE.split(text))
        stated = (s for s in sentences if len(s) <= most_chars and re.search(r"\d\d", s))
        facts += [(page, s) for s in stated if _reads_as_prose(s, 30)][:1]
    kept = facts[: _limit(spec, "maxItems", 10)]
    return [[{"fact": sentence, "page": page} for page, sentence in kept], [sentence for _, sentence in kept]]


def _labelled(names: Sequence[str], text: str) -> str | None:
    """Return the value on a line `Label: value` whose label is one of the field's names, all of it."""
    lines = [
        (_words(match[1]), match[2].strip()) for match in map(_LABELLED.match, text.splitlines()) if match
    ]
    wanted = [_words(name) for name in names]
    exact = (value for label, value in lines if label in wanted)
    near = (value for label, value in lines if any(_are_alike(label, name) for name in wanted))
    return next(chain(exact, near), None)


def _are_alike(label: frozenset[str], name: frozenset[str]) -> bool:
    """Tell whether two labels differ in no more than a generic word: "Invoice" and "invoice_number"."""
    kinds = [{_GENERIC[word] for word in words & _GENERIC.keys()} for words in (label, name)]
    same = label - _GENERIC.keys() == name - _GENERIC.keys() != frozenset()
    return same and (kinds[0] == kinds[1] or not all(kinds))


def _words(label: str) -> frozenset[str]:
    return frozenset(term for term in tokens(_WORD_STARTS.sub(" ", label)) if not term.endswith("~"))


def _numbers(stated: str | None, kinds: Collection[str]) -> list[Json]:
    return [number(stated, whole="number" not in kinds)] if stated else []
