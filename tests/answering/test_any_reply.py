"""Whatever an engine says, under whatever schema: one answer, that every column can hold, and no error."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.answering.reduce import Reducer
from pipeline.records import Answer, Cell, Completion, Document, Page, Question, Request, Subject
from pipeline.tables import columns, rows
from pipeline.tables.columns import KINDS

EXAMPLES = 150
"""Of each of two tests; 5,000 of each were run when this was written."""

DOCUMENT = Document("a\udcff.pdf", Path("a.pdf"), "pdf", 1, "id")
PAGES = tuple(Page(DOCUMENT, n, 2, 16, 16, n, text=f"Page {n} says -3 %.", text_covers=True) for n in (1, 2))
CELL = Cell("c", Subject("document", DOCUMENT.source, "id", PAGES, 2), Question("q\ud800", "?"))

STAMP = rows.Stamp(model="m", engine="e", task="t", run_id="r", settings_hash="s")
ANY_TEXT = st.text(st.characters(codec=None, categories=None), max_size=40)
NUMBERS = st.one_of(
    st.integers(-(10**30), 10**30),
    st.sampled_from([2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1]),
    st.floats(allow_nan=True, allow_infinity=True),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, ANY_TEXT)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc") | ANY_TEXT, inner, max_size=4)
    ),
    max_leaves=12,
)
TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")
SCHEMAS = st.recursive(
    st.one_of(
        st.just({}),
        st.sampled_from(TYPES).map(lambda kind: {"type": kind}),
        st.lists(st.sampled_from(TYPES), min_size=1, unique=True).map(lambda kinds: {"type": kinds}),
        st.sampled_from(["#/$defs/Node", "#", "#/$defs/Lost", "other.json", "#/$defs/Circle"]).map(
            lambda place: {"$ref": place}
        ),
        st.lists(SCALARS, min_size=1, max_size=3).map(lambda values: {"enum": values}),
        SCALARS.map(lambda value: {"const": value}),
        st.sampled_from([0.01, 3, 1e-300, 10**400]).map(lambda number: {"multipleOf": number}),
        st.sampled_from(["(", "^a+$", "\\d{2,}", "\\p{L}"]).map(lambda pattern: {"pattern": pattern}),
        st.just({"type": "array", "uniqueItems": True, "contains": {"type": "number"}}),
        st.just({"type": "string", "format": "date", "maxLength": 5}),
    ),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda schemas: {"anyOf": schemas}),
        st.lists(inner, min_size=1, max_size=2).map(lambda schemas: {"oneOf": schemas}),
        inner.map(lambda schema: {"type": "array", "items": schema}),
        inner.map(lambda schema: {"type": ["object", "null"], "additionalProperties": schema}),
        st.dictionaries(st.sampled_from("abc"), inner).map(
            lambda named: {"type": "object", "properties": named}
        ),
    ),
    max_leaves=6,
)
DEFINITIONS = {
    "Node": {"type": "object", "properties": {"a": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}}},
    "Circle": {"$ref": "#/$defs/Circle"},
}


def reducer(schema: dict[str, Any] | None, kinds: dict[str, str], **given: Any) -> Reducer:
    def merge(question: Question, replies: Sequence[str]) -> tuple[str, int]:
        return "".join(replies).encode().decode(), 10

    def again(request: Request, fault: str) -> tuple[str, int]:
        return f"{request.prompt} ({fault})", 10

    room = {"write_merge": merge, "write_again": again, "room_tokens": 1000, "repair_attempts": 1}
    form = {"answer_field": None, "review_below": 0.5, "review_all": False, "field_kinds": kinds}
    return Reducer(**{"envelope": schema, "evidence": False, **room, **form, **given})


def told(made: Reducer, *texts: str, **values: Any) -> Answer:
    """Have all that is asked answered with these texts, one by one, and return the one answer."""
    pages = [PAGES] if len(texts) == 1 else [(page,) for page in PAGES]
    waiting = [
        Request(f"r{place}", CELL, "ask", shown, "?", 10, place, len(pages))
        for place, shown in enumerate(pages)
    ]
    answers = []
    for turn in range(20):
        text = texts[turn % len(texts)]
        ends = tuple(range(1, len(text) + 1))
        sure = Completion(text, "stop", token_ends=ends, token_probabilities=(0.9,) * len(ends))
        outcome = made.add(waiting.pop(0), replace(sure, **values))
        waiting += outcome if isinstance(outcome, list) else []
        answers += [outcome] if isinstance(outcome, Answer) else []
        if not waiting:
            break
    (answer,) = answers
    return answer


def check(answer: Answer, kinds: dict[str, str]) -> None:
    """Check that every column can hold what the answer gives it, to the digit."""
    failure = [answer.failure.message] if answer.failure else []
    for text in (answer.answer, answer.evidence_quote, *failure):
        assert text is None or text.encode().decode() == text
    assert (answer.status == "ok") == (answer.failure is None)
    assert answer.failure is None or answer.needs_review
    assert answer.confidence is None or 0 <= answer.confidence <= 1
    assert set(answer.evidence_pages) <= {1, 2}
    if answer.fields is not None:
        json.dumps(answer.fields, ensure_ascii=False, allow_nan=False).encode()
        for name, kind in kinds.items():
            value = answer.fields.get(name)
            if kind != "string":
                items = value if isinstance(value, list) else [value]
                kept = pa.array([value], KINDS[kind], from_pandas=False).to_pylist()[0]
                assert (kept if isinstance(kept, list) else [kept]) == items
    (row,) = parquet(answer, kinds).to_pylist()
    assert (row["status"], row["error_code"]) == (answer.status, answer.failure and answer.failure.code)


def parquet(answer: Answer, kinds: dict[str, str]) -> pa.Table:
    """Write the answer's row to Parquet, as a run does, and read it again."""
    made, schema = rows.of_answer(answer, STAMP, kinds), columns.schema("answers", kinds)
    file = io.BytesIO()
    pq.write_table(columns.to_table([made], schema, rows.refused), file)
    return pq.read_table(file)


# Half of the replies are loose enough a fit for their schema to get as far as the columns.
LOOSE: st.SearchStrategy[dict[str, Any]] = st.one_of(st.just({}), SCHEMAS)
FORMS = st.one_of(
    SCHEMAS,
    st.dictionaries(st.sampled_from("abc"), LOOSE, min_size=1, max_size=3).map(
        lambda named: {"type": "object", "properties": named}
    ),
    st.just({"properties": {"a": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": ["number", "null"]}]}}}),
)
OBJECTS = st.one_of(
    st.dictionaries(st.sampled_from("abcd"), SCALARS | st.lists(NUMBERS | st.none(), max_size=3), max_size=3),
    st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=3),
    VALUES,
)
KIND_MAPS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(sorted(KINDS)))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(ANY_TEXT | VALUES.map(json.dumps), min_size=1, max_size=2), st.booleans(), st.booleans())
def test_any_text_becomes_one_answer(texts: list[str], plain: bool, evidence: bool) -> None:
    schema = None if plain else {"type": "object", "properties": {"answer": {"type": ["string", "null"]}}}
    answer = told(reducer(schema, {}, evidence=evidence and not plain), *texts)
    check(answer, {})
    if plain:
        assert answer.status == "ok"


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    FORMS, st.lists(OBJECTS, min_size=1, max_size=2), KIND_MAPS, st.booleans(), st.booleans(),
    st.none() | st.sampled_from("abc"), VALUES, ANY_TEXT | st.none(),
)  # fmt: skip
def test_any_json_under_any_schema_becomes_one_answer(
    inner: Any, bodies: list[Any], kinds: dict[str, str], evidence: bool, escape: bool,
    answer_field: str | None, pages: Any, quote: str | None,
) -> None:  # fmt: skip
    schema = {**inner, "$defs": DEFINITIONS}
    if evidence:
        schema = {"type": "object", "properties": {"answer": inner}, "$defs": DEFINITIONS}
    wholes = [{"answer": body, "pages": pages, "quote": quote} if evidence else body for body in bodies]
    texts = [json.dumps(whole, ensure_ascii=escape) for whole in wholes]
    answer = told(reducer(schema, kinds, evidence=evidence, answer_field=answer_field), *texts)
    check(answer, kinds)


DEEP = "[" * 100_000 + "]" * 100_000
OBJECT = {"type": "object", "properties": {"a": {}}}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("integer", str(2**63)), ("number", "1" * 22), ("number", "9" * 400), ("number", "9" * 5000),
        ("number", "1e400"), ("numbers", "[1, 9007199254740993]"), ("string", DEEP),
        ("string", '{"a":' * 90_000), ("string", "NaN"),
    ],
)  # fmt: skip
def test_a_value_that_no_column_holds_is_an_error_of_its_row_that_keeps_the_text(
    kind: str, value: str
) -> None:
    text = f'{{"a": {value}}}'
    answer = told(reducer(OBJECT, {"a": kind}), text)
    assert answer.failure is not None
    assert (answer.status, answer.failure.code, answer.answer) == ("error", "schema_invalid", text)
    assert len(answer.failure.message) < 400
    check(answer, {"a": kind})


def test_a_null_in_a_list_is_kept_where_the_schema_allows_it() -> None:
    answer = told(reducer(OBJECT, {"a": "numbers"}), '{"a": [1, null]}')
    assert (answer.status, answer.fields) == ("ok", {"a": [1, None]})
    schema = {"properties": {"a": {"type": "array", "items": {"type": "number"}}}}
    assert told(reducer(schema, {"a": "numbers"}), '{"a": [1, null]}').status == "error"


def test_half_a_surrogate_pair_is_replaced_and_its_row_is_for_review() -> None:
    answer = told(reducer(OBJECT, {"a": "string"}), '{"a": "x\\ud800"}')
    assert (answer.status, answer.fields, answer.needs_review) == ("ok", {"a": "x\ufffd"}, True)
    assert told(reducer(None, {}), "x\udfff").answer == "x\ufffd"
