"""How much of a machine an engine takes for what it is given: the contract of cost models."""

from __future__ import annotations

from typing import Protocol

from pipeline.records import Completion, Request, Usage


class Speed(Protocol):
    """Predicts what an engine takes, and weighs what it took, in seconds of one of its devices."""

    @property
    def gpus(self) -> int:
        """GPUs that it holds; 0 for one that needs none."""
        ...

    @property
    def cores(self) -> int:
        """Cores that it holds; counted where it holds no GPU."""
        ...

    @property
    def is_model(self) -> bool:
        """Whether it finds beginnings of prompts in a cache, and writes tokens: else both are 0."""
        ...

    @property
    def assumed(self) -> str:
        """What a prediction takes for granted, in words for the user."""
        ...

    def seconds(self, usage: Usage) -> float:
        """Predict the seconds of one device: of a GPU, or of a core where there is none."""
        ...

    def weigh(self, request: Request, completion: Completion) -> float:
        """Return the part that a request had in the work, in a unit of its own."""
        ...


def devices(speed: Speed) -> int:
    """Return how many devices work side by side."""
    return max(1, speed.gpus or speed.cores)
