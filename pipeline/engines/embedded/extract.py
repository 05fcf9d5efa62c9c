"""Fill the fields of a schema from text, without a model: what is not found is null."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from pipeline.engines.embedded import allowed
from pipeline.engines.embedded.labels import NUMBER, UNSURE, Labels, Name, Stated, words
from pipeline.engines.embedded.lines import Line, text_of
from pipeline.engines.embedded.numbers import number
from pipeline.engines.embedded.passages import tokens
from pipeline.records import Json

Fields = dict[str, Json]
Pages = Mapping[int, Sequence[Line]]
"""The cells or lines of each page, by its ordinal."""
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|\n{2,}")
_WELL_READ = 0.93
"""Score of the OCR under which a value is for review."""
_DETECTED = 0.9
"""Score of a language that was detected."""
# Of these a label says something else: "Language: English" is no code.
_OF_THE_WHOLE = frozenset({"title", "language", "summary", "key_facts"})


class Found(NamedTuple):
    """The value of a field."""

    value: Json = None
    score: float = 0.0
    """How sure it is, 0 to 1."""
    page: int | None = None
    """Where it is stated; None where that is not known."""


def fill(
    schema: Mapping[str, Json], pages: Pages, detect_language: Callable[[str], str | None]
) -> dict[str, Found]:
    """Return an object valid under `schema`, each property as found on the pages, or null."""
    specs = allowed.properties(schema)
    called = {name: [name, _title_of(name, spec)] for name, spec in specs.items()}
    # Nothing is looked for at labels where all fields are of the whole, as those of `describe`.
    labels = Labels(
        pages if specs.keys() - _OF_THE_WHOLE else {}, [each for names in called.values() for each in names]
    )
    texts = {number: text_of(lines) for number, lines in pages.items()}
    found = {
        name: _stated([] if name in _OF_THE_WHOLE else labels.stated(Name(called[name])), spec)
        or _gathered(name, spec, texts, detect_language)
        for name, spec in specs.items()
    }
    return _agreed(found, schema)


def combine(parts: Sequence[Mapping[str, Found]], schema: Mapping[str, Json]) -> dict[str, Found]:
    """Merge the objects of a document's parts: the first that is stated, lists one after the other."""
    merged: dict[str, Found] = {}
    for name, spec in allowed.properties(schema).items():
        each = [found for part in parts if (found := part.get(name, Found())).value is not None]
        lists = [found.value for found in each if isinstance(found.value, list)]
        together: list[Json] = list(chain.from_iterable(lists))
        if lists:
            each = [Found(together[: allowed.limit(spec, "maxItems", 100)], UNSURE), *each]
        merged[name] = _first(each, spec)
    return _agreed(merged, schema)


def values(found: Mapping[str, Found]) -> Fields:
    """Return the object itself."""
    return {name: each.value for name, each in found.items()}


def _title_of(name: str, spec: Json) -> str:
    title = spec.get("title") if isinstance(spec, Mapping) else None
    return str(title or name)


def _first(found: Sequence[Found], spec: Json) -> Found:
    """Return the first value that a field may have; one that others contradict is not sure."""
    fit = [each for each in found if each.value is not None and allowed.is_valid(each.value, spec)]
    if not fit:
        return Found()
    agreed = all(json.dumps(each.value) == json.dumps(fit[0].value) for each in fit)
    return fit[0] if agreed else fit[0]._replace(score=min(fit[0].score, UNSURE))


def _stated(at_labels: Sequence[Stated], spec: Json) -> Found | None:
    """Return what the labels of a field state; None where that is nothing that it may be."""
    each = []
    for stated in at_labels:
        value = allowed.first_valid(_readings(stated.text, spec), spec)
        # A letter that was misread leaves a score that looks good for a sentence.
        is_sure = stated.score >= _WELL_READ
        if isinstance(value, int | float) and not isinstance(value, bool):
            # Of several numbers the first may be a rate or a count: "VAT: 19 % 63.53".
            is_sure &= len(NUMBER.findall(stated.text)) == 1
        score = stated.score if is_sure else min(stated.score, UNSURE)
        each.append(Found(value, score, stated.page))
    found = _first(each, spec)
    return None if found.value is None else found


def _readings(text: str, spec: Json) -> list[Json]:
    """Return what a text at a label may mean to a field, the likeliest first."""
    if (choices := allowed.choices(spec)) is not None:
        return _chosen(text, choices)
    kinds = allowed.kinds(spec)
    if kinds and "string" not in kinds:
        return _numbers(text, kinds)
    return [text, *_numbers(text, kinds)]


def _gathered(
    name: str, spec: Json, texts: Mapping[int, str], detect_language: Callable[[str], str | None]
) -> Found:
    """Return what the pages as a whole say of a field without a label of its own; that is a guess."""
    everything = "\n".join(texts.values())
    if (choices := allowed.choices(spec)) is not None:
        return _first([Found(_most_named(choices, everything), UNSURE)], spec)
    if name == "key_facts":
        return _first([Found(value, UNSURE) for value in _facts(texts, spec)], spec)
    if name == "title":
        return _first([Found(_title(texts, allowed.limit(spec, "maxLength", 200)), UNSURE)], spec)
    if name == "language":
        return _first([Found(detect_language(everything[:4000]), _DETECTED)], spec)
    if name == "summary":
        return _first([Found(_opening(everything, allowed.limit(spec, "maxLength", 600)), UNSURE)], spec)
    return Found()


def _agreed(found: dict[str, Found], schema: Mapping[str, Json]) -> dict[str, Found]:
    """Give up what was found where the schema's rules between fields forbid it together."""
    nothing = dict.fromkeys(found, Found())
    if allowed.is_valid(values(nothing), schema) and not allowed.is_valid(values(found), schema):
        return nothing
    return found


def _chosen(stated: str, choices: Sequence[Json]) -> list[Json]:
    """Return the choices that are the value on the field's line."""
    read = {json.dumps(value) for value in _numbers(stated, {"number"})}
    return [
        choice
        for choice in choices
        if (words(choice) == words(stated) if isinstance(choice, str) else json.dumps(choice) in read)
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


def _numbers(stated: str, kinds: Collection[str]) -> list[Json]:
    return [number(stated, whole="number" not in kinds)]
