"""What changing a setting does to answers that are there: every setting, by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import scripted

from pipeline.asking import prompt, schema
from pipeline.config import RunSettings
from pipeline.engines.base import Served
from pipeline.flow import identity
from pipeline.flow.identity import EFFECTS, Effect
from pipeline.run import execute

REPLY = '{"answer": "4711 euros", "pages": [1], "quote": "The profit was 4711 euros."}'


def identity_of(settings: RunSettings, engine: str) -> identity.Identity:
    template = prompt.system_prompt_template(settings.model)
    return identity.of(settings, engine, schema.envelope(settings.task), template)


def changed(settings: RunSettings, name: str) -> RunSettings:
    """Return the settings with another value of one of them."""
    made = copy.deepcopy(settings)
    *path, last = name.split(".")
    owner: object = made
    for part in path:
        owner = getattr(owner, part)
    setattr(owner, last, another(getattr(owner, last), name))
    return made


def another(value: object, name: str) -> object:
    if name == "engine.vllm.args":
        return {"kv_cache_dtype": "fp8"}
    if name == "task.schema":
        return {"type": "object", "properties": {"total": {"type": "number"}}}
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, "another"]
    return f"{value or ''}another"


def test_every_setting_is_listed_with_its_effect(compose: Callable[..., RunSettings]) -> None:
    settings = compose("input=.", "task=qa", "task.question=Who?")
    assert {name for name, _ in identity.leaves(settings)} == set(EFFECTS)


@pytest.mark.parametrize("name", sorted(EFFECTS))
def test_a_setting_changes_what_its_effect_says(compose: Callable[..., RunSettings], name: str) -> None:
    settings = compose("input=.", "task=qa", "task.question=Who?")
    engine = next((each for each in ("embedded", "server") if name.startswith(f"engine.{each}.")), "vllm")
    before = identity_of(settings, engine)
    after = identity_of(changed(settings, name), "embedded" if name == "engine.name" else engine)
    asks, derives = before.asked_with != after.asked_with, before.settings_hash != after.settings_hash
    assert {Effect.ASKS: (True, True), Effect.DERIVES: (False, True), Effect.NEITHER: (False, False)}[
        EFFECTS[name]
    ] == (asks, derives)


@pytest.mark.parametrize("name", [name for name in EFFECTS if name.startswith("engine.vllm.")])
def test_settings_of_another_engine_change_nothing(compose: Callable[..., RunSettings], name: str) -> None:
    settings = compose("input=.", "task=qa", "task.question=Who?")
    assert identity_of(changed(settings, name), "embedded") == identity_of(settings, "embedded")


def test_what_servers_serve_is_a_part_of_what_is_asked(compose: Callable[..., RunSettings]) -> None:
    settings = compose("input=.", "engine=server", "task=qa", "task.question=Who?")
    template = prompt.system_prompt_template(settings.model)
    told = [Served("pixtral", "0.32.0"), Served("pixtral", "0.33.0"), Served("other", "0.32.0")]
    found = {identity.of(settings, "server", None, template, each).asked_with for each in told}
    assert len(found) == 3


# ---- the same in whole runs, with an engine that counts what it is asked ----


@pytest.fixture
def run(
    compose: Callable[..., RunSettings], make_pdf: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[list[str], pd.DataFrame]]:
    """Run over one document of three pages; return the questions asked of the engine, and the answers."""
    make_pdf("in/a.pdf", "The profit was 4711 euros.", "Page two.", "Page three.")
    folder = make_pdf("in/sub/b.pdf", "Nothing.").parents[1]

    def go(*overrides: str) -> tuple[list[str], pd.DataFrame]:
        engine = scripted.install(monkeypatch, lambda request: scripted.says(REPLY))
        settings = compose(
            f"input={folder}/a.pdf", "engine=vllm", "task=qa", "task.question=Profit?", *overrides
        )
        execute(settings)
        asked = [request.prompt for request in engine.asked]
        return asked, pd.read_parquet(Path(settings.output) / "answers")

    return go


def test_settings_that_change_no_reply_ask_nothing(
    run: Callable[..., tuple[list[str], pd.DataFrame]],
) -> None:
    _, first = run()
    asked, again = run(
        "raster.workers=2", "raster.page_timeout_s=7", "pack.window_tokens=50000", "sink.journal_seconds=1",
        "engine.tensor_parallel=2", "engine.eager=true", "engine.max_restarts=3", "engine.workers=2",
        "+engine.args.distributed_executor_backend=mp", "retry_errors=false",
        "+engine.args.scheduler_cls=null", "+engine.args.worker_extension_cls=''",
    )  # fmt: skip
    assert asked == []
    pd.testing.assert_frame_equal(first, again)


@pytest.mark.parametrize("override", ["engine.review_below=0.95", "engine.repair_attempts=2"])
def test_an_answer_is_made_again_of_its_stored_reply(
    run: Callable[..., tuple[list[str], pd.DataFrame]], override: str
) -> None:
    _, first = run()
    asked, again = run(override)
    assert asked == []
    assert list(again["answer"]) == list(first["answer"]) == ["4711 euros"]
    assert again["settings_hash"][0] != first["settings_hash"][0]
    assert again["needs_review"][0] == (override == "engine.review_below=0.95")
    assert not first["needs_review"][0]


@pytest.mark.parametrize(
    "override",
    [
        "engine.quantization=fp8",
        "+engine.args.kv_cache_dtype=fp8",
        "engine.repetition_penalty=1.3",
        "engine.repetition_count=40",
        "pack.max_images=2",
        "model.max_images=2",
        "model.context_tokens=65536",
        "model.image_max_px=512",
        "model.system_prompt=Read.",
        "task.instruction=Answer.",
        "task.max_output_tokens=100",
    ],
)
def test_what_can_change_a_reply_asks_again(
    run: Callable[..., tuple[list[str], pd.DataFrame]], override: str
) -> None:
    run()
    asked, _ = run(override)
    assert asked
    back, _ = run()  # and what was said before is still known
    assert back == []


def test_another_model_in_the_same_place_is_asked_again(
    run: Callable[..., tuple[list[str], pd.DataFrame]], tmp_path: Path
) -> None:
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    shipped = Path(str(MistralTokenizer._data_path())) / "mistral_instruct_tokenizer_241114.model.v7m1"
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / shipped.name).write_bytes(shipped.read_bytes())
    (weights / "consolidated.safetensors").write_bytes(b"one" * 100_000)
    assert run(f"model.path={weights}")[0]
    assert run(f"model.path={weights}")[0] == []
    weights.rename(tmp_path / "moved")
    assert run(f"model.path={tmp_path / 'moved'}")[0] == []  # the same weights elsewhere
    (tmp_path / "moved" / "consolidated.safetensors").write_bytes(b"two" * 100_000)
    assert run(f"model.path={tmp_path / 'moved'}")[0]
