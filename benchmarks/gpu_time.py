"""Where the time of a GPU goes: a trace of torch's profiler, as shares of three steps."""

from __future__ import annotations

import bisect
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

GROUPS = (
    "language: FP8 products",
    "language: quantising",
    "language: attention",
    "language: norms, activations, rotation, other",
    "encoder: products",
    "encoder: attention",
    "encoder: rest",
    "sampling and inputs",
    "communication",
    "copies",
    "gaps",
)
_KINDS = {"kernel", "gpu_memcpy", "gpu_memset"}
_ATTENTION = re.compile(r"flash|fmha|attention|attn", re.I)
_QUANTISING = re.compile(r"fp8_quant|quant_kernel", re.I)
_PRODUCT = re.compile(r"gemm|cutlass|nvjet|xmma|scaled_mm|cublas|splitk|convolve|conv2d|cudnn", re.I)
_COMMUNICATION = re.compile(r"nccl|all_?reduce|cross_device|multimem", re.I)
_CACHE = re.compile(r"reshape_and_cache|slot_mapping", re.I)


def group(name: str, kind: str, place: str) -> str:
    """Name the group of one kernel, from its name, what it is and the part of the model that started it."""
    if kind != "kernel":
        return "copies"
    if _COMMUNICATION.search(name):
        return "communication"
    attention = bool(_ATTENTION.search(name)) and not _CACHE.search(name)
    if place == "encoder":
        if attention:
            return "encoder: attention"
        return "encoder: products" if _PRODUCT.search(name) else "encoder: rest"
    if place == "language":
        if attention:
            return "language: attention"
        if _QUANTISING.search(name):
            return "language: quantising"
        if _PRODUCT.search(name):
            return "language: FP8 products"
        return "language: norms, activations, rotation, other"
    return "sampling and inputs"


def summarise(trace: Path, steps: int = 3) -> dict[str, Any]:
    """Return seconds and shares per group over whole steps, from a trace with the ranges that `mark` sets.

    A step begins with its first kernel and ends with the first one of the next. Gaps are times in which
    nothing ran.
    """
    events = json.loads(trace.read_text())["traceEvents"]
    places: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    launched: dict[int, float] = {}
    ran: list[tuple[float, float, int, str, str]] = []
    for event in events:
        kind = event.get("cat")
        if kind == "user_annotation":
            name = str(event["name"])
            places[name.split()[0]].append((event["ts"], event["ts"] + event["dur"], name))
        elif kind in ("cuda_runtime", "cuda_driver"):
            launched[event["args"].get("correlation", -1)] = event["ts"]
        elif kind in _KINDS:
            number = event["args"].get("correlation", -1)
            ran.append((event["ts"], event["dur"], number, event["name"], kind))
    for found in places.values():
        found.sort()
    ran.sort()
    firsts: dict[str, float] = {}
    for begin, _, number, _, _ in ran:
        if step := _inside(places["step"], launched.get(number)):
            firsts.setdefault(step, begin)
    named = list(firsts.items())
    # The first step may have begun before the profiler was ready.
    use = named[1 : steps + 2] if len(named) > steps + 1 else named[-steps - 1 :]
    if len(use) < 2:
        return {"steps": [name for name, _ in named], "kernels": len(ran), "ranges": len(places)}
    begin, end = use[0][1], use[-1][1]
    return _shares(ran, launched, places, begin, end) | {"steps": [name for name, _ in use[:-1]]}


def _inside(ranges: Sequence[tuple[float, float, str]], moment: float | None) -> str | None:
    if moment is None:
        return None
    place = bisect.bisect_right(ranges, (moment, float("inf"), "")) - 1
    return ranges[place][2] if place >= 0 and moment <= ranges[place][1] else None


def _shares(
    ran: Sequence[tuple[float, float, int, str, str]],
    launched: dict[int, float],
    places: dict[str, list[tuple[float, float, str]]],
    begin: float,
    end: float,
) -> dict[str, Any]:
    microseconds: dict[str, float] = dict.fromkeys(GROUPS, 0.0)
    kernels: dict[tuple[str, str], list[float]] = defaultdict(list)
    products: list[float] = []
    free_from = begin
    busy = 0.0
    for start, duration, number, name, kind in ran:
        left, right = max(start, begin), min(start + duration, end)
        if right <= left:
            continue
        moment = launched.get(number)
        place = next((p for p in ("encoder", "language") if _inside(places[p], moment)), "other")
        which = group(name, kind, place)
        # Of kernels that run at the same time, the later one counts only where the earlier has ended.
        counted = max(0.0, right - max(left, free_from))
        microseconds[which] += counted
        busy += counted
        free_from = max(free_from, right)
        kernels[which, name[:240]].append(right - left)
        if which == "language: FP8 products":
            products.append(round(right - left, 1))
    wall = end - begin
    microseconds["gaps"] = wall - busy
    top = sorted(kernels.items(), key=lambda item: -sum(item[1]))
    return {
        "wall_ms": wall / 1000,
        "ms": {name: value / 1000 for name, value in microseconds.items()},
        "share": {name: value / wall for name, value in microseconds.items()},
        "kernels": [
            {"group": key[0], "name": key[1], "count": len(times), "ms": sum(times) / 1000}
            for key, times in top[:80]
        ],
        "product_us": products,
    }


def mark(worker: Any) -> None:
    """Put ranges around each step, the encoder and the language model: for `LLM.collective_rpc`."""
    from torch.profiler import record_function

    runner, model = worker.model_runner, worker.get_model()
    step, encode, read = runner.execute_model, model.embed_multimodal, model.forward

    def marked_step(output: Any, *more: Any, **named: Any) -> Any:
        images = sum(len(each) for each in output.scheduled_encoder_inputs.values())
        with record_function(
            f"step {next(numbers)}: {output.total_num_scheduled_tokens} tokens, {images} images"
        ):
            return step(output, *more, **named)

    def marked_encode(*more: Any, **named: Any) -> Any:
        with record_function("encoder"):
            return encode(*more, **named)

    def marked_read(*more: Any, **named: Any) -> Any:
        with record_function("language"):
            return read(*more, **named)

    numbers = iter(range(10**9))
    runner.execute_model, model.embed_multimodal, model.forward = marked_step, marked_encode, marked_read


def tokens_of(profile: dict[str, Any]) -> int:
    """Return the tokens of all profiled steps, from the names that `mark` gave them."""
    return sum(int(match[1]) for name in profile["steps"] if (match := re.search(r"(\d+) tokens", name)))


def table(found: dict[str, dict[str, Any]], per: int = 8192) -> str:
    """Return the profiles, one a column, as Markdown: milliseconds for `per` tokens, and the share."""
    lines = [f"| ms for {per:,} tokens | " + " | ".join(found) + " |", "|---|" + "---|" * len(found)]
    scale = {name: per / tokens_of(profile) for name, profile in found.items()}
    for group_name in GROUPS:
        cells = [
            f"{profile['ms'][group_name] * scale[name]:.1f} ({profile['share'][group_name]:.1%})"
            for name, profile in found.items()
        ]
        lines.append(f"| {group_name} | " + " | ".join(cells) + " |")
    walls = [f"{profile['wall_ms'] * scale[name]:.0f}" for name, profile in found.items()]
    return "\n".join([*lines, "| all | " + " | ".join(walls) + " |"])
