"""A quote is found where it stands itself, whole, on a page that the reply cites, and nowhere else."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pymupdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.answering.evidence import Evidence, look_up
from pipeline.records import Box, Document, Page, Words

DOCUMENT = Document("a.pdf", Path("a.pdf"), "pdf", 1, "id")
RANDOM_PAIRS = 300


def page(number: int, text: str, *, document: Document = DOCUMENT, **values: Any) -> Page:
    return Page(document, number, 9, 16, 16, number, text=text, text_covers=True, **values)


def ask(quote: str | None, cited: Sequence[int], *pages: Page, seen: Sequence[Box] = ()) -> Evidence:
    covered = {page.ordinal for page in pages if page.text_covers}
    return look_up(quote, cited, {page.ordinal: page for page in pages}, covered, seen)


def found(quote: str, text: str) -> bool | None:
    return ask(quote, [1], page(1, text)).found


@pytest.mark.parametrize(
    ("quote", "text"),
    [
        ("-3 %", "Profit: -3 %."), ("-3 %", "Profit: \u22123\xa0%."), ("\u20133 %", "Profit: - 3 %"),
        ("12.5", "was 12.5."), ("1,234", "(see 1,234 below)"), ("2019", "in 2019, the"),
        ("5.00", "$5.00"),
        ("-$5.00", "a -$5.00 fee"), ("(1,234)", "loss of (1,234) thousand"),
        ("1 234 euros", "1\u202f234 euros"),
        ("10 kg", "10kg"), ("2019-2020", "2019 \u2013 2020"), ("12 May", "Date - 12 May"),
        ("\u0661\u0662\u0663", "123"),
        ("3 apples", "We need:\n- 3 apples"), ("1'234", "1\u2019234 francs"),
        ("3½ miles", "over 3½ miles"),
        ("the sum was 1 234 euros", "The  sum\nwas 1 234 euro- s in all"), ("120 m\xb2", "of 120 m²"),
    ],
)  # fmt: skip
def test_numbers_are_found_with_all_that_belongs_to_them(quote: str, text: str) -> None:
    assert found(quote, text) is True


@pytest.mark.parametrize(
    ("quote", "text"),
    [
        ("3 %", "Profit: -3 %."), ("3.5 %", "Profit: -3.5 %."), ("3.5 %", "Profit: - 3.5 %"),
        ("-3 %", "Profit: 3 %"),
        ("- 3.5 %", "3.5 %"), ("3.5 %", "\u22123.5 %"), ("3.5 %", "+3.5 %"), ("+3.5 %", "3.5 %"),
        ("-3 %", "1-3 %"),
        ("-3 %", "1 - 3 %"), ("12.5", "125"), ("125", "12.5"), ("12.5", "112.5"), ("12.5", "12.51"),
        ("12.5", "12,5"),
        ("1,234", "11,234"), ("1,234", "1,234,567"), ("1234", "1,234"), ("2019", "20190"),
        ("2019", "A2019"),
        ("234 euros", "1 234 euros"), ("1 234", "1 234 567"), ("500", "$.500"), ("500", ".500"),
        ("5.00", "-$5.00"),
        ("5.00", "5.00-"), ("1,234.50", "(1,234.50)"), ("102", "10²"), ("531", "53¹"), ("31/2", "3½"),
        ("½ cup", "1½ cup"),
        ("€500", "$500"), ("> 500 mg", "< 500 mg"), ("2:30", "12:30"), ("100", "100kg"),
        ("5.2.1", "5.2.13"),
    ],
)  # fmt: skip
def test_a_number_is_not_found_in_another_number(quote: str, text: str) -> None:
    assert found(quote, text) is False


@pytest.mark.parametrize(
    ("quote", "text"),
    [
        ("an example of a well-known file", "An exam-\nple of a “well-\nknown”   ﬁle"),
        ("cooperation", "co\xadoper\xad\nation"), ("without deduc-", "without deduc-\ntion"),
        ("\u201cHello\u201d, she said", '"Hello", she said'),
        ("STRASSE", "straße"), ("Café", "CAFE\u0301"), ("e\ufb03cient", "efficient"),
        ("Ｔｏｔａｌ １２", "total 12"),
        ("you can't", "you can\u2019t pay"), ("朝倉 卓人", "著者は朝倉卓人です"),
        ("作者", "本書の作者は"),
        ("ภาษาไทย", "เขียนเป็นภาษาไทยแล้ว"), ("서울", "서울에서"), ("हिन्दी में", "यह हिन्दी में है"),
        ("zero\u200bwidth", "zerowidth"),
        ("سلام", "\u0633\u064e\u0644\u0640\u0627\u0645"),
        ("שלום", "\u05e9\u05b8\u05dc\u05d5\u05b9\u05dd"),
    ],
)  # fmt: skip
def test_breaks_hyphens_ligatures_quotation_marks_and_case_do_not_matter(quote: str, text: str) -> None:
    assert found(quote, text) is True


@pytest.mark.parametrize(
    ("quote", "text"),
    [
        ("art", "party"),
        ("with deduc-", "without deduc-\ntion"), ("tion of any", "deduc-\ntion of any"),
        ("par", "party"), ("payment", "non-payment"), ("you can", "you can't pay"),
        ("is not able", "is notable"), ("we do pay", "we do not pay"), ("fi", "ﬁ"), ("the", ""),
        ("人卓", "卓人"),
        ("prot", "pro\ufffdt"), ("first … last", "first and last"),
    ],
)  # fmt: skip
def test_words_are_found_whole_and_in_one_piece(quote: str, text: str) -> None:
    assert found(quote, text) is False


@pytest.mark.parametrize(
    "quote", ["", " ", "...", "a", "of", "5", "42", "3 %", "$ % +", "\u200b\u200b\u200b", "人"]
)
def test_a_quote_too_short_to_say_anything_is_no_evidence(quote: str) -> None:
    assert found(quote, "a of 5 42 3 % $ % + 人 ...") is False
    assert ask(quote, [1], page(2, "x")).found is None


def test_nothing_is_said_of_a_page_that_no_layer_covers() -> None:
    scan = Page(DOCUMENT, 2, 9, 16, 16, 2, text="stamp: APPROVED")
    box = Box(2, 1, 2, 3, 4)
    assert ask("APPROVED", [2], page(1, "APPROVED"), scan, seen=[box, Box(3, 1, 2, 3, 4)]) == Evidence(
        None, (box,)
    )
    assert ask("some text", [1, 2], page(1, "some text"), scan).found is True
    assert ask("some text", [1, 2], page(1, "another text"), scan).found is None


def test_a_quote_without_a_page_is_not_found_where_there_is_any_layer() -> None:
    assert ask("some text", [], page(1, "some text")).found is False
    assert ask("some text", [], Page(DOCUMENT, 1, 9, 16, 16, 1)).found is None
    assert ask(None, [1], page(1, "some text")).found is None


LAST = "The rent is payable on the first\nof every month, without deduc-\n"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (LAST, "tion of any kind. Further\nclauses follow."),
        (LAST + "Lease of 1 May\n- 7 -\n", "Lease\nPage 8\n\ntion of any kind. Further\nclauses follow."),
    ],
)
def test_a_quote_goes_on_over_the_end_of_a_page_and_its_foot_and_head(first: str, second: str) -> None:
    quote = "payable on the first of every month, without deduction of any kind"
    for cited in ([1], [2], [1, 2]):
        assert ask(quote, cited, page(1, first), page(2, second)).found is True
    assert ask(quote, [3], page(1, first), page(2, second), page(3, "x")).found is False
    other = Document("b.pdf", Path("b.pdf"), "pdf", 1, "other")
    assert ask(quote, [1, 2], page(1, first), page(2, second, document=other)).found is False


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("it is not so that\nsomething else", "payable within 30 days"),
        ("this sum is not\n" + "other text goes on\n" * 20, "payable within 30 days"),
        ("this sum is not", "in any way\n" * 40 + "payable within 30 days"),
        ("this sum is not", "said to be payable within 30 days"),
    ],
)
def test_words_here_and_there_on_two_pages_are_no_quote(first: str, second: str) -> None:
    assert ask("is not payable within 30 days", [1, 2], page(1, first), page(2, second)).found is False


HEBREW = "הסכום הכולל היה 12.5 מיליון בשנת 2019"


@pytest.mark.parametrize(
    "line",
    [
        HEBREW,
        "2019 תנשב ןוילימ 12.5 היה ללוכה םוכסה",  # as the eye sees it
        "2019 מיליון בשנת12.5 הסכום הכולל היה",  # as MuPDF gives it
        "Total: הסכום הכולל היה 12.5 מיליון בשנת 2019",
    ],
)
def test_right_to_left_lines_are_read_in_the_order_they_are_meant(line: str) -> None:
    text = f"כותרת\n{line}\nסוף"
    assert found(HEBREW.split(" בשנת")[0], text) is True
    assert found("הסכום הכולל היה 5.21", text) is False
    assert found("הסכום הכולל לא היה", text) is False


def test_arabic_presentation_forms_in_visual_order_are_found() -> None:
    assert (
        found("سلام عليكم", "\ufee2\ufed4\ufef4\ufee0\ufecb \ufee1\ufefc\ufeb3".replace("\ufed4", "\ufedc"))
        is True
    )


def read(pdf: pymupdf.Document, index: int) -> Page:
    """Return a page with its text layer, as the reading stage does."""
    words = pdf[index].get_text("words")
    corners = b"".join(struct.pack("<4f", *word[:4]) for word in words)
    layer = Words(tuple(word[4] for word in words), corners)
    return page(index + 1, pdf[index].get_text(), words=layer)


@pytest.fixture
def lease() -> pymupdf.Document:
    pdf = pymupdf.open()
    for lines in (
        ["Lease of a flat", "The rent is due on the", "first of every month,"],
        ["without deduction."],
    ):
        sheet = pdf.new_page(width=300, height=200)
        for row, line in enumerate(lines):
            sheet.insert_text((50, 50 + 20 * row), line, fontsize=10)
    return pdf


def test_there_is_one_box_for_each_line_of_the_quote_around_its_words(lease: pymupdf.Document) -> None:
    first, second = ask("due on the first of every", [1], read(lease, 0)).boxes
    words = {word[4]: word for word in lease[0].get_text("words")}
    assert (first.page, second.page) == (1, 1)
    assert first[1:] == pytest.approx((words["due"][0], words["due"][1], words["the"][2], words["the"][3]))
    assert second[1:] == pytest.approx(
        (words["first"][0], words["first"][1], words["every"][2], words["every"][3])
    )


def test_boxes_follow_a_quote_to_the_next_page_and_there_are_none_of_what_is_not_found(
    lease: pymupdf.Document,
) -> None:
    pages = read(lease, 0), read(lease, 1)
    evidence = ask("every month, without deduction", [1], *pages)
    assert (evidence.found, [box.page for box in evidence.boxes]) == (True, [1, 2])
    assert ask("every month, with deduction", [1], *pages) == Evidence(False)


@pytest.mark.parametrize("corners", [b"", b"\0" * 17, struct.pack("<4f", *[float("nan")] * 4) * 20])
def test_words_without_proper_places_cost_the_boxes_alone(lease: pymupdf.Document, corners: bytes) -> None:
    whole = read(lease, 0)
    broken = page(1, whole.text, words=Words(whole.words.texts, corners))
    assert ask("due on the first of every", [1], broken) == Evidence(True)


@settings(max_examples=RANDOM_PAIRS, deadline=None)
@given(st.text(), st.text(), st.lists(st.floats(width=32), max_size=12))
def test_any_quote_can_be_looked_up_in_any_text(quote: str, text: str, places: list[float]) -> None:
    words = Words(tuple(text.split()), struct.pack(f"<{len(places)}f", *places))
    pages = page(1, text, words=words), page(2, text[::-1])
    assert ask(quote, [1], *pages).found in (True, False)
    assert ask(f"{quote} {text}", [1, 2], *pages).found in (True, False)


@settings(max_examples=RANDOM_PAIRS, deadline=None)
@given(
    st.lists(st.from_regex(r"[a-z]{3,9}|-?[0-9]{1,3}(\.[0-9]{1,2})?", fullmatch=True), min_size=4), st.data()
)
def test_any_run_of_words_and_numbers_of_a_page_is_found_however_it_is_broken(
    words: list[str], data: Any
) -> None:
    # Digits with a space before them may be the rest of a number: they are not cut apart here.
    first = data.draw(st.integers(0, len(words) - 2))
    quote = ["total", *words[first : first + 8], "ends"]
    text = data.draw(st.lists(st.sampled_from([" ", "\n", "  \n"]), min_size=len(quote), max_size=len(quote)))
    broken = "".join(word + gap for word, gap in zip(quote, text, strict=True))
    assert found(" ".join(quote), f"Before it\n{broken}and after it") is True
