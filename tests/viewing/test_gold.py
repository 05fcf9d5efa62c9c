"""Whether an answer is right: by value, by words, and not by accident."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.viewing.gold import is_right


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("Ian Murdock, then at Purdue University.", "purdue university"),
        ("The total is 1,234.50 euros", "1234.5"),
        ("1.234", "1234"),
        ("1.234", "1.234"),
        ("1 234 567 inhabitants", "1,234,567"),
        ("-3 %", "-3"),
        ("Yes, since 1996.", "yes"),
        ("bxjaholiday パッケージ 朝倉卓人(wtsnjp)", "朝倉卓人"),
        ("the Constan- tinople treaty", "Constantinople"),
        ("about 60", "60 | sixty"),
        ("sixty developers", "60 | sixty"),
        ("ﬁfteen", "fifteen"),
        ("2019-2020", "2020"),
        ("pages 10-15", "15"),
        ("No. INV-1994", "1994"),
        ("it was 28.09.2021", "2021"),
        ("5 % of it", "5%"),
        ("see 1.234.5", "1.234.5"),
        ("about 3.14159 of it", "3.14159"),
        ("in 2019 450 people came", "2019"),
        ("in 2019 450 people came", "450"),
        ("on the 12 2024", "2024"),
        ("it is 1234.50 USD", "$1,234.50"),
        ("12,5 percent", "12.5%"),
        ("a loss of -$5", "-5 $"),
        ("it grew by 5", "+5 %"),
        ("1’234 people", "1234"),
        ("1234", "１，２３４"),
        ("예, 그렇습니다", "\u110b\u1168"),  # one form of a letter, and another
    ],
)
def test_an_answer_that_says_what_gold_says_is_right(answer: str, gold: str) -> None:
    assert is_right(answer, gold)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (None, "60"),
        ("", "60"),
        ("160 or 601", "60"),
        ("3 %", "-3"),
        ("3 %", "-3 %"),
        ("-3 %", "3 %"),
        ("a gain of $5", "-$5"),
        ("3.14159", "3.141"),
        ("12.5", "125"),
        ("0.5 %", "5%"),
        ("12.5%", "5%"),
        ("1.5 million", "5 million"),
        ("-5 degrees", "5"),
        ("There is no such thing as yes", "yes"),
        ("Annabel", "Anna"),
        ("not known", "no"),
        ("Deacon", "Deacon Winn"),
    ],
)
def test_an_answer_that_only_looks_like_it_is_wrong(answer: str | None, gold: str) -> None:
    assert not is_right(answer, gold)


@given(st.text(), st.text())
def test_any_texts_can_be_compared(answer: str, gold: str) -> None:
    is_right(answer, gold)


@given(st.text(min_size=1).filter(lambda text: bool(text.strip()) and "|" not in text))
def test_a_text_holds_itself(text: str) -> None:
    assert is_right(text, text)


@given(st.text("ab1 -.,$%"), st.text("ab1 -.,$%", min_size=1), st.text("ab1 -.,$%"))
def test_a_text_of_many_letters_is_found_whatever_stands_around_it(
    before: str, text: str, after: str
) -> None:
    gold = f"constantinople {text} treaty"
    assert is_right(f"{before} {gold} {after}", gold)


@pytest.mark.parametrize("answer", ["the section", "section 1.234", "1.234.56"])
def test_what_looks_like_a_number_and_is_none_is_compared_as_text(answer: str) -> None:
    assert not is_right(answer, "1.234.5")
