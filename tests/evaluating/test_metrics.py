"""Every metric gives what its reference implementation gave, and something defined where that raised."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.evaluating import vectors
from pipeline.evaluating.metrics import (
    ai2d,
    anls,
    chartqa,
    exact,
    mathvista,
    mmmu,
    rating,
    relaxed,
    sets,
    vqa,
)
from pipeline.evaluating.metrics.structure import anls_star
from pipeline.evaluating.metrics.text import to_float, words
from pipeline.records import Box, Json

VECTORS = Path(__file__).parent / "vectors"


def evaluate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline.evaluate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_score_of_the_reference_implementations_is_reproduced() -> None:
    compared = vectors.compare(VECTORS)
    assert {each.file.removesuffix(".csv") for each in compared} == set(vectors.FILES)
    assert not [line for each in compared for line in each.mismatches]
    assert all(each.rows >= 20 for each in compared)


def write(file: Path, *rows: tuple[str, str, str]) -> None:
    with file.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([("prediction", "golds", "score"), *rows])


def test_a_row_that_differs_is_shown_and_makes_the_exit_status_1(tmp_path: Path) -> None:
    write(tmp_path / "mistral_anls.csv", ("yes", '["yes"]', "1.0"), ("yes", '["no"]', "0.5"))
    ended = evaluate(f"vectors={tmp_path}")
    assert ended.returncode == 1
    assert ended.stderr == ""
    assert "row 2: 'yes', ['no']: score is '0.5', ours 0.0" in ended.stdout
    write(tmp_path / "mistral_anls.csv", ("yes", '["yes"]', "1.0"))
    assert evaluate(f"vectors={tmp_path}").returncode == 0


def test_files_that_cannot_be_compared_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there are no CSV files"):
        vectors.compare(tmp_path)
    write(tmp_path / "unheard_of.csv")
    with pytest.raises(SettingsError, match=r"no metric is known for unheard_of\.csv"):
        vectors.compare(tmp_path)
    (tmp_path / "unheard_of.csv").unlink()
    (tmp_path / "mistral_anls.csv").write_text("prediction,golds\n")
    with pytest.raises(SettingsError, match="has no column score"):
        vectors.compare(tmp_path)


def test_where_the_reference_raises_ours_is_defined(tmp_path: Path) -> None:
    """As docs/evaluation.md lists them: no gold answer, gold objects, ratings that are no numbers."""
    write(
        tmp_path / "mistral_vqa_match.csv",
        ("dog", '[{"answer": "dog"}, {"answer": "dog"}, {"answer": "dog"}]', "ERROR:AttributeError"),
        ("5", "[5]", "ERROR:AttributeError"),
    )
    write(tmp_path / "mistral_relaxed_parsed.csv", ("yes", "[]", "ERROR:ValueError"))
    write(
        tmp_path / "mistral_anywhere_in_answer_relaxed_correctness.csv",
        ("x", '["inf"]', "ERROR:OverflowError"),
    )
    write(tmp_path / "mistral_mm_mt_bench_rating.csv", ("[[05]]", "[]", "ERROR:SyntaxError"))
    compared = vectors.compare(tmp_path)
    assert sum(each.raised for each in compared) == 5
    assert not any(each.mismatches for each in compared)
    assert vqa.vqa_match("dog", ["dog"] * 3) == 1.0
    judgements = ("[[05]]", "[[٣]]", "[[0]]", "[[007.5]]", f"[[{'9' * 400}]]")
    assert [rating.rating(text) for text in judgements] == [-1, -1, 0, 7.5, -1]


def test_half_right_gets_credit_by_one_rule_of_anls_and_none_by_another() -> None:
    assert anls.anls("21", ["20"], anls.OFFICIAL) == 0.5
    assert anls.anls("21", ["20"], anls.PAPER) == 0.0
    assert anls.anls("a.", ["a"], anls.MISTRAL_EVALS) == 1.0
    strict = anls.Rule(threshold=0.9, boundary=True, strips_end=False, length=anls.Length.COMPARED)
    assert anls.anls("abcdefghij", ["abcdefghix"], strict) == 0.9
    assert anls.anls("abcdefghi", ["abcdefghx"], strict) == 0.0


def test_punctuation_counts_where_people_agree_unless_it_is_always_ignored() -> None:
    assert vqa.vqa_accuracy("Yes.", ["yes"] * 10) == 0.0
    assert vqa.vqa_accuracy("Yes.", ["yes"] * 10, always_normalize=True) == 1.0
    assert vqa.normalize("dont, the two") == "don't 2"
    assert vqa.normalize("somebody'd couldntve couldnt've") == "somebodyd couldntve couldn't've"


def test_a_reply_that_chooses_nothing_is_wrong_or_a_guess() -> None:
    letters, texts = ["A", "B"], {"A": "red fox", "B": "blue whale"}
    assert mmmu.chosen("no idea", mmmu.Choices(letters, texts)) is None
    assert mmmu.chosen("no idea", mmmu.Choices(letters, texts, seed=42)) in letters
    assert mmmu.chosen("first (A) and then (B)", mmmu.Choices(letters, texts)) == "B"
    assert mmmu.chosen("of all these it is the Blue Whale", mmmu.Choices(letters, texts)) == "B"


def test_an_answer_is_brought_into_the_form_of_its_question() -> None:
    number = mathvista.Form("free_form", "float", precision=1.0)
    assert mathvista.in_form("1.449", number) == "1.4"
    assert mathvista.in_form("1e999", mathvista.Form("free_form", "integer")) is None
    assert mathvista.in_form("1.5", mathvista.Form("free_form", "float")) is None
    assert (
        mathvista.in_form("anything", mathvista.Form("multi_choice", "text", ("8/11", "anythin")))
        == "anythin"
    )
    assert mathvista.shortcut("3.50", number) == "3.5"
    assert mathvista.shortcut("about 3", number) is None


def test_means_of_ratings_count_what_has_one() -> None:
    rated = [
        rating.Rated("charts", 0, 6),
        rating.Rated("charts", 1, 8),
        rating.Rated("misc", 0, rating.NO_RATING),
    ]
    found = rating.summarize(rated)
    assert (found.micro, found.failed) == (7, 1)
    assert found.by_group == {"charts": 7, "0_average": 6, "1_average": 8}
    assert found.macro == 7
    assert rating.summarize([]).micro is None


def test_words_are_compared_without_case_punctuation_and_articles() -> None:
    assert exact.exact_match("The Cat.", ["cat"]) == 1.0
    assert exact.token_f1("the red cat", ["a cat"]) == pytest.approx(2 / 3)
    assert exact.token_f1("", [""]) == 1.0
    assert exact.token_f1("cat", [""]) == 0.0


def test_fields_with_several_values_count_value_by_value() -> None:
    said: dict[str, Json] = {"total": 10.0, "names": ["Ada", "Bob"], "made_up": "x", "nothing": None}
    found = sets.of_fields(said, {"total": 10, "names": ["bob", "Cy"], "nothing": None})
    assert found["total"] == sets.Found(1, 1, 1)
    assert found["names"] == sets.Found(1, 2, 2)
    assert found["made_up"] == sets.Found(0, 1, 0)
    assert found["nothing"] == sets.Found()
    together = sum(found.values(), sets.Found())
    assert together.precision == 0.5
    assert together.recall == pytest.approx(2 / 3)
    assert sets.Found().f1 is None


def test_a_value_is_the_same_in_whatever_form_its_letters_are_written() -> None:
    assert sets.of_fields({"name": "Rene\u0301"}, {"name": "Ren\u00e9"})["name"] == sets.Found(1, 1, 1)


def test_a_box_pairs_with_one_other_on_its_page() -> None:
    box = Box(1, 0, 0, 10, 10)
    assert sets.overlap(box, Box(1, 0, 0, 10, 5)) == 0.5
    assert sets.overlap(box, Box(2, 0, 0, 10, 10)) == 0.0
    assert sets.of_boxes([box, box], [Box(1, 0, 0, 10, 9)]) == sets.Found(1, 2, 1)
    assert sets.of_pages([1, 2, 2], [2, 3]) == sets.Found(1, 2, 2)


ANY = st.text(max_size=40) | st.sampled_from(
    ["answer: 5%", "[[5]]", "[1, 'a']", "inf", "nan", "1_0", "%", "(B)"]
)


@given(st.text() | st.text("İΣßa "))
def test_case_makes_no_text_another_for_chartqa(text: str) -> None:
    if to_float(text.rstrip("%")) is None:
        assert chartqa.chartqa(text, [text.lower()]) == chartqa.chartqa(text.lower(), [text]) == 1


@given(st.text("ab -,the\u00a0"), st.text("ab -,the\u00a0"))
def test_the_f1_of_words_is_that_of_all_words_of_both_texts(prediction: str, gold: str) -> None:
    said, known = Counter(words(prediction)), Counter(words(gold))
    total = said.total() + known.total()
    right = 2 * (said & known).total() / total if total else 1.0
    assert exact.token_f1(prediction, [gold]) == right
    assert exact.exact_match(prediction, [gold]) == (words(prediction) == words(gold))


@given(ANY, st.lists(ANY, max_size=3))
def test_no_text_makes_a_metric_raise_or_leave_its_range(prediction: str, golds: list[str]) -> None:
    texts = {"A": "x", "B": golds[0] if golds else ""}
    scores = [
        *(anls.anls(prediction, golds, rule) for rule in (anls.MISTRAL_EVALS, anls.OFFICIAL, anls.PAPER)),
        relaxed.relaxed(prediction, golds), relaxed.relaxed_explicit(prediction, golds),
        relaxed.relaxed_anywhere(prediction, golds), vqa.vqa_match(prediction, golds),
        vqa.vqa_accuracy(prediction, golds), chartqa.chartqa(prediction, golds),
        chartqa.chartqapro(prediction, chartqa.ProItem(golds, ["YES"], "Factoid")),
        mmmu.mmmu_open(prediction, golds),
        mmmu.mmmu_choice(prediction, golds, mmmu.Choices(["A", "B"], texts)),
        mathvista.mathvista(prediction, golds, mathvista.Form("multi_choice", "text", golds)),
        ai2d.choice_exact(prediction, golds), ai2d.choice_inferred(prediction, golds, texts),
        exact.exact_match(prediction, golds), exact.token_f1(prediction, golds),
        anls_star(prediction, [*golds]),
    ]  # fmt: skip
    assert all(-1e-9 <= score <= 1 for score in scores), scores
    assert rating.rating(prediction) >= -1
