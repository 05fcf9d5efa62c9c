"""The seven data sets of the model's card: which columns they have, and what of them is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from pipeline.evaluating.datasets.base import (
    Dataset,
    Item,
    Row,
    image,
    lettered,
    literal,
    needed_image,
    text,
    texts,
    with_options,
)
from pipeline.evaluating.datasets.conversation import conversation
from pipeline.records import Json

_MOST_IMAGES = 7
_TAG = re.compile(r"<image (\d)>")


def _docvqa(row: Row, number: int) -> Iterator[Item]:
    name = text(row, "questionId") or str(number)
    types = ", ".join(texts(row.get("question_types")))
    yield Item(name, (needed_image(row, "image"),), text(row, "question"), texts(row["answers"]), types)


def _chartqa(row: Row, number: int) -> Iterator[Item]:
    golds = (text(row, "answer"),)
    yield Item(str(number), (needed_image(row, "image"),), text(row, "question"), golds, text(row, "type"))


def _vqav2(row: Row, number: int) -> Iterator[Item]:
    name = text(row, "question_id") or str(number)
    golds = texts(row["answers"])
    yield Item(name, (needed_image(row, "image"),), text(row, "question"), golds, text(row, "answer_type"))


def _ai2d(row: Row, number: int) -> Iterator[Item]:
    options = lettered(texts(row["options"]))
    gold = text(row, "answer").strip()
    # As a place from 0, or as the letter itself.
    letter = chr(ord("A") + int(gold)) if gold.isdecimal() else gold.upper()
    about: dict[str, Json] = {"options": dict(options)}
    question = with_options(text(row, "question"), options)
    yield Item(str(number), (needed_image(row, "image"),), question, (letter,), about=about)


def _mmmu(row: Row, number: int) -> Iterator[Item]:
    options = lettered(texts(literal(text(row, "options")))) if text(row, "options") else {}
    images, question = _in_order(row, with_options(text(row, "question"), options))
    gold = text(row, "answer")
    # Open questions may have several right answers, written as a list in the one column.
    golds = texts(gold) if "[" in gold else (gold,)
    about: dict[str, Json] = {"question_type": text(row, "question_type"), "options": dict(options)}
    yield Item(text(row, "id") or str(number), images, question, golds, text(row, "subfield"), about)


def _in_order(row: Row, question: str) -> tuple[tuple[bytes, ...], str]:
    """Return the images that a question names, in that order, and the question with the pages they become.

    The pipeline shows images before the question, as pages that have numbers.
    """
    named = [number for number in dict.fromkeys(_TAG.findall(question)) if image(row, f"image_{number}")]
    if not named:
        named = [str(n) for n in range(1, _MOST_IMAGES + 1) if image(row, f"image_{n}")]
    pages = {number: page for page, number in enumerate(named, 1)}
    images = tuple(needed_image(row, f"image_{number}") for number in named)
    return images, _TAG.sub(lambda tag: f"(page {pages.get(tag[1], 1)})", question)


def _mathvista(row: Row, number: int) -> Iterator[Item]:
    choices = texts(row.get("choices"))
    answer = text(row, "answer")
    letters = lettered(choices)
    gold = next((letter for letter, choice in letters.items() if choice == answer), answer)
    about: dict[str, Json] = {
        "question_type": text(row, "question_type"),
        "answer_type": text(row, "answer_type"),
        "choices": list(choices),
        "precision": _number(row.get("precision")),
        "answer": answer,
    }
    images = (needed_image(row, "decoded_image"),)
    yield Item(text(row, "pid") or str(number), images, text(row, "query"), (gold,), _task(row), about)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _task(row: Row) -> str:
    metadata = row.get("metadata")
    return str(metadata.get("task", "")) if isinstance(metadata, Mapping) else ""


def _mm_mt_bench(row: Row, number: int) -> Iterator[Item]:
    """Yield each turn of a conversation: earlier ones are shown with their reference answers."""
    picture = (needed_image(row, "image"),)
    for turn, (question, reference) in enumerate(conversation(row["conversation"])):
        about: dict[str, Json] = {"turn": turn}
        yield Item(f"{number}-{turn}", picture, question, (reference,), text(row, "category"), about)


_RELAXED = "relaxed_explicit"
DATASETS: Mapping[str, Dataset] = {
    each.name: each
    for each in (
        Dataset("docvqa", "lmms-lab/DocVQA, validation", "benchmark_short", "mistral_evals", "anls",
                ("image", "question", "answers"), _docvqa),
        Dataset("chartqa", "lmms-lab/ChartQA, test", "benchmark_reasoned", "mistral_evals", _RELAXED,
                ("image", "question", "answer"), _chartqa),
        Dataset("vqav2", "HuggingFaceM4/VQAv2, validation, as Parquet", "benchmark_vqa", "mistral_evals",
                "vqa_match", ("image", "question", "answers"), _vqav2),
        Dataset("mmmu", "MMMU/MMMU, validation", "benchmark_reasoned", "mistral_evals", _RELAXED,
                ("question_type", "options", "question", "image_1", "answer"), _mmmu),
        Dataset("mathvista", "AI4Math/MathVista, testmini", "benchmark_reasoned", "mistral_evals", _RELAXED,
                ("decoded_image", "query", "choices", "answer"), _mathvista),
        Dataset("ai2d", "lmms-lab/ai2d (labels masked) or ai2d-no-mask, test", "benchmark_letter", "official",
                "choice_exact", ("image", "question", "options", "answer"), _ai2d),
        Dataset("mm_mt_bench", "mistralai/MM-MT-Bench, eval", "benchmark_open", "mistral_evals", "rating",
                ("image", "conversation", "category"), _mm_mt_bench),
    )
}  # fmt: skip


def names() -> Sequence[str]:
    """Return the names of the data sets."""
    return sorted(DATASETS)
