"""Check before a model is loaded that its weights are here and that the GPUs can hold them."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.config import ModelSettings, VllmSettings
from pipeline.engines.vllm import encoder_room
from pipeline.engines.vllm.layout import layout
from pipeline.engines.vllm.memory import Gpu, fit, in_bf16_gib, weight_files
from pipeline.errors import SettingsError

WEIGHTS = (
    "consolidated*.safetensors",
    "params.json",
    "tekken.json",
    "tokenizer.model.v*",
    "SYSTEM_PROMPT.txt",
)
"""The files of a published model that vLLM reads in Mistral's own format, and the system prompt."""


_DRIVER_S = 60.0
"""Time that nvidia-smi has: it loads the driver where nothing else holds it, which takes seconds per GPU."""


def visible_gpus() -> list[Gpu]:
    """List the GPUs that CUDA_VISIBLE_DEVICES leaves, in its order; none where there is no driver.

    Raises SettingsError when the driver does not answer.
    """
    # Asked of the driver's tool: torch would bring CUDA into this process, and be imported for seconds.
    fields = "index,uuid,name,memory.total,memory.free"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        listed = _answer_of(command)
    except OSError:
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in listed.splitlines() if line.strip()]
    gpus = [(row[1], Gpu(row[0], row[2], _gib(row[3]), _gib(row[4]))) for row in rows]
    # The tool lists all, whatever the variable says.
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return [gpu for _, gpu in gpus]
    # By number, or by UUID, of which the beginning is enough; CUDA stops at the first that is not there.
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    named = [[gpu for uuid, gpu in gpus if name == gpu.index or uuid.startswith(name)] for name in names]
    return [gpu for found in itertools.takewhile(bool, named) for gpu in found]


def _gib(mebibytes: str) -> float:
    try:
        return float(mebibytes) / 1024
    except ValueError:
        # "[N/A]": a GPU without memory of its own, which has what the machine has.
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _answer_of(command: Sequence[str]) -> str:
    """Return what a command prints; nothing when it fails. Raises SettingsError when it hangs."""
    # Into a file, not a pipe, whose end would be waited for as long as the process hangs.
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(command, stdout=printed, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            status = process.wait(_DRIVER_S)
        except subprocess.TimeoutExpired:
            process.kill()
            # No longer than this: a process that hangs in the driver does not even end when it is killed.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
            raise SettingsError(
                f"{command[0]} has not answered for {_DRIVER_S:g} s: the driver hangs; restart this node, run"
                " on another, or use engine=embedded"
            ) from None
        printed.seek(0)
        return printed.read() if status == 0 else ""


def check(engine: VllmSettings, model: ModelSettings, gpus: Sequence[Gpu], folder: Path | None) -> str:
    """Return in a line how the model will lie on the GPUs. Raises SettingsError saying what would fit."""
    if not gpus:
        raise SettingsError(
            "engine=vllm: no GPU is visible; use engine=embedded, or run where there are GPUs"
        )
    chosen = layout(engine, model, gpus, folder)
    used = gpus[: chosen.gpus]
    found = fit(engine, model, min(gpu.total_gib for gpu in used), folder, chosen)
    kind = engine.quantization or "bf16"
    if found.cache_tokens < model.context_tokens:
        total = in_bf16_gib(model, folder)
        raise SettingsError(
            f"{model.name} needs {total:.0f} GiB in bf16;"
            f" {chosen.gpus_per_copy} x {used[0].total_gib:.1f} GiB"
            f" ({used[0].name}, {kind}) leave no room for {model.context_tokens:,} tokens of context:"
            f" {_what_fits(engine, model, gpus, folder)}"
        )
    _check_images(engine, model, used[0], chosen.stages)
    # vLLM would refuse to start as well, after the weights are read.
    for gpu in used:
        wanted = gpu.total_gib * engine.gpu_memory_utilization
        if gpu.free_gib < wanted:
            raise SettingsError(
                f"GPU {gpu.index} has {gpu.free_gib:.0f} of {wanted:.0f} GiB free: end what runs on it, or"
                " lower engine.gpu_memory_utilization"
            )
    copies = f"{chosen.replicas} x " if chosen.replicas > 1 else ""
    gpus_used = f"{copies}{chosen.gpus_per_copy} x {used[0].name}, {used[0].total_gib:.1f} GiB each"
    return (
        f"{gpus_used}: {model.name} in {kind}"
        f" takes {found.weights_gib:.0f} GiB per GPU and leaves room for about {found.cache_tokens:,} tokens"
    )


def _check_images(engine: VllmSettings, model: ModelSettings, gpu: Gpu, stages: int) -> None:
    """Raise SettingsError when what vLLM is given leaves no room for the images, which it does not count."""
    needed, share = encoder_room.uncounted_gib(engine, model, stages), engine.gpu_memory_utilization
    if (left := gpu.total_gib * (1 - share)) < needed:
        most = math.floor(100 * (1 - needed / gpu.total_gib)) / 100
        raise SettingsError(
            f"engine.gpu_memory_utilization={share}: leaves {left:.1f} GiB for the images of a step, which"
            f" take {needed:.1f}; set {most} or less"
        )


def find_weights(model: ModelSettings, dummy: bool) -> Path:
    """Return the folder of the model on this machine. Raises SettingsError saying how to get it.

    `dummy`: the weights are to be random, and only the shape is looked for.
    """
    if model.path is None:
        return _from_cache(model)
    folder = Path(model.path)
    if not (folder / "params.json").is_file():
        raise SettingsError(f"model.path={folder}: holds no params.json, as models in Mistral's format have")
    if not dummy and not weight_files(folder):
        wanted = "weights (consolidated*.safetensors)"
        raise SettingsError(f"model.path={folder}: holds no {wanted}; {_how_to_get(model)}")
    return folder


def check_context(model: ModelSettings, folder: Path) -> None:
    """Raise SettingsError when the model was not made for the context that is asked for."""
    shape = json.loads((folder / "params.json").read_text(encoding="utf-8"))
    most = shape.get("max_position_embeddings") or shape.get("max_seq_len")
    if most and most < model.context_tokens:
        raise SettingsError(f"model.context_tokens={model.context_tokens}: {folder} was made for {most}")


def _what_fits(engine: VllmSettings, model: ModelSettings, gpus: Sequence[Gpu], folder: Path | None) -> str:
    """Name the least change that makes one full request fit."""
    changes: list[tuple[str, VllmSettings]] = []
    chosen = layout(engine, model, gpus, folder)
    most = 2 ** int(math.log2(len(gpus) // chosen.stages))
    for count in dict.fromkeys((chosen.tensor_parallel, most)):
        spread = replace(engine, tensor_parallel=count, replicas=1)
        prefix = [f"engine.tensor_parallel={count}"] if count != chosen.tensor_parallel else []
        halved = replace(spread, quantization=engine.quantization or "fp8")
        changes.append((" ".join(prefix), spread))
        changes.append((" ".join([*prefix, "engine.quantization=fp8"]), halved))
        small = replace(halved, args={**engine.args, "kv_cache_dtype": "fp8"})
        also = " ".join([*prefix, "engine.quantization=fp8", "+engine.args.kv_cache_dtype=fp8"])
        changes.append((also, small))
    for words, settings in changes:
        if words and _room(settings, model, gpus, folder) >= model.context_tokens:
            return f"set {words}"
    for words, settings in changes:
        if (room := _room(settings, model, gpus, folder) // 1024 * 1024) >= 8192:
            return f"set {words} model.context_tokens={room}".replace("set  ", "set ")
    # No setting helps: how many such GPUs would?
    count = most
    while count < 64:
        count *= 2
        wider = replace(engine, tensor_parallel=count, replicas=1)
        if _room(wider, model, [gpus[0]] * count * chosen.stages, folder) >= model.context_tokens:
            return f"it takes at least {count * chosen.stages} such GPUs"
    return "choose a smaller model"


def _room(engine: VllmSettings, model: ModelSettings, gpus: Sequence[Gpu], folder: Path | None) -> int:
    gpu_gib = min(gpu.total_gib for gpu in gpus)
    return fit(engine, model, gpu_gib, folder, layout(engine, model, gpus, folder)).cache_tokens


def _from_cache(model: ModelSettings) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError as error:
        raise SettingsError(f"model.path: is not set; {_how_to_get(model)}") from error
    try:
        folder = Path(
            snapshot_download(model.repository, allow_patterns=list(WEIGHTS), local_files_only=True)
        )
    except LocalEntryNotFoundError as error:
        raise SettingsError(f"{model.repository} is not on this machine; {_how_to_get(model)}") from error
    if not weight_files(folder):
        raise SettingsError(
            f"{model.repository} is on this machine without its weights; {_how_to_get(model)}"
        )
    return folder


def _how_to_get(model: ModelSettings) -> str:
    return (
        f"accept the licence on https://huggingface.co/{model.repository}, put a token into HF_TOKEN, and run"
        " `python -m pipeline.fetch` with the same model=… where there is a network; then set model.path"
    )
