from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from pipeline.config import RunSettings
from pipeline.engines import choose
from pipeline.engines.vllm import memory, preflight
from pipeline.engines.vllm.layout import layout
from pipeline.engines.vllm.memory import Gpu, Layout
from pipeline.errors import SettingsError

LARGE = {
    "dim": 12288, "n_layers": 88, "head_dim": 128, "hidden_dim": 28672, "n_heads": 96, "n_kv_heads": 8,
    "vocab_size": 32768, "max_position_embeddings": 131072,
    "vision_encoder": {"hidden_size": 1664, "intermediate_size": 8192, "num_hidden_layers": 48},
}  # fmt: skip
SMALL = {
    "dim": 5120, "n_layers": 40, "head_dim": 128, "hidden_dim": 14336, "n_heads": 32, "n_kv_heads": 8,
    "vocab_size": 131072,
    "vision_encoder": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24},
}  # fmt: skip


def gpus(count: int, total_gib: float = 139.8, free_gib: float | None = None) -> list[Gpu]:
    free = total_gib if free_gib is None else free_gib
    return [Gpu(str(n), "NVIDIA H200", total_gib, free) for n in range(count)]


@pytest.fixture
def settings(compose: Callable[..., RunSettings]) -> Callable[..., RunSettings]:
    return lambda *overrides: compose("input=.", "engine=vllm", *overrides)


@pytest.mark.parametrize(("shape", "billions"), [(LARGE, 124), (SMALL, 12.7)])
def test_parameters_are_counted_from_the_shape(shape: dict[str, object], billions: float) -> None:
    assert memory.parameters(shape) / 1e9 == pytest.approx(billions, rel=0.015)


def test_the_cache_room_is_that_of_the_real_engine(
    settings: Callable[..., RunSettings], tmp_path: Path
) -> None:
    """vLLM had room for 406,400 tokens with Pixtral-Large in FP8 on two H200s."""
    (tmp_path / "params.json").write_text(json.dumps(LARGE))
    given = settings("engine.quantization=fp8")
    found = memory.fit(given.engine.vllm, given.model, 139.8, tmp_path, Layout(2, 1, 1))
    assert found.weights_gib == pytest.approx(60.2, rel=0.02)
    assert found.cache_tokens == pytest.approx(406_400, rel=0.1)


@pytest.mark.parametrize(
    ("overrides", "count", "total_gib"),
    [
        ((), 8, 80),
        ((), 4, 139.8),
        (("engine.quantization=fp8",), 2, 139.8),
        (("model=pixtral_12b",), 1, 139.8),
        (("model=pixtral_12b",), 1, 80),
    ],
)
def test_what_fits_is_described(
    settings: Callable[..., RunSettings], overrides: tuple[str, ...], count: int, total_gib: float
) -> None:
    given = settings(*overrides)
    line = preflight.check(given.engine.vllm, given.model, gpus(count, total_gib), None)
    assert f"{count} x NVIDIA H200" in line
    assert "leaves room for about" in line


@pytest.mark.parametrize(
    ("overrides", "count", "total_gib", "advice"),
    [
        ((), 2, 139.8, "set engine.quantization=fp8"),
        (("engine.tensor_parallel=2",), 4, 139.8, "set engine.quantization=fp8"),
        (("engine.tensor_parallel=2", "engine.quantization=fp8"), 4, 80, "set engine.tensor_parallel=4"),
        (("engine.quantization=fp8",), 1, 139.8, "set model.context_tokens="),
        ((), 2, 40, "it takes at least"),
    ],
)
def test_what_does_not_fit_comes_with_what_would(
    settings: Callable[..., RunSettings],
    overrides: tuple[str, ...],
    count: int,
    total_gib: float,
    advice: str,
) -> None:
    given = settings(*overrides)
    with pytest.raises(SettingsError) as raised:
        preflight.check(given.engine.vllm, given.model, gpus(count, total_gib), None)
    message = str(raised.value)
    assert "needs 231 GiB in bf16" in message
    assert advice in message
    assert "\n" not in message


def test_advice_is_true(settings: Callable[..., RunSettings]) -> None:
    """Whatever is advised passes the check that gave the advice."""
    for count, total in [(1, 139.8), (2, 139.8), (2, 80), (4, 80), (4, 48), (8, 24), (8, 40)]:
        given = settings()
        for _ in range(2):
            try:
                preflight.check(given.engine.vllm, given.model, gpus(count, total), None)
                break
            except SettingsError as error:
                words = str(error).split(": ")[-1]
                if not words.startswith("set "):
                    break
                given = settings(*words.removeprefix("set ").split())
        else:
            pytest.fail(f"{count} x {total}: {words}")


def test_a_gpu_that_something_else_uses_is_named(settings: Callable[..., RunSettings]) -> None:
    given = settings("model=pixtral_12b")
    with pytest.raises(SettingsError, match="GPU 0 has 60 of 129 GiB free"):
        preflight.check(given.engine.vllm, given.model, gpus(1, free_gib=60), None)


@pytest.mark.parametrize(
    ("override", "key"),
    [("engine.tensor_parallel=16", "engine.tensor_parallel"), ("engine.replicas=9", "engine.replicas")],
)
def test_more_gpus_than_there_are(settings: Callable[..., RunSettings], override: str, key: str) -> None:
    given = settings(override)
    with pytest.raises(SettingsError, match=key):
        layout(given.engine.vllm, given.model, gpus(8), None)


@pytest.mark.parametrize(
    ("overrides", "count", "total_gib", "expected"),
    [
        (("model=pixtral_12b",), 8, 80, Layout(1, 1, 8)),
        # In bf16 four of these hold Pixtral-Large with room for many full requests, or for hardly one.
        ((), 8, 139.8, Layout(4, 1, 2)),
        ((), 8, 80, Layout(8, 1, 1)),
        ((), 6, 80, Layout(4, 1, 1)),
        (("engine.quantization=fp8",), 8, 139.8, Layout(2, 1, 4)),
        (("engine.quantization=fp8",), 3, 139.8, Layout(2, 1, 1)),
        # Two short requests would fit on one, but nothing could be read while replies are written.
        (("engine.quantization=fp8", "model.context_tokens=6144"), 8, 139.8, Layout(2, 1, 4)),
        (
            (
                "engine.quantization=fp8",
                "model.context_tokens=6144",
                "+engine.args.kv_cache_dtype=fp8",
                "engine.gpu_memory_utilization=0.97",
            ),
            8,
            139.8,
            Layout(1, 1, 8),
        ),
        # So many copies, on all GPUs.
        (("engine.quantization=fp8", "engine.replicas=2"), 8, 139.8, Layout(4, 1, 2)),
        (("engine.quantization=fp8", "engine.tensor_parallel=8"), 8, 139.8, Layout(8, 1, 1)),
        # Too few for any layout: the message is about all of them.
        ((), 2, 40, Layout(2, 1, 1)),
    ],
)
def test_a_copy_takes_the_fewest_gpus_that_hold_it_and_copies_fill_the_host(
    settings: Callable[..., RunSettings],
    overrides: tuple[str, ...],
    count: int,
    total_gib: float,
    expected: Layout,
) -> None:
    given = settings(*overrides)
    assert layout(given.engine.vllm, given.model, gpus(count, total_gib), None) == expected


def test_missing_weights_say_how_to_get_them(
    settings: Callable[..., RunSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    model = replace(given.model, repository="nobody/nothing-of-the-kind")
    with pytest.raises(SettingsError) as raised:
        preflight.find_weights(model, dummy=False)
    for part in ("https://huggingface.co/nobody", "HF_TOKEN", "pipeline.fetch", "model.path"):
        assert part in str(raised.value)
    (tmp_path / "params.json").write_text(json.dumps(LARGE))
    with pytest.raises(SettingsError, match="holds no weights"):
        preflight.find_weights(replace(model, path=str(tmp_path)), dummy=False)
    assert preflight.find_weights(replace(model, path=str(tmp_path)), dummy=True) == tmp_path


def test_a_context_longer_than_the_model_was_made_for(
    settings: Callable[..., RunSettings], tmp_path: Path
) -> None:
    (tmp_path / "params.json").write_text(json.dumps(LARGE))
    given = settings("model.context_tokens=200000")
    with pytest.raises(SettingsError, match="was made for 131072"):
        preflight.check_context(given.model, tmp_path)


def test_gpus_are_those_that_are_left_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    rows = "".join(f"{n}, GPU-{n}abc, NVIDIA H200, 143771, 143000\\n" for n in range(4))
    tool.write_text(f"#!/bin/sh\nprintf '{rows}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    for visible, expected in [
        (None, "0123"),
        ("2,0", "20"),
        ("GPU-3", "3"),
        ("", ""),
        ("7", ""),
        ("0,-1,1", "0"),
    ]:
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert "".join(gpu.index for gpu in preflight.visible_gpus()) == expected
    assert len(preflight.visible_gpus()) == 1


def test_a_gpu_without_memory_of_its_own_has_that_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '0, GPU-0abc, NVIDIA GB10, [N/A], [N/A]'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (gpu,) = preflight.visible_gpus()
    assert gpu.total_gib == pytest.approx(psutil.virtual_memory().total / 2**30, rel=0.01)


def test_weights_that_are_quantized_already_are_not_taken_for_half_of_what_they_are(
    settings: Callable[..., RunSettings], tmp_path: Path
) -> None:
    (tmp_path / "params.json").write_text(json.dumps(LARGE))
    with (tmp_path / "consolidated.safetensors").open("wb") as file:
        file.truncate(124_000_000_000)  # a byte a weight; nothing is written
    given = settings("engine.quantization=fp8")
    found = memory.fit(given.engine.vllm, given.model, 139.8, tmp_path, Layout(2, 1, 1))
    assert found.weights_gib == pytest.approx(124 / 1.073741824 / 2, rel=0.001)


def test_auto_takes_vllm_where_the_gpus_hold_the_model(
    compose: Callable[..., RunSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: SimpleNamespace(origin="vllm"))
    given = compose("input=.", "engine.quantization=fp8")
    for count, engine in [(2, "vllm"), (1, "embedded"), (0, "embedded")]:
        monkeypatch.setattr(preflight, "visible_gpus", lambda count=count: gpus(count))
        name, reason = choose.choose(given.engine, given.model)
        assert name == engine, reason
