"""A process that follows a script in vLLM's place. It imports little, so that it starts at once."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pipeline.engines.vllm.messages import Prefilled, Prompt, Queued, Ready, Rendering, Reply

TOGETHER_S = 0.1


def scripted(
    connection: Connection, arguments: Any, sampling: Any, devices: Any, log: str, adapt: Any
) -> None:
    """Read what comes within a moment, then do what the prompts say: their names are the script."""
    with Path(log).open("a") as file:
        file.write("started\n")
    connection.send(Ready(1000))
    while True:
        prompts: list[Prompt] = []
        while not prompts or connection.poll(TOGETHER_S):
            if (prompt := connection.recv()) is None:
                return
            prompts.append(prompt)
        names = [prompt.request_id for prompt in prompts]
        if "hang, once" in names and Path(log).read_text().count("started") == 1:
            time.sleep(60)
        for prompt in prompts:
            connection.send(Rendering(prompt.request_id))
            if prompt.request_id.startswith("die of its images"):
                os._exit(1)
            connection.send(Queued(prompt.request_id))
        if any(name.split()[0] == "die" and name != "die after the others" for name in names):
            os._exit(1)
        for prompt in sorted(prompts, key=lambda prompt: prompt.rank):
            answer(connection, prompt)


def answer(connection: Connection, prompt: Prompt) -> None:
    name = prompt.request_id
    if name == "die after the others":
        os._exit(1)
    if any("unreadable" in path for _, path in prompt.images):
        connection.send(Reply(name, refusal="cannot identify image file"))
        return
    connection.send(Prefilled(name))
    ends, probabilities = (4,), (0.9,)
    connection.send(Reply(name, "fine", "stop", 10, token_ends=ends, token_probabilities=probabilities))


def die_when_loading(*arguments: Any) -> None:
    os._exit(1)


def die_of_everything(
    connection: Connection, arguments: Any, sampling: Any, devices: Any, log: str, adapt: Any
) -> None:
    """Load, and die of the first prompt, whatever it is."""
    with Path(log).open("a") as file:
        file.write("started\n")
    connection.send(Ready(1000))
    if connection.recv() is not None:
        os._exit(1)
