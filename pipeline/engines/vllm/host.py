"""The process that owns one vLLM engine: it takes prompts from a pipe and sends replies back.

A process of its own keeps the run alive when the engine dies, frees the GPUs for certain when it is stopped,
renders prompts beside the run's other work, and lets several engines share a host, each with its own GPUs.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from pipeline.engines.base import AdaptTokenizer
from pipeline.engines.vllm import additions
from pipeline.engines.vllm.messages import (
    Dead,
    Prefilled,
    Prompt,
    Queued,
    Ready,
    Rendering,
    Reply,
    Sampling,
)
from pipeline.engines.vllm.reply import Output, read_reply
from pipeline.records import Json

_POLL_S = 0.002


class _CacheConfig(Protocol):
    num_gpu_blocks: int
    block_size: int


class _Config(Protocol):
    cache_config: _CacheConfig


class _Core(Protocol):
    def shutdown(self) -> None: ...


class _State(Protocol):
    is_prefilling: bool


class _OutputProcessor(Protocol):
    request_states: Mapping[str, _State]


class _StepOutput(Output, Protocol):
    request_id: str
    finished: bool


class _Engine(Protocol):
    """vLLM's `LLMEngine`."""

    vllm_config: _Config
    engine_core: _Core
    output_processor: _OutputProcessor

    def has_unfinished_requests(self) -> bool: ...

    def step(self) -> Sequence[_StepOutput]: ...


class Llm(additions.Workers, Protocol):
    """vLLM's `LLM`, as far as it is used here."""

    llm_engine: _Engine

    def enqueue_chat(
        self,
        messages: Sequence[Sequence[Json]],
        sampling_params: object,
        *,
        use_tqdm: bool,
        priority: Sequence[int],
    ) -> Sequence[str]: ...


def main(
    connection: Connection,
    arguments: Mapping[str, object],
    sampling: Sampling,
    devices: str | None,
    log: str,
    adapt_tokenizer: AdaptTokenizer,
) -> None:
    """Load an engine and serve it until told to stop: the entry point of its process.

    `arguments` are those of `vllm.LLM`, `devices` a value for CUDA_VISIBLE_DEVICES.
    """
    os.setsid()  # signals to the run's group are for the run: it saves first and stops its engines then
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(name, lambda number, frame: None)
    with Path(log).open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if devices is not None:
        os.environ |= {"CUDA_VISIBLE_DEVICES": devices, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    # Before the model, which takes minutes to load: the run may send, or die, meanwhile.
    prompts = PromptQueue(connection)
    try:
        from vllm import LLM

        arguments = additions.loadable(arguments)
        llm = LLM(**arguments)
        additions.start(llm, arguments)
        # vLLM prepares the pixels itself: the tokenizer would do it again for every request.
        adapt_tokenizer(llm.get_tokenizer().instruct)
        host = Host(llm, sampling, connection, prompts)
    except Exception as error:
        connection.send(Dead(f"{type(error).__name__}: {_last_line(error)}"))
        raise
    host.serve()
    host.close()


class PromptQueue:
    """Prompts as they come; `None` is the end.

    The pipe is emptied at once, so that the run never waits to send, and watched even while a model is
    loaded: when the run dies, this process and all that it started die with it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._queue: queue.SimpleQueue[Prompt | None] = queue.SimpleQueue()
        self.empty, self.get = self._queue.empty, self._queue.get
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self) -> None:
        while True:
            try:
                prompt = self._connection.recv()
            except (EOFError, OSError):
                os.killpg(os.getpgrp(), signal.SIGKILL)
            self._queue.put(prompt)
            if prompt is None:
                return


class Host:
    """Feeds one `vllm.LLM` from a connection."""

    def __init__(self, llm: Llm, sampling: Sampling, connection: Connection, prompts: PromptQueue) -> None:
        self._llm = llm
        # Every request would fail with a schema that is refused; replies are validated in any case.
        self._sampling = sampling if guidable(sampling.schema) else replace(sampling, schema=None)
        self._connection = connection
        self._prompts = prompts
        self._names: dict[str, str] = {}
        self._not_prefilled: set[str] = set()

    def serve(self) -> None:
        """Answer prompts as they come, until `None` comes."""
        cache = self._llm.llm_engine.vllm_config.cache_config
        self._connection.send(Ready(cache.num_gpu_blocks * cache.block_size))
        try:
            while True:
                if self._is_output_next():
                    self._step()
                elif (prompt := self._prompts.get()) is not None:
                    self._enqueue(prompt)
                else:
                    return
        except Exception as error:  # of any type: whatever stops the engine, the run must hear of it
            self._connection.send(Dead(f"{type(error).__name__}: {_last_line(error)}"))
            raise

    def close(self) -> None:
        """End the engine's processes: left to the interpreter's exit, it would wait for them for good."""
        self._llm.llm_engine.engine_core.shutdown()

    def _is_output_next(self) -> bool:
        """Wait for whichever comes first: a prompt to render (False) or output to take (True).

        A step of the engine blocks until there is output, which may be a whole prefill away, and blocks for
        good when the engine's process was killed. So its queue is looked at, where it has one.
        """
        outputs = getattr(self._llm.llm_engine.engine_core, "outputs_queue", None)
        while self._prompts.empty() and self._llm.llm_engine.has_unfinished_requests():
            if outputs is None or not outputs.empty():
                return True
            if self._is_engine_dead():
                raise RuntimeError("the engine's process died")
            time.sleep(_POLL_S)
        return False

    def _is_engine_dead(self) -> bool:
        """Tell whether vLLM has noticed the end of the engine's own process, where it has one."""
        return bool(
            getattr(getattr(self._llm.llm_engine.engine_core, "resources", None), "engine_dead", False)
        )

    def _enqueue(self, prompt: Prompt) -> None:
        self._connection.send(Rendering(prompt.request_id))
        try:
            (name,) = self._llm.enqueue_chat(
                [self._conversation(prompt)], self._parameters(prompt), use_tqdm=False, priority=[prompt.rank]
            )
        except Exception as error:
            # While vLLM closes what a dead engine leaves, a prompt fails with whatever is closed already.
            if self._is_engine_dead() or type(error).__name__ == "EngineDeadError":  # its module moves
                raise
            # One bad prompt must not cost the others: vLLM raises for any, from any library it calls.
            self._connection.send(Reply(prompt.request_id, refusal=_last_line(error)))
            return
        self._names[_number(name)] = prompt.request_id
        if prompt.images:  # nothing waits for the cache of a text alone
            self._not_prefilled.add(_number(name))
        self._connection.send(Queued(prompt.request_id))

    def _conversation(self, prompt: Prompt) -> list[Json]:
        content: list[Json] = []
        for label, path in prompt.images:
            content.append({"type": "text", "text": label})
            content.append({"type": "image_url", "image_url": {"url": f"file://{path}"}})
        content.append({"type": "text", "text": prompt.text})
        system: Json = {"role": "system", "content": self._sampling.system_prompt}
        return [system, {"role": "user", "content": content}]

    def _parameters(self, prompt: Prompt) -> object:
        from vllm import SamplingParams
        from vllm.sampling_params import RepetitionDetectionParams, StructuredOutputsParams

        given = self._sampling
        return SamplingParams(
            temperature=0.0,
            max_tokens=given.max_tokens,
            logprobs=1,  # of the token chosen, for the confidence of the answer
            repetition_penalty=prompt.repetition_penalty,
            structured_outputs=StructuredOutputsParams(json=given.schema) if given.schema else None,
            repetition_detection=RepetitionDetectionParams(
                max_pattern_size=given.repetition_tokens, min_count=given.repetition_count
            )
            if given.repetition_tokens
            else None,
        )

    def _step(self) -> None:
        for output in self._llm.llm_engine.step():
            if output.finished:
                self._not_prefilled.discard(_number(output.request_id))
                self._connection.send(read_reply(self._names.pop(_number(output.request_id)), output))
        self._send_prefilled()

    def _send_prefilled(self) -> None:
        """Send `Prefilled` for prompts whose first token is written: `LLM` itself tells of the last alone."""
        if not self._not_prefilled:
            return
        for name, state in self._llm.llm_engine.output_processor.request_states.items():
            if not state.is_prefilling and (number := _number(name)) in self._not_prefilled:
                self._not_prefilled.discard(number)
                self._connection.send(Prefilled(self._names[number]))


def guidable(schema: str | None) -> bool:
    """Tell whether replies can be held to a schema; those that cannot are validated afterwards alone."""
    if schema is None:
        return True
    import xgrammar

    try:
        xgrammar.Grammar.from_json_schema(schema)
    except (RuntimeError, ValueError) as error:
        print(f"replies are not guided: xgrammar refuses the schema ({_last_line(error)})", flush=True)
        return False
    return True


def _number(name: str) -> str:
    """Return the number of a request, which vLLM gives back with and without a random suffix."""
    return name.partition("-")[0]


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
