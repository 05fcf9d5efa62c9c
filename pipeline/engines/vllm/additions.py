"""What the pipeline adds to vLLM so that it reads faster, as arguments of `vllm.LLM`.

Each steps aside where a vLLM does not know it or does the same itself, and changes replies no more than a
batch of another size does. `+engine.args.scheduler_cls=null` and `+engine.args.worker_extension_cls=''` leave
it out.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Protocol

_WORKER = "pipeline.engines.vllm.packed_images.PackedImages"

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


def pack_images(llm: Workers, arguments: Mapping[str, object]) -> None:
    """Let the workers of all GPUs encode images packed."""
    if arguments.get("worker_extension_cls") != _WORKER:
        return
    reasons = {reason for reason in llm.collective_rpc("pack_images") if reason}
    print("images are encoded", "as vLLM does: " + "; ".join(reasons) if reasons else "packed", flush=True)
