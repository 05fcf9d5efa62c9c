"""Fill the fields of a schema from text, without a model: what is not found is null."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain

from pipeline.engines.embedded import allowed
from pipeline.engines.embedded.numbers import number
from pipeline.engines.embedded.passages import tokens
from pipeline.records import Json

Fields = dict[str, Json]
_Lines = list[tuple[frozenset[str], str]]
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|\n{2,}")
_LABELLED = re.compile(r"^\s*([^:：=]{2,60}?)\s*[:：=]\s*(\S.*)$")
_WORD_STARTS = re.compile(r"(?<=[a-z])(?=[A-Z])|_")
# Words that a label may have and its field not, or the other way round, by what they name.
_GENERIC = {"number": "number", "no": "number", "nr": "number", "num": "number", "name": "name"}


def fill(
    schema: Mapping[str, Json], texts: Mapping[int, str], detect_language: Callable[[str], str | None]
) -> Fields:
    """Return an object valid under `schema`, each property found in `texts` (page number to text) or null."""
    everything = "\n".join(texts.values())
    lines = [(_words(m[1]), m[2].strip()) for line in everything.splitlines() if (m := _LABELLED.match(line))]
    found: Fields = {}
    for name, spec in allowed.properties(schema).items():
        values = _found(name, spec, lines, texts, detect_language)
        found[name] = allowed.first_valid(values, spec)
    return _agreed(found, schema)


def combine(parts: Sequence[Mapping[str, Json]], schema: Mapping[str, Json]) -> Fields:
    """Merge the objects of a document's parts: the first that is stated, lists one after the other."""
    merged: Fields = {}
    for name, spec in allowed.properties(schema).items():
        values = [value for part in parts if (value := part.get(name)) is not None]
        lists = [value for value in values if isinstance(value, list)]
        together: list[Json] = list(chain.from_iterable(lists))
        most = allowed.limit(spec, "maxItems", 100)
        merged[name] = allowed.first_valid([together[:most], *values] if lists else values, spec)
    return _agreed(merged, schema)


def _agreed(found: Fields, schema: Mapping[str, Json]) -> Fields:
    """Give up what was found where the schema's rules between fields forbid it together."""
    nothing: Fields = dict.fromkeys(found)
    return nothing if allowed.is_valid(nothing, schema) and not allowed.is_valid(found, schema) else found


def _found(
    name: str,
    spec: Json,
    lines: _Lines,
    texts: Mapping[int, str],
    detect_language: Callable[[str], str | None],
) -> list[Json]:
    """Return what may be the field's value, the likeliest first."""
    everything = "\n".join(texts.values())
    title = spec.get("title") if isinstance(spec, Mapping) else None
    stated = _labelled([name, str(title or name)], lines)
    if (choices := allowed.choices(spec)) is not None:
        return [*_chosen(stated, choices), _most_named(choices, everything)]
    kinds = allowed.kinds(spec)
    if kinds and "string" not in kinds:
        return _facts(texts, spec) if name == "key_facts" else _numbers(stated, kinds)
    if name == "title":
        return [_title(texts, allowed.limit(spec, "maxLength", 200))]
    if name == "language":
        return [detect_language(everything[:4000])]
    if name == "summary":
        return [_opening(everything, allowed.limit(spec, "maxLength", 600))]
    return [stated, *_numbers(stated, kinds)]


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
    items = (item for option in allowed.options(spec) if isinstance(item := option.get("items"), Mapping))
    most_chars = allowed.limit(allowed.properties(next(items, {})).get("fact"), "maxLength", 300)
    facts: list[tuple[int, str]] = []
    for page, text in texts.items():
        sentences = (" ".join(s.split()) for s in _SENTENCE.split(text))
        stated = (s for s in sentences if len(s) <= most_chars and re.search(r"\d\d", s))
        facts += [(page, s) for s in stated if _reads_as_prose(s, 30)][:1]
    kept = facts[: allowed.limit(spec, "maxItems", 10)]
    return [[{"fact": sentence, "page": page} for page, sentence in kept], [sentence for _, sentence in kept]]


def _labelled(names: Sequence[str], lines: _Lines) -> str | None:
    """Return the value on a line `Label: value` whose label is one of the field's names, all of it."""
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
