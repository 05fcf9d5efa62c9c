"""What the pipeline adds to vLLM: room for full steps, and nothing where a vLLM has no place for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import RunSettings
from pipeline.engines.vllm import additions, encoder_room, memory, preflight
from pipeline.engines.vllm.layout import layout
from pipeline.engines.vllm.memory import Gpu, Layout
from pipeline.errors import SettingsError

SCHEDULER = additions.ADDITIONS["scheduler_cls"]
WORKER = additions.ADDITIONS["worker_extension_cls"]


@given(
    images=st.lists(st.integers(1, 64), min_size=1, max_size=60),
    step_tokens=st.integers(64, 128),
    steps_under_way=st.integers(1, 4),
)
def test_the_images_of_full_steps_have_room_whatever_their_sizes(
    images: Sequence[int], step_tokens: int, steps_under_way: int
) -> None:
    """Pages of images alone, one after the other: nothing fills a step with more of them."""
    room = encoder_room.full_steps(step_tokens, steps_under_way, 64)
    ends = [sum(images[: place + 1]) for place in range(len(images))]
    steps = [range(begin, begin + step_tokens) for begin in range(0, ends[-1], step_tokens)]
    read_by = [
        {n for n, step in enumerate(steps) if step.start < end and end - size < step.stop}
        for end, size in zip(ends, images, strict=True)
    ]
    for number in range(len(steps)):
        computed = sum(size for size, by in zip(images, read_by, strict=True) if min(by) == number)
        assert computed <= room.in_a_step
        under_way = set(range(number - steps_under_way + 1, number + 1))
        assert sum(size for size, by in zip(images, read_by, strict=True) if by & under_way) <= room.kept


def test_what_a_vllm_has_no_place_for_is_left_out_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, SCHEDULER.rpartition(".")[0], None)
    monkeypatch.setitem(sys.modules, WORKER.rpartition(".")[0], ModuleType("packed"))
    kept = additions.loadable({"seed": 0, **additions.ADDITIONS})
    assert kept == {"seed": 0, "worker_extension_cls": WORKER}
    assert SCHEDULER in capsys.readouterr().out


def test_another_scheduler_that_is_asked_for_is_kept() -> None:
    assert additions.loadable({"scheduler_cls": "mine.Scheduler"}) == {"scheduler_cls": "mine.Scheduler"}
    assert additions.loadable({"scheduler_cls": None}) == {"scheduler_cls": None}


class Workers:
    """Workers of two GPUs, which say why they encode images as vLLM does."""

    def __init__(self, *reasons: str | None) -> None:
        self.reasons = list(reasons)
        self.called: list[str] = []

    def collective_rpc(self, method: str) -> list[str | None]:
        self.called.append(method)
        return self.reasons


@pytest.mark.parametrize(
    ("reasons", "said"),
    [((None, None), "are encoded packed"), (("no GPU", "no GPU"), "are encoded as vLLM does: no GPU\n")],
)
def test_the_engines_log_says_how_images_are_encoded(
    reasons: tuple[str | None, str | None], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    workers = Workers(*reasons)
    additions.start(workers, additions.ADDITIONS)
    assert workers.called == ["pack_images"]
    assert said in capsys.readouterr().out


def test_workers_without_the_addition_are_asked_for_nothing() -> None:
    workers = Workers(None)
    additions.start(workers, {"worker_extension_cls": ""})
    assert workers.called == []


def gpus(count: int, total_gib: float = 139.8) -> list[Gpu]:
    return [Gpu(str(number), "NVIDIA", total_gib, total_gib) for number in range(count)]


@pytest.fixture
def settings(compose: Callable[..., RunSettings]) -> Callable[..., RunSettings]:
    return lambda *overrides: compose("input=.", "engine=vllm", "engine.quantization=fp8", *overrides)


def test_a_copy_takes_the_gpus_of_all_its_stages(settings: Callable[..., RunSettings]) -> None:
    two_stages = settings("engine.tensor_parallel=1", "+engine.args.pipeline_parallel_size=2")
    assert layout(two_stages.engine.vllm, two_stages.model, gpus(5), None) == Layout(1, 2, 2)
    given = settings("+engine.args.pipeline_parallel_size=2")
    assert layout(given.engine.vllm, given.model, gpus(8), None) == Layout(1, 2, 4)
    for overrides in ["engine.tensor_parallel=4"], ["engine.replicas=2", "engine.tensor_parallel=2"]:
        wide = settings("+engine.args.pipeline_parallel_size=2", *overrides)
        with pytest.raises(SettingsError, match=overrides[0].partition("=")[0]):
            layout(wide.engine.vllm, wide.model, gpus(6), None)
    many = settings("+engine.args.pipeline_parallel_size=3")
    with pytest.raises(SettingsError, match="pipeline_parallel_size=3"):
        layout(many.engine.vllm, many.model, gpus(2), None)


def test_stages_have_the_room_that_the_real_engine_had(settings: Callable[..., RunSettings]) -> None:
    """vLLM had 62.5 GiB of weights on each of two H100s, and room for 55,696 tokens of 16 bits."""
    stages = settings(
        "engine.tensor_parallel=1", "+engine.args.pipeline_parallel_size=2",
        "engine.gpu_memory_utilization=0.93", "model.context_tokens=32768",
    )  # fmt: skip
    found = memory.fit(stages.engine.vllm, stages.model, 79.6, None, Layout(1, 2, 1))
    assert found.weights_gib == pytest.approx(62.5, rel=0.02)
    assert 0.8 * 55_696 < found.cache_tokens < 55_696
    assert "2 x NVIDIA" in preflight.check(stages.engine.vllm, stages.model, gpus(2, 79.6), None)


def test_memory_that_is_left_to_images_is_enough_for_them(settings: Callable[..., RunSettings]) -> None:
    greedy = settings("engine.gpu_memory_utilization=0.995")
    with pytest.raises(SettingsError, match=r"for the images of a step.*set 0\.98 or less"):
        preflight.check(greedy.engine.vllm, greedy.model, gpus(2), None)
    given = settings("engine.gpu_memory_utilization=0.98")
    assert preflight.check(given.engine.vllm, given.model, gpus(2), None)
