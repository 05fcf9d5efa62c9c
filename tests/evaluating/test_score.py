"""Scores of a run: against a golden set, its own questions and reviews, with intervals; and the gate."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pymupdf
import pytest

from pipeline.answering import calibration
from pipeline.compose import compose_evaluate, compose_settings
from pipeline.config import RunSettings
from pipeline.errors import OutputError, SettingsError
from pipeline.evaluating import calibrate, golden, reliability, results, score, statistics, task
from pipeline.run import execute
from pipeline.tables import reviews
from pipeline.viewing import finished

QUESTIONS = (
    "question_id,question,document,answer,page\n"
    "crate,Where is the crate?,a.pdf,in the yard,1\n"
    "barrel,Where is the barrel?,a.pdf,on the roof,2\n"
    "boat,Where is the boat?,b.pdf,by the pier,1\n"
)


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answer three questions about two documents, one of them wrongly by their own gold answers."""
    folder = tmp_path_factory.mktemp("answered")
    write_pdf(folder / "in" / "a.pdf", "The crate is in the yard.", "The barrel is in the cellar.")
    write_pdf(folder / "in" / "b.pdf", "The boat is by the pier.")
    (folder / "questions.csv").write_text(QUESTIONS)
    execute(settings(folder))
    return folder


@pytest.fixture
def run(answered: Path, tmp_path: Path) -> RunSettings:
    """Return the settings of a finished run that a test may change."""
    shutil.copytree(answered, tmp_path, dirs_exist_ok=True)
    return settings(tmp_path)


def settings(folder: Path, *more: str) -> RunSettings:
    given = [f"input={folder / 'in'}", "task=qa", f"task.questions={folder / 'questions.csv'}"]
    small = ["engine=embedded", "engine.workers=1", "raster.workers=1"]
    return compose_settings([*given, *small, f"output={folder / 'output'}", *more])


def write_pdf(path: Path, *texts: str) -> None:
    path.parent.mkdir(exist_ok=True)
    with pymupdf.open() as document:
        for text in texts:
            document.new_page().insert_text((72, 72), text)
        document.save(path)


def scores(run: RunSettings, *given: str) -> dict[tuple[str, str | None], float]:
    """Evaluate, and return each score by its metric and the value of its group."""
    done = task.perform(compose_evaluate([f"run={run.output}", *given]))
    assert done.ok
    table = pd.read_parquet(Path(run.output) / "evaluation" / "scores.parquet")
    values = [None if value is None or value != value else str(value) for value in table["value"]]
    return dict(zip(zip(table["metric"], values, strict=True), table["score"], strict=True))


def judged(run: RunSettings) -> pd.DataFrame:
    return pd.read_parquet(Path(run.output) / "evaluation" / "answers.parquet").set_index("question_id")


def test_a_run_is_scored_by_its_own_questions_and_the_report_shows_what_is_wrong(run: RunSettings) -> None:
    found = scores(run)
    assert found["contained", None] == pytest.approx(2 / 3)
    assert found["evidence_page_recall", None] == 1.0
    assert judged(run)["is_right"].to_dict() == {"crate": True, "barrel": False, "boat": True}
    shown = finished.load(Path(run.output))
    assert shown.verdicts == ["wrong", "right", "right"]  # by source and question_id
    page = (Path(run.output) / "evaluation" / "scores.md").read_text()
    assert "| official | anls " in page
    assert (Path(run.output) / "evaluation" / "reliability.svg").read_text().count("<svg") == 1


def test_a_golden_set_says_otherwise_than_the_questions(run: RunSettings, tmp_path: Path) -> None:
    gold = tmp_path / "gold.csv"
    gold.write_text(
        "question,document,answers,pages,unanswerable\n"
        'Where is the crate?,a.pdf,"[""yard"", ""court""]",1,\n'
        "Where is the barrel?,*.pdf,in the cellar,2-2,no\n"
        "Where is the boat?,,,,yes\n"
        "Where is the anchor?,b.pdf,aboard,,\n"
        "Where is the key?,elsewhere.pdf,lost,,\n"
    )
    found = scores(run, f"gold={gold}", "profile=mistral_evals")
    # The anchor was not asked about, though its document is there: it is wrong. The key's is not there.
    assert found["right", None] == 0.5
    assert found["answered_unanswerable", None] == 1.0
    assert ("vqa_match", None) in found
    assert ("vqa_accuracy", None) not in found
    done = task.perform(compose_evaluate([f"run={run.output}", f"gold={gold}"]))
    assert "1 questions of the golden set have no answer and count as wrong: row 4" in done.text
    assert "1 rows of the golden set are about documents that are no input of this run" in done.text
    # The report takes what is right from the golden set, and a page of it.
    shown = finished.load(Path(run.output))
    assert shown.verdicts == ["right", "right", "wrong"]
    assert shown.text["gold_answer"] == ["in the cellar", "yard | court", "(the document does not say)"]


def test_a_question_is_found_in_whatever_form_its_letters_are_written(
    run: RunSettings, tmp_path: Path
) -> None:
    rows = golden.GoldRow(1, "", "Où est la\u0301  clef?", "", golden.GoldAnswer(("here",)))
    asked = score._no_answer(rows)._replace(question="Où est lá clef?", source="a.pdf")
    assert golden.GoldenSet([rows], by_text=True).of(asked) is not None


@pytest.mark.parametrize("cell", ["", " ", "|", "[]", "[null]", '["", " "]'])
def test_a_gold_answer_that_says_nothing_is_none(run: RunSettings, cell: str) -> None:
    for file in (Path(run.output) / "answers").iterdir():
        table = pd.read_parquet(file)
        table.loc[table["question_id"] == "crate", "gold_answer"] = cell
        table.to_parquet(file)
    scores(run)
    assert set(judged(run).index) == {"barrel", "boat"}


def test_brackets_without_end_are_text(run: RunSettings, tmp_path: Path) -> None:
    deep = "[" * 50_000 + "]" * 50_000
    assert golden._answers(deep) == (deep,)
    gold = tmp_path / "gold.csv"
    gold.write_text(f"question,fields\nWhere is the crate?,{deep}\n")
    with pytest.raises(SettingsError, match="row 1"):
        golden.read(gold)


def test_what_people_said_about_an_answer_counts_first(run: RunSettings) -> None:
    answers = pd.read_parquet(Path(run.output) / "answers").set_index("question_id")
    rows = []
    for question_id, verdict, correction in (("barrel", "right", None), ("boat", "corrected", "at sea")):
        row = answers.loc[question_id]
        rows.append(
            {
                "answer_id": row["answer_id"], "source": row["source"], "question_id": question_id,
                "answer": row["answer"], "verdict": verdict, "correction": correction,
                "marked_at": dt.datetime.now(dt.UTC),
            }
        )  # fmt: skip
    reviews.save(Path(run.output), rows)
    scores(run)
    assert judged(run)["is_right"].to_dict() == {"crate": True, "barrel": True, "boat": False}
    assert judged(run)["judged_by"].to_dict() == {"crate": "questions", "barrel": "review", "boat": "review"}


def test_two_runs_are_compared_answer_by_answer(run: RunSettings, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run.output, other)
    file = next((other / "answers").glob("*.parquet"))
    table = pq.read_table(file)
    wrong = pa.array(["nowhere"] * table.num_rows, pa.string())
    pq.write_table(table.set_column(table.schema.get_field_index("answer"), "answer", wrong), file)
    found = scores(run, f"against={other}")
    assert found["contained", str(other)] == pytest.approx(2 / 3)
    assert scores(run, f"against={run.output}")["anls", run.output] == 0.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("question,document\nWhere?,a.pdf\n", "row 1 has no answer: give one, or unanswerable=true"),
        ("question,answer,unanswerable\nWhere?,x,yes\n", "row 1 is unanswerable and has an answer"),
        ("question,answer,page\nWhere?,x,two\n", "page 'two' is no number or range"),
        ("question,answer\nWhere?,x\nWhere?,y\n", "row 2 repeats an earlier question and document"),
        ("document,answer\na.pdf,x\n", "has neither the column question nor question_id"),
        ("question,answer,unanswerable\nWhere?,,maybe\n", "unanswerable is 'maybe': write true or false"),
        ("question,answer\n", "holds no row"),
    ],
)
def test_a_golden_set_that_is_not_one_is_told_in_a_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "gold.csv"
    file.write_text(text)
    with pytest.raises(SettingsError, match=said):
        golden.read(file)


def test_gold_about_other_documents_is_no_score_of_zero(run: RunSettings, tmp_path: Path) -> None:
    gold = tmp_path / "gold.csv"
    gold.write_text("question,document,answer\nWhere is the crate?,elsewhere.pdf,x\n")
    with pytest.raises(SettingsError, match="nothing is known of any answer of this run"):
        scores(run, f"gold={gold}")
    for wrong, said in (("metric=bleu", "must be one of anls"), ("profile=mine", "must be one of official")):
        with pytest.raises(SettingsError, match=said):
            scores(run, wrong)


# ---- the gate ----


def test_answers_below_the_gate_leave_the_tables_of_before(run: RunSettings, tmp_path: Path) -> None:
    output = Path(run.output)
    before = pd.read_parquet(output / "answers")
    write_pdf(tmp_path / "in" / "c.pdf", "The anchor is aboard.")
    (tmp_path / "questions.csv").write_text(QUESTIONS + "anchor,Where is the anchor?,c.pdf,ashore,1\n")
    with pytest.raises(
        OutputError, match=r"docbatch\.contained of 4 answers is 0\.500 .* evaluate\.min_score=0\.9"
    ):
        execute(settings(tmp_path, "evaluate.min_score=0.9"))
    pd.testing.assert_frame_equal(pd.read_parquet(output / "answers"), before)
    assert "wrong: c.pdf: Where is the anchor?" in (output / "evaluation" / "refused.md").read_text()
    # What was answered is kept: a lower gate publishes it, and nothing is asked again.
    summary = execute(settings(tmp_path, "evaluate.min_score=0"))
    assert summary.requests == 0
    assert len(pd.read_parquet(output / "answers")) == 4
    history = pd.read_parquet(output / "evaluation" / "history.parquet")
    assert history["is_published"].tolist() == [False, True]
    assert "<svg" in (output / "evaluation" / "history.svg").read_text()


def test_answers_of_which_only_fields_are_known_count_at_the_gate(run: RunSettings, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"question": "Where is the crate?", "document": "a.pdf", "answer": "in the yard"}
    ]
    rows += [
        {"question": f"Where is the {what}?", "document": "*", "fields": {"answer": "nowhere"}}
        for what in ("barrel", "boat")
    ]
    (tmp_path / "gold.json").write_text(json.dumps(rows))
    found = task.scored(compose_evaluate([f"run={run.output}", f"gold={tmp_path / 'gold.json'}"]))
    assert results.main_score(found).score == pytest.approx(1 / 3)
    assert results.main_score(found).answers == 3


# ---- statistics ----


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        # Answers about one document are right or wrong together: an interval over answers is too narrow.
        easy = random.beta(2, 2, 60)
        documents = np.repeat(np.arange(60), 4)
        estimate = statistics.mean((random.random(240) < easy[documents]).astype(float), documents)
        assert estimate is not None
        held += estimate.low <= 0.5 <= estimate.high
    assert 180 <= held <= 198


def test_a_few_answers_that_are_all_right_do_not_prove_much() -> None:
    estimate = statistics.mean(np.ones(5), np.arange(5))
    assert estimate is not None
    assert estimate.low < 0.6
    assert estimate.high == 1
    assert statistics.mean(np.ones(0), np.arange(0)) is None
    one_document = statistics.mean(np.array([1.0, 0.0, 1.0, 0.0]), np.zeros(4, int))
    assert one_document is not None
    assert one_document.low < 0.5 < one_document.high


@pytest.mark.parametrize("rate", [0.5, 0.9])
def test_a_few_documents_that_all_say_the_same_leave_room_for_others(rate: float) -> None:
    estimate = statistics.mean(np.full(2, rate), np.arange(2))
    assert estimate is not None
    assert estimate.low < 0.2 < rate < estimate.high <= 1
    assert estimate.high > 0.9
    worse, better = (
        statistics.difference(np.full(2, new), np.full(2, 1 - new), np.arange(2)) for new in (0.0, 1.0)
    )
    assert worse is not None and better is not None
    assert (worse.low, worse.high) == (-better.high, -better.low)
    assert worse.high - worse.low > 0.5


def test_many_sorts_of_documents_have_the_interval_that_resampling_would_give() -> None:
    values = np.random.default_rng(2).random(12_000)
    wide = statistics.mean(values, np.arange(12_000))
    coarse = statistics.mean(np.round(values, 2), np.arange(12_000))
    assert wide is not None and coarse is not None
    assert wide.low == pytest.approx(coarse.low, abs=1e-3)
    assert wide.high == pytest.approx(coarse.high, abs=1e-3)


def test_confidence_is_measured_in_bins_and_by_what_trusting_the_surest_costs() -> None:
    found = reliability.measure([0.95, 0.95, 0.05, 0.05, float("nan")], [True, False, False, False, True])
    assert found is not None
    assert found.ece == pytest.approx(0.25)
    assert [(each.answers, each.right) for each in found.bins] == [(2, 0.0), (2, 0.5)]
    assert [share for share, _ in found.risk_at] == [0.5, 0.8, 0.9, 1.0]
    assert [risk for _, risk in found.risk_at] == pytest.approx([0.5, 2 / 3, 0.75, 0.75])
    assert reliability.measure([], []) is None


# ---- calibration ----


def answers(count: int, seed: int = 0) -> calibrate.Judged:
    """Return answers that are right as often as the square of their confidence says; scans, half that."""
    random = np.random.default_rng(seed)
    confidence = random.random(count)
    qualities = tuple("text" if number % 2 else "clean_scan" for number in range(count))
    factor = np.where([quality == "text" for quality in qualities], 1.0, 0.5)
    right = (random.random(count) < factor * confidence**2).astype(float)
    return calibrate.Judged(confidence, right, np.arange(count) // 3, qualities)


@pytest.mark.parametrize("method", ["isotonic", "platt"])
def test_calibrated_confidence_is_the_share_of_right_answers(method: str) -> None:
    fitted = calibrate.fit(answers(4000), "embedded", method)
    unseen = answers(4000, seed=1)
    calibrated = [fitted.of(c, q) for c, q in zip(unseen.confidence, unseen.qualities, strict=True)]
    after = reliability.measure(np.asarray(calibrated, float), unseen.right)
    checked = calibrate.cross_validate(answers(1000), method)
    assert after is not None
    assert after.ece < 0.03
    assert checked.before.ece > 0.2
    assert checked.after.ece < 0.08
    scan, text = fitted.of(0.9, "clean_scan"), fitted.of(0.9, "text")
    assert scan is not None and text is not None
    assert scan < 0.6 < text
    assert fitted.of(None, "text") is None


def test_too_few_answers_and_one_document_are_refused() -> None:
    with pytest.raises(SettingsError, match="19 judged answers have a confidence, and 20 are needed"):
        calibrate.check(answers(19))
    calibrate.check(answers(20))
    assert calibrate.cross_validate(answers(20), "auto").folds > 1
    one = answers(60)
    with pytest.raises(SettingsError, match="all judged answers are about one document"):
        calibrate.cross_validate(
            calibrate.Judged(one.confidence, one.right, np.zeros(60, int), one.qualities), "auto"
        )


def test_a_calibration_is_applied_when_tables_are_written_without_asking_again(
    run: RunSettings, tmp_path: Path
) -> None:
    file = tmp_path / "qa.calibration.json"
    file.write_text(calibrate.fit(answers(300), "embedded", "platt").to_json())
    before = pd.read_parquet(Path(run.output) / "answers")
    assert before["page_quality"].tolist() == ["text"] * 3
    assert (before["engine_confidence"] == before["confidence"]).all()
    summary = execute(settings(tmp_path, f"engine.calibration={file}", "engine.review_below=0.99"))
    after = pd.read_parquet(Path(run.output) / "answers")
    assert (summary.requests, summary.derived) == (0, 3)
    assert sorted(after["engine_confidence"]) == sorted(before["confidence"])
    fitted = calibration.read(str(file))
    assert [fitted.of(c, "text") for c in after["engine_confidence"]] == pytest.approx(
        after["confidence"].tolist()
    )
    assert after["needs_review"].all()
    # The same file with other contents is another calibration.
    file.write_text(calibrate.fit(answers(300, seed=3), "embedded", "platt").to_json())
    assert execute(settings(tmp_path, f"engine.calibration={file}")).derived == 3


def test_a_calibration_of_another_engine_or_none_is_refused(run: RunSettings, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text(calibrate.fit(answers(300), "vllm", "auto").to_json())
    with pytest.raises(SettingsError, match="was fitted on answers of engine=vllm, not of embedded"):
        execute(settings(tmp_path, f"engine.calibration={file}"))
    values = json.loads(file.read_text())
    for spoilt in (
        "{}",
        "[1]",
        json.dumps(values | {"everything": {"confidence": [0.5, 0.1], "right": [0, 1], "answers": 1}}),
    ):
        file.write_text(spoilt)
        with pytest.raises(SettingsError, match="is no calibration"):
            execute(settings(tmp_path, f"engine.calibration={file}"))


def test_answers_that_a_calibration_was_fitted_on_do_not_say_what_it_is_worth(
    run: RunSettings, tmp_path: Path
) -> None:
    scores(run)
    keys = list(task.scored(compose_evaluate([f"run={run.output}"]), has_keys=True).keys)
    file = tmp_path / "seen.json"
    file.write_text(
        calibrate.fit(answers(300), "embedded", "auto", frozenset(f"{k:x}" for k in keys[:2])).to_json()
    )
    execute(settings(tmp_path, f"engine.calibration={file}"))
    done = task.perform(compose_evaluate([f"run={run.output}"]))
    assert "2 answers were fitted on and are left out of what confidence is worth" in done.text


@pytest.mark.parametrize("content", [b"\xff\xfe{}", b"[]", b"{"])
def test_a_calibration_that_cannot_be_read_is_refused_in_a_line(
    run: RunSettings, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "torn.json").write_bytes(content)
    with pytest.raises(SettingsError, match="is no calibration"):
        execute(settings(tmp_path, f"engine.calibration={tmp_path / 'torn.json'}"))
