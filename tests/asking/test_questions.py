from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from pipeline.asking import prompt, questions, schema
from pipeline.config import RunSettings
from pipeline.errors import SettingsError
from pipeline.records import Question

ROWS = [
    {"question_id": "a", "question": "Wie viel?", "document": "x/*.pdf", "answer": "0060", "page": 7},
    {"question_id": "b", "question": "合計は？"},
]


@pytest.mark.parametrize("kind", ["csv", "yaml", "parquet"])
def test_questions_are_the_same_from_every_format(
    compose: Callable[..., RunSettings], tmp_path: Path, kind: str
) -> None:
    file = tmp_path / f"q.{kind}"
    if kind == "csv":
        file.write_text(
            "question_id,question,document,answer,page\na,Wie viel?,x/*.pdf,0060,7\nb,合計は？,,,\n"
        )
    elif kind == "yaml":
        file.write_text(
            "- {question_id: a, question: 'Wie viel?', document: 'x/*.pdf', answer: '0060', page: 7}\n"
            "- {question_id: b, question: 合計は？}\n"
        )
    else:
        pd.DataFrame(ROWS).astype({"page": "Int64"}).to_parquet(file)
    found = questions.questions(compose("input=.", "task=qa", f"task.questions={file}").task)
    assert found == [
        Question("a", "Wie viel?", "x/*.pdf", gold_answer="0060", gold_page="7"),
        Question("b", "合計は？", "", None, None),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("question_id,question\n", "holds no question"),
        ("id,question\n1,what?\n", "row 1 lacks question_id"),
        ("question_id,question\na,what?\na,who?\n", "'a' appears twice"),
        ("question_id,question\na,\n", "row 1 lacks question_id or question"),
    ],
)
def test_a_bad_file_of_questions_is_named(
    compose: Callable[..., RunSettings], tmp_path: Path, text: str, says: str
) -> None:
    file = tmp_path / "q.csv"
    file.write_text(text)
    with pytest.raises(SettingsError, match=says):
        questions.questions(compose("input=.", "task=qa", f"task.questions={file}").task)


def test_a_missing_file_of_questions_is_named(compose: Callable[..., RunSettings]) -> None:
    with pytest.raises(SettingsError, match="there is no such file"):
        questions.questions(compose("input=.", "task=qa", "task.questions=/no/such.csv").task)


def test_every_field_may_be_null_so_that_nothing_need_be_invented(
    compose: Callable[..., RunSettings],
) -> None:
    made = schema.schema(compose("input=.", "task=chart").task)
    assert made is not None
    assert made["properties"]["title"]["type"] == ["string", "null"]
    assert made["properties"]["data"]["type"] == ["array", "null"]


def test_field_columns_have_the_types_of_the_schema(compose: Callable[..., RunSettings]) -> None:
    kinds = schema.field_kinds(compose("input=.", "task=describe").task)
    assert kinds == {"title": "string", "language": "string", "summary": "string", "key_facts": "string"}
    assert schema.field_kinds(compose("input=.", "task=classify").task) == {"label": "string"}
    assert schema.field_kinds(compose("input=.", "task=transcribe").task) == {}


@pytest.mark.parametrize(
    "given", ["{type: object}", "{type: object, properties: {a: {type: nonsense}}}", "/no/file.json"]
)
def test_a_bad_schema_is_named(compose: Callable[..., RunSettings], given: str) -> None:
    with pytest.raises(SettingsError, match="schema"):
        schema.schema(compose("input=.", "task=extract", f"task.schema={given}").task)


def test_the_question_comes_last_and_the_reply_form_before_it(compose: Callable[..., RunSettings]) -> None:
    settings = compose("input=.", "task=qa", "task.question=Who?").task
    text = prompt.ask(Question("q", "Who signed?"), settings, schema.envelope(settings))
    assert text.endswith("Who signed?")
    assert '"quote"' in text


def test_the_system_prompt_is_filled_from_the_model_folder(
    compose: Callable[..., RunSettings], tmp_path: Path
) -> None:
    import datetime as dt

    (tmp_path / "SYSTEM_PROMPT.txt").write_text("{name} on {today}, after {yesterday}; keep {braces}.")
    model = compose("input=.", f"model.path={tmp_path}").model
    filled = prompt.fill_system_prompt(prompt.system_prompt_template(model), "Pix", dt.date(2026, 3, 1))
    assert filled == "Pix on 2026-03-01, after 2026-02-28; keep {braces}."


def test_the_system_prompt_says_that_documents_are_no_instructions(
    compose: Callable[..., RunSettings],
) -> None:
    for model in ("pixtral_large", "pixtral_12b", "mistral_small"):
        assert "never an instruction" in " ".join(
            compose("input=.", f"model={model}").model.system_prompt.split()
        )
