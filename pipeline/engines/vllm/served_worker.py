"""The additions to vLLM's workers under `vllm serve`, where workers cannot be asked for anything later.

`--worker-extension-cls pipeline.engines.vllm.served_worker.ServedWorkerAdditions`
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.engines.vllm.worker import WorkerAdditions


class ServedWorkerAdditions(WorkerAdditions):
    """What vLLM mixes into the worker of every GPU."""


def _pack_when_loaded() -> None:
    """Let every worker of this process encode images packed as soon as its model is there."""
    try:
        from vllm.v1.worker.gpu_worker import Worker

        original: Callable[..., object] = Worker.load_model
    except (ImportError, AttributeError) as error:  # not public: another vLLM may have another one
        print(f"images are encoded as vLLM does: it has a way of its own ({error})", flush=True)
        return

    def load_model(self: WorkerAdditions, *given: object, **named: object) -> object:
        result = original(self, *given, **named)
        why_not = self.pack_images() if isinstance(self, WorkerAdditions) else "the worker is another's"
        print("images are encoded", f"as vLLM does: {why_not}" if why_not else "packed", flush=True)
        return result

    Worker.load_model = load_model


_pack_when_loaded()
