"""The run's side of one engine process: its life, its work, and what becomes of that work when it dies."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from multiprocessing.process import BaseProcess

from pipeline import workers
from pipeline.config import VllmSettings
from pipeline.engines.vllm import host
from pipeline.engines.vllm.backlog import Backlog
from pipeline.engines.vllm.launch import Launch
from pipeline.engines.vllm.messages import Dead, Prefilled, Ready, Rendering, Reply
from pipeline.engines.vllm.translate import completion, killed_engine, write_prompt
from pipeline.records import Completion, Request

Settled = tuple[Request, Completion]


class Replica:
    """One engine process, with all that was given to it and has not ended."""

    def __init__(self, launch: Launch, settings: VllmSettings) -> None:
        self.launch = launch
        self.backlog = Backlog()
        self.cache_tokens = 0
        self.cause_of_death: str | None = None
        self.deaths_without_reply = 0
        self._settings = settings
        self._process: BaseProcess | None = None
        self._rendering_id: str | None = None
        self._last_message_s = time.monotonic()

    # ---- the process ----

    def start(self) -> None:
        """Start the process; `load` waits until it can answer."""
        # A forked process could not use CUDA, and would carry the threads of this one.
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
        with workers.without_main_module():
            self._process.start()
        theirs.close()  # or else the pipe would not end with the process

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
        self.cause_of_death, self._last_message_s = None, time.monotonic()
        self.send_work()
        return None

    def request_stop(self) -> None:
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
    def seconds_to_stall(self) -> float:
        """Seconds left until its silence counts as death."""
        return self._last_message_s + self._settings.stall_timeout_s - time.monotonic()

    def send_work(self) -> None:
        """Send what the process may have now."""
        # An engine that had nothing to do was silent rightly.
        if not self.backlog.is_under_way:
            self._last_message_s = time.monotonic()
        for work in self.backlog.next_group():
            with contextlib.suppress(OSError):  # a dead process is noticed on receiving
                self.connection.send(write_prompt(work, self._settings))

    def receive(self) -> tuple[list[Settled], list[str]]:
        """Return replies, and the ids of requests that are read; notes when the process has died."""
        settled: list[Settled] = []
        prefilled: list[str] = []
        self._last_message_s = time.monotonic()
        try:
            while self.connection.poll():
                message = self.connection.recv()
                self._rendering_id = message.request_id if isinstance(message, Rendering) else None
                if isinstance(message, Dead):
                    self.cause_of_death = message.reason
                    return settled, prefilled
                if isinstance(message, Reply):
                    settled.append(self._settle(message))
                elif isinstance(message, Prefilled):
                    prefilled.append(message.request_id)
        except (EOFError, OSError):
            self.cause_of_death = "its process died"
            return settled, prefilled
        self.send_work()
        return settled, prefilled

    def blame(self, reason: str) -> list[Settled]:
        """Divide what was under way when the process died; return what is to blame for it, as failed."""
        blamed = self.backlog.divide(self._rendering_id)
        self._rendering_id = None
        return [(request, killed_engine(request, reason)) for request in blamed]

    def _settle(self, reply: Reply) -> Settled:
        answered = reply.refusal is None  # which the process may say while the engine is dead
        if answered:
            self.deaths_without_reply = 0
        request = self.backlog.end(reply.request_id, answered)
        return request, completion(request, reply)
