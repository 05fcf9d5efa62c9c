"""The run's side of one engine process: its life, its work, and what becomes of that work when it dies."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing.process import BaseProcess

from pipeline.config import VllmSettings
from pipeline.engines.vllm import host
from pipeline.engines.vllm.launch import Launch
from pipeline.engines.vllm.messages import Dead, Prompt, Read, Ready, Rendering, Reply
from pipeline.records import Completion, Failure, Request

Settled = tuple[Request, Completion]


@dataclass(frozen=True, slots=True)
class Work:
    """A request, as one engine has it."""

    request: Request
    rank: int
    """Lower ones are scheduled first."""
    cost_tokens: int
    """What it adds to the load of its engine; nothing when its pages are in the cache already."""


class Replica:
    """One engine process, with all that was given to it and has not ended.

    When the process dies, what it had under way is suspect. Suspects are given to the next process in halves,
    each half alone and before anything else, until the one that kills engines is alone: it fails, and nothing
    else does.
    """

    def __init__(self, launch: Launch, settings: VllmSettings) -> None:
        self.launch = launch
        self.cache_tokens = 0
        self.load_tokens = 0
        self.death: str | None = None
        self._settings = settings
        self._process: BaseProcess | None = None
        self._waiting: deque[Work] = deque()
        self._suspects: deque[list[Work]] = deque()
        self._under_way: dict[str, Work] = {}
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
        arguments = (
            theirs,
            launch.arguments,
            launch.sampling,
            launch.devices,
            str(launch.log),
            launch.adapt_tokenizer,
        )
        self._process = context.Process(target=host.main, args=arguments)
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

    @property
    def is_open(self) -> bool:
        """Whether there is a process, alive or dead, that was not stopped."""
        return self._process is not None

    # ---- its work ----

    @property
    def is_busy(self) -> bool:
        return bool(self._under_way)

    @property
    def patience_s(self) -> float:
        """Seconds left until its silence counts as death."""
        return self._heard + self._settings.stall_timeout_s - time.monotonic()

    def put(self, work: Work) -> None:
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
                self.connection.send(write_prompt(work, self._settings))

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


def write_prompt(work: Work, settings: VllmSettings) -> Prompt:
    """Return a request as the engine process needs it."""
    request = work.request
    return Prompt(
        request_id=request.request_id,
        images=tuple((page.label, str(page.image)) for page in request.pages),
        text=request.prompt,
        rank=work.rank,
        repetition_penalty=settings.repetition_penalty if request.fault == "repetition" else 1.0,
    )


def _completion(request: Request, reply: Reply) -> Completion:
    if reply.refusal is not None:
        message = f"{describe(request)}: the engine refused this request ({reply.refusal})"
        return Completion("", "error", failure=Failure("engine_failed", message))
    failure = None
    if reply.finish_reason not in ("stop", "length", "repetition"):
        message = f"{describe(request)}: the engine ended this request ({reply.finish_reason}); run again"
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


def _killer(request: Request, reason: str) -> Settled:
    message = (
        f"{describe(request)}: the engine died twice of this request alone ({reason}); look at its pages"
    )
    return request, Completion("", "error", failure=Failure("engine_failed", message))


def describe(request: Request) -> str:
    """Say which request a message is about."""
    return f"{request.cell.subject.source}, {request.cell.question.question_id}"
