"""Values beside, after and under their labels, as they stand on a page."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence

import pytest

from pipeline.engines.embedded import cells, extract
from pipeline.engines.embedded.labels import UNSURE
from pipeline.engines.embedded.lines import Line
from pipeline.reading.language import detect_language
from pipeline.records import Json, Words

_HEIGHT, _ADVANCE = 10.0, 6.0


def put(x: float, y: float, text: str, score: float = 1.0, slope: float = 0.0) -> Line:
    """Return a cell as OCR gives it: its box is higher where the page is aslant."""
    width = _ADVANCE * len(text)
    top = y + slope * x
    return Line(text, (x, top, x + width, top + _HEIGHT + abs(slope) * width), score, slope)


def found(lines: Sequence[Line], **kinds: str) -> Mapping[str, extract.Found]:
    fields: dict[str, Json] = {name: {"type": kind} for name, kind in kinds.items()}
    return extract.fill({"properties": fields}, {1: lines}, detect_language)


def test_a_receipt_read_as_boxes_gives_each_label_the_value_on_its_line() -> None:
    lines = [
        put(10, 0, "Harbour Tools"),
        put(10, 20, "2 x Lamp"), put(200, 20, "40.00"),
        put(10, 40, "Subtotal"), put(200, 40, "40.00"),
        put(10, 60, "Total Qty"), put(230, 60, "2"),
        put(10, 80, "Tax:"), put(200, 80, "8.00"),
        put(10, 100, "TOTAL ........"), put(180, 100, "... 48.00"),
    ]  # fmt: skip
    values = found(lines, total="number", tax="number", quantity="integer")
    assert {name: each.value for name, each in values.items()} == {"total": 48, "tax": 8, "quantity": None}
    assert values["total"].score == 1.0


@pytest.mark.parametrize("degrees", [-1.2, 0.0, 1.2])
def test_lines_of_a_page_that_was_scanned_aslant_stay_lines(degrees: float) -> None:
    slope = math.tan(math.radians(degrees))
    lines = [
        put(x, 18.0 * number, text, slope=slope)
        for number in range(20)
        for x, text in ((10, f"field {number}:"), (700, f"value {number}"))
    ]
    assert [[cell.text for cell in row] for row in cells.rows(lines)] == [
        [f"field {number}:", f"value {number}"] for number in range(20)
    ]


def test_a_form_gives_the_value_under_its_label_and_not_the_label_beside_it() -> None:
    lines = [
        put(10, 0, "Last name"), put(300, 0, "Phone"),
        put(10, 14, "Novak"), put(300, 14, "+49 555 1234"),
        put(10, 50, "City"), put(300, 50, "Member number"),
        put(300, 64, "4711"),
    ]  # fmt: skip
    values = found(lines, last_name="string", phone="string", city="string", member_number="integer")
    assert {name: each.value for name, each in values.items()} == {
        "last_name": "Novak", "phone": "+49 555 1234", "city": None, "member_number": 4711,
    }  # fmt: skip


@pytest.mark.parametrize("dots", ["...", "." * 90, " ." * 60, "_" * 90])
def test_a_label_before_dots_to_write_on_is_no_value_however_many_there_are(dots: str) -> None:
    values = found([put(10, 0, "Phone"), put(300, 0, f"City {dots}")], phone="string", city="string")
    assert {name: each.value for name, each in values.items()} == {"phone": None, "city": None}


def test_two_columns_of_labels_do_not_take_each_others_values() -> None:
    lines = [put(10, 0, "Phone:"), put(300, 0, "City: Graz"), put(10, 20, "Name:"), put(120, 20, "Ann")]
    values = found(lines, phone="string", city="string", name="string")
    assert {name: each.value for name, each in values.items()} == {
        "phone": None,
        "city": "Graz",
        "name": "Ann",
    }


@pytest.mark.parametrize(
    "lines",
    [
        [put(10, 0, "Total: 5"), put(10, 20, "Total: 7")],
        [put(10, 0, "Total"), put(100, 0, "3"), put(200, 0, "45.00")],
        [put(200, 0, "Total"), put(10, 12, "Lamp"), put(200, 12, "1.00"), put(200, 24, "2.00")],
        [put(10, 0, "Total 19 % 5.00")],
        [put(10, 0, "Total: 19 % 5.00")],
        [put(10, 0, "Total:"), put(90, 0, "3 items 45.00")],
        [put(10, 0, "Total"), put(10, 12, "19 % 63.53")],
        [put(10, 0, "Total: between 5 and 7")],
        [put(10, 0, "Total 65 and over are free")],
    ],
    ids=[
        "stated twice", "several values in the row", "a column of a table", "two numbers",
        "a rate before it", "a count before it", "a rate before it, below", "a range", "a sentence",
    ],
)  # fmt: skip
def test_a_value_that_may_belong_elsewhere_is_not_sure(lines: list[Line]) -> None:
    assert found(lines, total="number")["total"].score <= UNSURE


def test_an_empty_field_does_not_take_the_next_label_for_its_value() -> None:
    values = found([put(10, 0, "Name: City: Graz")], name="string", city="string")
    assert values["city"].value == "Graz" and values["name"].value != "City: Graz"


@pytest.mark.parametrize(("read", "score"), [(0.99, 0.99), (0.82, UNSURE)])
def test_a_value_that_was_hardly_read_is_not_sure(read: float, score: float) -> None:
    assert found([put(10, 0, "Total:"), put(90, 0, "48.00", read)], total="number")["total"].score == score


def test_labels_whose_spaces_were_lost_and_currencies_in_brackets_are_the_same_label() -> None:
    lines = [put(10, 0, "Invoicedate: 3 May"), put(10, 20, "Total (EUR)"), put(200, 20, "48.00")]
    values = found(lines, invoice_date="string", total="number")
    assert (values["invoice_date"].value, values["total"].value) == ("3 May", 48)


def test_words_of_a_text_layer_are_joined_up_to_a_gap() -> None:
    placed = [("Net", 0.0), ("total:", 20.0), ("40.00", 200.0), ("EUR", 235.0)]
    corners = b"".join(struct.pack("4f", x, 0.0, x + len(text) * 5, 12.0) for text, x in placed)
    words = Words(tuple(text for text, _ in placed), corners)
    assert [cell.text for cell in cells.of_words(words)] == ["Net total:", "40.00 EUR"]
