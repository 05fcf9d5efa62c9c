"""The network of training/ is the one that vLLM runs, and its requests are those of the pipeline."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))
import lessons
import pages
from export import export
from network import IMAGE, Pixtral, Shape
from train import save

from pipeline.asking.tokens import TokenCounter

if TYPE_CHECKING:
    from conftest import Bench

FONTS = ("helv", "tibo", "cour")
"""Those that MuPDF has."""


@pytest.fixture(scope="module")
def teacher() -> lessons.Teacher:
    return lessons.Teacher()


def made_up(rng: random.Random, count: int) -> list[tuple[int, pages.Page]]:
    return [(number, pages.page(rng, (256, 160), FONTS)) for number in range(5, 5 + count)]


@pytest.mark.parametrize("count", [1, 3, 8])
def test_a_lesson_has_the_tokens_of_the_pipeline(teacher: lessons.Teacher, count: int) -> None:
    counter = TokenCounter(teacher.settings.model, lessons.SYSTEM_PROMPT)
    lesson = teacher.lesson(rng := random.Random(count), made_up(rng, count), 30)
    encoded = teacher.encode(lesson)
    blank = Image.new("RGB", (256, 160))
    shown = [(f"Page {number} of 30", blank) for number, _ in lesson.shown]
    assert encoded.tokens[: encoded.begin] == counter.encode(shown, lesson.prompt)
    merge = teacher.merge(rng, [line for _, page in made_up(rng, 8) for line in page.lines])
    encoded = teacher.encode(merge)
    assert encoded.tokens[: encoded.begin] == counter.encode([], merge.prompt)


def test_characters_are_said_to_be_where_ink_is() -> None:
    rng, painter = random.Random(1), pages.Painter()
    for _ in range(20):
        page = pages.page(rng, rng.choice(pages.SIZES_PX), FONTS)
        image = painter.draw(page)
        rows, columns, _ = np.nonzero(pages.seen(page)[..., 1 : 1 + len(pages.CODE)])
        assert len(rows) == len(pages.CODE) * len(page.lines)
        side = pages.PATCH_PX
        darkest = [
            image[row * side : (row + 1) * side, column * side : (column + 1) * side].min()
            for row, column in zip(rows, columns, strict=True)
        ]
        assert max(darkest) < 200


def test_vllm_scores_tokens_as_the_network_does(open_bench: Callable[..., Bench], tmp_path: Path) -> None:
    torch.manual_seed(5)
    network = Pixtral(Shape())
    with torch.no_grad():  # so large that the image decides
        for name, weights in network.named_parameters():
            weights.mul_(3 if "tok_embeddings" in name else 1.5 if weights.dim() > 1 else 1)
        network.to(torch.bfloat16).float()  # as they are written
    save(network, tmp_path / "weights.safetensors")
    folder = export(tmp_path / "weights.safetensors", tmp_path / "model")
    bench = open_bench(
        tmp_path / "bench", "task=transcribe", f"model.path={folder}", "engine.args.load_format=mistral",
        "+engine.args.dtype=float32", "task.max_output_tokens=4",
    )  # fmt: skip
    shown = [bench.page(number, 64, 48) for number in (1, 2)]
    with bench.engine:
        (said,) = bench.answer(bench.request("one", shown, "What is it?")).values()
    assert said.failure is None
    images = [np.asarray(Image.open(str(page.image)).convert("L")) for page in shown]
    prompt = [
        (f"Page {page.number} of 9", Image.fromarray(image))
        for page, image in zip(shown, images, strict=True)
    ]
    text = bench.request("one", shown, "What is it?").prompt
    expected = greedy(network, bench.counter.encode(prompt, text), images, 4)
    assert said.token_probabilities == pytest.approx(expected, rel=1e-3)
    exchanged = greedy(network, bench.counter.encode(prompt, text), images[::-1], 4)
    assert said.token_probabilities != pytest.approx(exchanged, rel=1e-3)


@torch.no_grad()
def greedy(network: Pixtral, tokens: list[int], images: list[np.ndarray], count: int) -> list[float]:
    """Return the probabilities of the tokens that the network finds most likely, one after the other."""
    found = []
    patches = network.patches(torch.tensor(np.stack(images)).float())
    for _ in range(count):
        scores = network.logits(network.hidden(torch.tensor([tokens]), patches)[0, -1]).softmax(-1)
        tokens = [*tokens, int(scores.argmax())]
        found.append(float(scores.max()))
    return found


def test_a_reader_is_told_to_look_at_the_code_that_it_writes(teacher: lessons.Teacher) -> None:
    rng = random.Random(2)
    for _ in range(50):
        lesson = teacher.lesson(rng, made_up(rng, 3), 30)
        encoded = teacher.encode(lesson)
        reply = encoded.tokens[encoded.begin :]
        written = teacher.tokenizer.tokenizer.decode(reply)
        assert json.loads(written) == json.loads(lesson.asked.reply())
        if lesson.asked.line is None:
            assert set(encoded.wants) == {lessons.NO_PLACE}
            continue
        places = [bits for bits in encoded.wants if bits != lessons.ANYWHERE]
        code = [1 << place for place in range(len(pages.CODE))]
        # In the quote, and, unless it is the number of a page, in the answer.
        assert places == (code if lesson.asked.answer == str(lesson.asked.page) else 2 * code)
        assert {encoded.tokens[at] for at, bits in encoded.marks.items() if bits & lessons.ANYWHERE} == {
            IMAGE
        }
