"""No value can keep other rows from being written."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from pipeline.records import Answer, Cell, Completion, Question, Request, Subject
from pipeline.tables import columns, rows
from pipeline.tables.rows import Stamp

STAMP = Stamp(model="m", engine="e", task="extract", run_id="r", settings_hash="s")
KINDS = {"number": "integer", "share": "number", "tags": "strings", "sums": "numbers", "name": "string"}


def answer(name: str, **values: Any) -> Answer:
    subject = Subject("document", name, f"id-{name}", (), 1)
    return Answer(Cell(f"a-{name}", subject, Question("q", "?")), "ok", **values)


def written(*answers: Answer) -> list[dict[str, Any]]:
    made = [rows.of_answer(each, STAMP, KINDS) for each in answers]
    schema = columns.schema("answers", KINDS)
    table: pa.Table = columns.to_table(made, schema, rows.refused)
    assert table.schema == schema
    return list(table.to_pylist())


@pytest.mark.parametrize(
    "fields",
    [
        {"number": 2**63},
        {"number": 10**400},
        {"share": 10**400},
        {"sums": [1, "two"]},
        {"sums": 3},
        {"tags": [["nested"]]},
        {"number": "many"},
    ],
)
def test_a_value_that_its_column_cannot_hold_costs_its_own_row(fields: dict[str, Any]) -> None:
    first, second, third = written(
        answer("a", fields={"number": 1}), answer("b", answer="?", fields=fields), answer("c", answer="fine")
    )
    assert (first["status"], first["field_number"]) == ("ok", 1)
    assert (third["status"], third["answer"]) == ("ok", "fine")
    assert (second["status"], second["error_code"]) == ("error", "schema_invalid")
    assert second["needs_review"]
    assert "b, q" in second["error"]
    assert str(next(iter(fields))) in second["answer"]  # what was replied is kept


def test_missing_numbers_in_a_list_stay_missing() -> None:
    (row,) = written(answer("a", fields={"sums": [1, None, 2.5]}))
    assert row["field_sums"] == [1.0, None, 2.5]


def test_half_characters_are_replaced_and_the_row_is_kept() -> None:
    first, second = written(answer("a", answer="a\ud800b"), answer("b", answer="whole"))
    assert (first["status"], first["answer"]) == ("ok", "a\ufffdb")
    assert second["answer"] == "whole"


def test_half_characters_in_a_reply_are_replaced_in_the_requests_too() -> None:
    request = Request("r", answer("a").cell, "ask", (), "?", 10)
    row = rows.of_request(request, Completion("x\udfffy", "stop"), STAMP)
    table = columns.to_table([row], columns.schema("requests", {}), rows.refused)
    assert table["text"].to_pylist() == ["x\ufffdy"]
