"""Small inputs on which the product was wrong once: each shows what it must show, through the whole run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pandas as pd
import pymupdf
import pytest

from pipeline.config import RunSettings
from pipeline.errors import SettingsError
from pipeline.run import execute

CASES = Path(__file__).parents[1] / "cases"


def run(compose: Callable[..., RunSettings], case: str, *overrides: str) -> pd.DataFrame:
    settings = compose(f"input={CASES / case / 'in'}", "engine=embedded", *overrides)
    execute(settings)
    return pd.read_parquet(Path(settings.output) / "answers").set_index("source")


def test_a_number_of_22_digits_is_an_error_of_its_row_and_is_never_rounded(
    compose: Callable[..., RunSettings],
) -> None:
    schema = CASES / "number-22-digits" / "schema.json"
    table = run(compose, "number-22-digits", "task=extract", f"task.schema={schema}")
    assert table["status"].to_dict() == {"other.pdf": "ok", "transfer.pdf": "error"}
    assert table["error_code"]["transfer.pdf"] == "schema_invalid"
    assert "2850590940090418135201" in table["answer"]["transfer.pdf"]
    assert table["field_account_number"]["other.pdf"] == 55


def test_a_schema_as_pydantic_writes_it_gives_typed_columns_and_a_valid_reply(
    compose: Callable[..., RunSettings],
) -> None:
    file = CASES / "schema-defs" / "schema.json"
    table = run(compose, "schema-defs", "task=extract", f"task.schema={file}")
    (row,) = table.to_dict("records")
    assert (row["status"], row["field_supplier"], row["field_currency"]) == ("ok", "Nordwind Ltd", "EUR")
    jsonschema.validate(json.loads(row["fields"]), json.loads(file.read_text()))


def test_a_questions_file_with_a_comma_too_many_is_refused_before_any_work(
    compose: Callable[..., RunSettings],
) -> None:
    file = CASES / "questions-shifted" / "questions.csv"
    with pytest.raises(SettingsError, match=r"row 1 has 4 fields where the header has 3, 'a\.pdf'"):
        run(compose, "questions-shifted", "task=qa", f"task.questions={file}")


def test_questions_that_match_no_input_are_named(compose: Callable[..., RunSettings]) -> None:
    file = CASES / "questions-unmatched" / "questions.csv"
    settings = compose(
        f"input={CASES / 'questions-unmatched' / 'in'}",
        "engine=embedded",
        "task=qa",
        f"task.questions={file}",
    )
    summary = execute(settings)
    assert summary.questions_unmatched == ["in/a.pdf", "missing.pdf"]
    assert summary.cells == 1


def test_a_questions_file_with_semicolons_is_read(compose: Callable[..., RunSettings]) -> None:
    file = CASES / "questions-semicolon" / "questions.csv"
    table = run(compose, "questions-semicolon", "task=qa", f"task.questions={file}")
    assert table["question_id"].tolist() == ["q1"]


def test_a_stamp_on_a_scan_is_not_taken_for_its_text(compose: Callable[..., RunSettings]) -> None:
    table = run(compose, "stamp-on-scan", "task=qa", "task.question='What is the total amount due?'")
    assert all("4,812.50 EUR" in answer for answer in table["answer"])
    assert table["evidence_found"].isna().all()  # no text layer covers the page: nobody can check it
    assert all(len(boxes) for boxes in table["evidence_boxes"])


def test_a_text_layer_in_cipher_is_not_taken_for_what_is_seen(compose: Callable[..., RunSettings]) -> None:
    question = "task.question='What was the annual budget in 2019?'"
    table = run(compose, "cipher-text-layer", "task=qa", question)
    assert all("731 million" in answer for answer in table["answer"])
    assert table["evidence_found"]["good.pdf"]
    assert table["evidence_found"]["shifted.pdf"] is None


def test_words_read_off_a_scan_are_marked_where_they_stand(
    compose: Callable[..., RunSettings], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    with pymupdf.open() as drawn, pymupdf.open() as scan:
        page = drawn.new_page(width=595, height=842)
        page.insert_text((72, 100), "The parcel left the harbour on Monday morning.", fontsize=14)
        page.insert_text((72, 790), "The total amount due is 4812.50 EUR.", fontsize=14)
        (place,) = page.search_for("The total amount due is 4812.50 EUR.")
        picture = page.get_pixmap(dpi=200)
        scan.new_page(width=595, height=842).insert_image(page.rect, pixmap=picture)
        scan.save(tmp_path / "in" / "scan.pdf")
    question = "task.question='What is the total amount due?'"
    settings = compose(
        f"input={tmp_path / 'in'}", "engine=embedded", "task=qa", question, "engine.passage_chars=60"
    )
    execute(settings)
    (row,) = pd.read_parquet(Path(settings.output) / "answers").to_dict("records")
    assert "4812.50" in row["evidence_quote"]
    # Sides are rounded to whole patches: with one scale for both the box lies 13 points too high.
    box = max(row["evidence_boxes"], key=lambda box: box["y1"])
    assert abs(box["y1"] - place.y1) < 6 and abs(box["y0"] - place.y0) < 6, (box, place)
    assert abs(box["x0"] - place.x0) < 6 and abs(box["x1"] - place.x1) < 6, (box, place)
