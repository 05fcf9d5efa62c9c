"""The seven data sets of the model's card, in small files with the columns as they are published."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.errors import SettingsError
from pipeline.evaluating import golden, judge, profiles
from pipeline.evaluating.datasets import base, known, write
from pipeline.evaluating.datasets.base import Item
from pipeline.evaluating.metrics.rating import NO_RATING

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TEXTS = pa.list_(pa.string())


def picture(color: str = "red", form: str = "PNG") -> dict[str, Any]:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), color).save(file, form)
    return {"bytes": file.getvalue(), "path": "x.png"}


S, N = pa.string(), pa.int64()
SCHEMAS = {
    "docvqa": {"questionId": S, "question": S, "question_types": TEXTS, "image": IMAGE, "docId": N,
               "ucsf_document_id": S, "ucsf_document_page_no": S, "answers": TEXTS, "data_split": S},
    "chartqa": {"type": S, "question": S, "answer": S, "image": IMAGE},
    "mmmu": {"id": S, "question": S, "options": S, "explanation": S,
             **{f"image_{n}": IMAGE for n in range(1, 8)}, "img_type": S, "answer": S,
             "topic_difficulty": S, "question_type": S, "subfield": S},
    "mathvista": {"pid": S, "question": S, "image": S, "decoded_image": IMAGE, "choices": TEXTS, "unit": S,
                  "precision": pa.float64(), "answer": S, "question_type": S, "answer_type": S,
                  "metadata": pa.struct([("category", S), ("task", S), ("skills", TEXTS)]), "query": S},
    "vqav2": {"question_type": S, "multiple_choice_answer": S,
              "answers": pa.list_(pa.struct([("answer", S), ("answer_confidence", S), ("answer_id", N)])),
              "image_id": N, "answer_type": S, "question_id": N, "question": S, "image": IMAGE},
    "ai2d": {"question": S, "options": TEXTS, "answer": S, "image": IMAGE},
    "mm_mt_bench": {"image": IMAGE, "conversation": S, "category": S},
}  # fmt: skip
PERSON = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}
TURNS = [
    PERSON, {"role": "assistant", "content": "A bar."}, {"role": "user", "content": "How high?"},
    {"role": "assistant", "content": [{"type": "text", "text": "Five."}]},
]  # fmt: skip
ROWS: dict[str, list[dict[str, Any]]] = {
    "docvqa": [{"questionId": "7", "question": "Whose?", "question_types": ["form"], "image": picture(),
                "answers": ["Ada", "ada l."]}],
    "chartqa": [{"type": "human_test", "question": "How many?", "answer": "14",
                 "image": picture(form="JPEG")}],
    "mmmu": [
        {"id": "v_1", "question": "Which of <image 2> and <image 1>?", "options": "['<image 1>', 'both']",
         "image_1": picture("red"), "image_2": picture("blue"), "answer": "B",
         "question_type": "multiple-choice", "subfield": "Logic"},
        {"id": "v_2", "question": "How much is <image 1>?", "options": "[]", "image_1": picture(),
         "answer": "['0.5', '1/2']", "question_type": "open", "subfield": "Sums"},
    ],
    "mathvista": [
        {"pid": "1", "decoded_image": picture(), "choices": ["3/11", "8/11"], "answer": "8/11",
         "query": "Which?", "question_type": "multi_choice", "answer_type": "text",
         "metadata": {"task": "geometry"}},
        {"pid": "2", "decoded_image": picture(), "choices": None, "answer": "1.5", "precision": 1.0,
         "query": "How long?", "question_type": "free_form", "answer_type": "float", "metadata": None},
    ],
    "vqav2": [{"question_id": 42, "question": "Is it red?", "answer_type": "yes/no", "image": picture(),
               "answers": [{"answer": "yes", "answer_confidence": "yes", "answer_id": n}
                           for n in range(10)]}],
    "ai2d": [{"question": "Which?", "options": ["fox", "whale"], "answer": "1", "image": picture()},
             {"question": "Which?", "options": ["fox", "whale"], "answer": "b", "image": picture()}],
    "mm_mt_bench": [{"image": picture(), "conversation": json.dumps(TURNS), "category": "charts"},
                    {"image": picture(), "conversation": json.dumps({"messages": TURNS[:2]}),
                     "category": "misc"}],
}  # fmt: skip


def published(name: str, folder: Path) -> Path:
    schema = pa.schema(list(SCHEMAS[name].items()))
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(ROWS[name], schema=schema), folder / f"{name}-00000.parquet")
    return folder


def items(name: str, folder: Path) -> list[base.Item]:
    dataset = known.DATASETS[name]
    rows = enumerate(base.rows(str(published(name, folder)), dataset.columns))
    return [item for number, row in rows for item in dataset.items(row, number)]


@pytest.mark.parametrize(
    ("name", "golds", "groups"),
    [
        ("docvqa", [("Ada", "ada l.")], ["form"]),
        ("chartqa", [("14",)], ["human_test"]),
        ("mmmu", [("B",), ("0.5", "1/2")], ["Logic", "Sums"]),
        ("mathvista", [("B",), ("1.5",)], ["geometry", ""]),
        ("vqav2", [("yes",) * 10], ["yes/no"]),
        ("ai2d", [("B",), ("B",)], ["", ""]),
        ("mm_mt_bench", [("A bar.",), ("Five.",), ("A bar.",)], ["charts", "charts", "misc"]),
    ],
)
def test_each_set_gives_its_questions_and_what_is_right(
    tmp_path: Path, name: str, golds: list[tuple[str, ...]], groups: list[str]
) -> None:
    found = items(name, tmp_path / "files")
    assert [item.golds for item in found] == golds
    assert [item.group for item in found] == groups
    done = write.write(name, str(tmp_path / "files"), tmp_path / "set", None)
    with (tmp_path / "set" / "questions.csv").open(newline="", encoding="utf-8") as file:
        asked = list(csv.DictReader(file))
    assert len(asked) == done.items == len(golds)
    for row in asked:
        with Image.open(tmp_path / "set" / "images" / row["document"]) as shown:
            assert shown.size == (8, 6)
    if name != "mm_mt_bench":  # a judge rates it
        read = golden.read(tmp_path / "set" / "gold.jsonl")
        assert [row.gold.answers for row in read.rows] == golds
        assert profiles.named(done.dataset.metric, done.dataset.profile)
    assert f"task={done.dataset.task}" in str(done)


def test_images_of_a_question_are_pages_in_the_order_in_which_it_names_them(tmp_path: Path) -> None:
    item = items("mmmu", tmp_path / "files")[0]
    assert item.question == "Which of (page 1) and (page 2)?\nA. (page 2)\nB. both"
    write.write("mmmu", str(tmp_path / "files"), tmp_path / "set", 1)
    with Image.open(tmp_path / "set" / "images" / "v_1.tif") as pages:
        assert pages.n_frames == 2  # type: ignore[attr-defined]
        assert pages.convert("RGB").getpixel((0, 0)) == (0, 0, 255)


def test_items_whose_ids_differ_in_a_sign_alone_have_images_of_their_own(tmp_path: Path) -> None:
    (image,) = items("mmmu", tmp_path / "files")[1].images[:1]
    ids = ("a/b", "a_b", "a b")
    made = [write._write_images(Item(each, (image,), "?", ("x",)), tmp_path) for each in ids]
    assert len(set(made)) == len(ids)
    assert "a_b.png" in made


def test_a_turn_is_asked_after_the_reference_answers_of_those_before_it(tmp_path: Path) -> None:
    second = items("mm_mt_bench", tmp_path / "files")[1]
    assert "User: What is it?\n\nAssistant: A bar." in second.question
    assert second.question.endswith("How high?")


def test_rows_are_read_a_few_at_a_time(tmp_path: Path) -> None:
    """A file of gigabytes must not be in memory for its first rows."""
    schema = pa.schema(list(SCHEMAS["chartqa"].items()))
    file = tmp_path / "many.parquet"
    row = ROWS["chartqa"][0] | {"image": {"bytes": bytes(1 << 20), "path": None}}
    with pq.ParquetWriter(file, schema, compression="none") as writer:
        for _ in range(128):
            writer.write_table(pa.Table.from_pylist([row], schema=schema))
    pa.default_memory_pool().release_unused()
    before = pa.total_allocated_bytes()
    rows = base.rows(str(file), known.DATASETS["chartqa"].columns)
    next(rows)
    assert pa.total_allocated_bytes() - before < 64 << 20


def test_files_of_another_kind_are_told_in_a_line(tmp_path: Path) -> None:
    files = str(published("chartqa", tmp_path / "files"))
    for name, where, said in (
        ("mmmu", files, "has no column question_type"),
        ("imagenet", files, "must be one of ai2d, chartqa"),
        ("chartqa", str(tmp_path / "nowhere"), "there are no such Parquet files"),
    ):
        with pytest.raises(SettingsError, match=said):
            write.write(name, where, tmp_path / "set", None)


def test_metrics_of_a_set_know_its_options_and_forms() -> None:
    metrics = profiles.of_items("official")
    choice: dict[str, Any] = {"question_type": "multiple-choice", "options": {"A": "fox", "B": "whale"}}
    assert metrics["official", "mmmu"]("The answer is B.", ["B"], choice) == 1.0
    assert metrics["official", "choice_inferred"]("the whale", ["B"], choice) == 1.0
    form: dict[str, Any] = {
        "question_type": "free_form",
        "answer_type": "float",
        "precision": 1.0,
        "answer": "1.5",
    }
    assert metrics["official", "mathvista"]("It is long.\nFinal Answer: 1.51", ["1.5"], form) == 1.0
    assert math.isnan(metrics["official", "mathvista"]("B", ["B"], choice))
    assert math.isnan(metrics["official", "mmmu"]("1.5", ["1.5"], form))


def test_a_judge_is_asked_again_and_sees_the_image_unless_it_is_that_of_mistral_evals() -> None:
    seen: list[tuple[str, bytes | None]] = []

    def rates(prompt: str, image: bytes | None) -> str:
        seen.append((prompt, image))
        return "[[8]]" if len(seen) % 2 == 0 else "no idea"

    reply = judge.Reply("charts", 0, "How high?", "Five.", "5", b"image")
    assert judge.rate([reply], rates).micro == 8
    assert all("How high?" in prompt and image == b"image" for prompt, image in seen)
    seen.clear()
    judge.rate([reply], rates, judge.UPSTREAM)
    assert all("How high?" not in prompt and image is None for prompt, image in seen)
    never = judge.rate([reply], lambda prompt, image: "none", attempts=2)
    assert (never.micro, never.failed, NO_RATING) == (None, 1, -1)
