"""What the pipeline adds to vLLM so that it reads faster, as arguments of `vllm.LLM`.

Each steps aside where a vLLM does not know it or does the same itself, and changes replies no more than a
batch of another size does. `+engine.args.scheduler_cls=null` and `+engine.args.worker_extension_cls=''` leave
it out.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

_WORKER = "pipeline.engines.vllm.worker.WorkerAdditions"

ADDITIONS: Mapping[str, str] = {
    "scheduler_cls": "pipeline.engines.vllm.scheduler.FullStepScheduler",
    "worker_extension_cls": _WORKER,
}


class Workers(Protocol):
    """vLLM's `LLM`, as far as it passes calls on to the workers of its GPUs."""

    @property
    def collective_rpc(self) -> Callable[[str], list[str | None]]: ...


def loadable(arguments: Mapping[str, object]) -> dict[str, object]:
    """Return the arguments without those of ours that cannot be imported beside the installed vLLM."""
    kept = dict(arguments)
    for argument, name in ADDITIONS.items():
        if kept.get(argument) != name:  # left out, or the user's own
            continue
        try:
            importlib.import_module(name.rpartition(".")[0])
        except (ImportError, AttributeError) as error:
            del kept[argument]
            print(f"{argument}={name} is left out: {error}", flush=True)
    return kept


def start(llm: Workers, arguments: Mapping[str, object]) -> None:
    """Let the workers of all GPUs encode images packed, and say in the log which additions are used."""
    if arguments.get("worker_extension_cls") != _WORKER:
        return
    _say("images are encoded", "packed", llm.collective_rpc("pack_images"))
    if arguments.get("quantization") == "fp8":
        _say(
            "FP8 products of long steps are computed",
            "by torch",
            llm.collective_rpc("multiply_through_torch"),
        )


def _say(what: str, how: str, reasons: Iterable[str | None]) -> None:
    why_not = "; ".join(sorted({reason for reason in reasons if reason}))
    print(what, f"as vLLM does: {why_not}" if why_not else how, flush=True)
