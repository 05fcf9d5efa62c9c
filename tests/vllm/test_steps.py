"""Every step of the real vLLM reads as many tokens as it may, while there is something left to read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Bench

STEP = 4096  # one image of the largest size


def test_steps_are_full_whatever_the_images_and_each_is_computed_once_and_in_order(
    open_bench: Callable[..., Bench], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPS", str(tmp_path / "steps"))
    made = open_bench(
        tmp_path,
        "task=transcribe",
        "task.max_output_tokens=2",
        f"engine.max_batched_tokens={STEP}",
        "+engine.args.scheduler_cls=logged.LoggedScheduler",
    )
    # Beginning and ending inside an image, at other places in every step; the largest image is a step.
    shapes = [(736, 1024), (1024, 1024), (720, 720), (1024, 736), (304, 96)]
    pages = [made.page(number + 1, *shapes[number % 5]) for number in range(10)]
    asked = [
        made.request(f"request {n}", list(pages[2 * n : 2 * n + 2]), "What is it about?") for n in range(5)
    ]
    with made.engine:
        done = made.answer(*asked)
        first = (tmp_path / "steps").read_text().splitlines()
        again = made.answer(made.request("again", list(asked[4].pages), "And who wrote it?"), window_number=1)
    assert {name: completion.prompt_tokens for name, completion in done.items()} == {
        request.request_id: request.prompt_tokens for request in asked
    }
    steps = [json.loads(line) for line in first]
    assert [(sum(step["read"].values()), min(STEP, step["unread"])) for step in steps] == [
        (min(STEP, step["unread"]), min(STEP, step["unread"])) for step in steps
    ]
    assert any(step["unread"] > 2 * STEP for step in steps), "there was never more than a step to read"
    begun = list(dict.fromkeys(name for step in steps for name in step["read"]))
    assert begun == sorted(begun, key=lambda name: int(name.partition("-")[0]))
    images: Counter[str] = Counter()
    for step in steps:
        images.update(step["images"])
    assert list(images.values()) == [2] * 5
    assert again["again"].cached_tokens > 0.9 * sum(
        made.counter.image(p.width_px, p.height_px) for p in asked[4].pages
    )
