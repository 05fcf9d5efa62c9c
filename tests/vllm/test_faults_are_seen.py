"""What may go wrong between pages and model makes answers wrong, and tests of answers fail by it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import stale
from check import Read, compared
from documents import write

from pipeline.config import VllmSettings
from pipeline.engines.vllm import replica, translate
from pipeline.engines.vllm.backlog import Work
from pipeline.engines.vllm.messages import Prompt

if TYPE_CHECKING:
    from conftest import Bench


class Reading:
    """Three documents of four pages and questions about them, put to one engine as the pipeline puts them."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        # Of one size, so that vLLM can take the pages of one for those of another.
        self.gold = write(folder, [stale.PAGES] * 3, seed=104, questions=8, sizes_px=[(256, 160)])
        self.bench = bench
        self.pages = {name: bench.drawn(folder / name) for name in {each.document for each in self.gold}}

    def read(self) -> Read:
        """Ask all, one after the other's pages are read; return what is right of the answers."""
        asked = [self.bench.request(g.question_id, self.pages[g.document], g.question) for g in self.gold]
        done = self.bench.answer(*asked)
        failed = [said.failure.message for said in done.values() if said.failure]
        assert failed == []  # what is refused shows nothing of what is read
        said = [_value(done[each.question_id].text) for each in self.gold]
        return compared([(each["answer"], each["pages"]) for each in said], self.gold)


def _value(text: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except ValueError:  # as what follows from wrong pages may be: no answer at all, and not the right one
        return {"answer": text, "pages": []}


@pytest.fixture(scope="module")
def reading(
    open_reader_bench: Callable[..., Bench], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reading]:
    folder = tmp_path_factory.mktemp("reading")
    made = open_reader_bench(folder)
    with made.engine:
        yield Reading(made, folder / "in")


def test_what_is_asked_of_one_engine_is_answered(reading: Reading) -> None:
    reading.read().assert_right()


def swapped(prompt: Prompt) -> Prompt:
    """The images of the first two pages exchanged, under the labels as they were."""
    (one, first), (two, second), *others = prompt.images
    return replace(prompt, images=((one, second), (two, first), *others))


def shifted(prompt: Prompt) -> Prompt:
    """Each page under the label of the next."""
    labels = [label for label, _ in prompt.images]
    paths = [path for _, path in prompt.images]
    return replace(prompt, images=tuple(zip([*labels[1:], labels[0]], paths, strict=True)))


def dropped(prompt: Prompt) -> Prompt:
    """A page is missing."""
    return replace(prompt, images=prompt.images[:2] + prompt.images[3:])


def shown_twice(prompt: Prompt) -> Prompt:
    """A page stands in the place of another as well."""
    (one, first), (two, _), *others = prompt.images
    return replace(prompt, images=((one, first), (two, first), *others))


@pytest.mark.parametrize("fault", [swapped, shifted, dropped, shown_twice])
def test_a_fault_in_a_prompt_would_be_seen(
    reading: Reading, monkeypatch: pytest.MonkeyPatch, fault: Callable[[Prompt], Prompt]
) -> None:
    right = translate.write_prompt

    def write_wrong(work: Work, settings: VllmSettings) -> Prompt:
        return fault(right(work, settings))

    monkeypatch.setattr(replica, "write_prompt", write_wrong)
    with pytest.raises(AssertionError, match="Read"):
        reading.read().assert_right()


def test_the_prefix_of_another_document_would_be_seen(
    open_reader_bench: Callable[..., Bench], tmp_path: Path
) -> None:
    made = open_reader_bench(tmp_path, adapt_tokenizer=stale.mistake_images)
    with made.engine, pytest.raises(AssertionError, match="Read"):
        Reading(made, tmp_path / "in").read().assert_right()


def test_replies_that_no_schema_guides_are_right_as_well(
    open_reader_bench: Callable[..., Bench], tmp_path: Path
) -> None:
    made = open_reader_bench(tmp_path, envelope=None)
    with made.engine:
        Reading(made, tmp_path / "in").read().assert_right()
