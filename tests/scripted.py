"""An engine that plays a script: any reply, late or out of order, refusals, failures and death.

engine = scripted.install(monkeypatch, {"total": scripted.says('{"answer": …}'), "date": EngineLost("gone")})
execute(compose("input=…", "engine=vllm"))
assert [request.cell.question.question_id for request in engine.asked] == ["total", "date"]
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import pytest

from pipeline.engines import choose
from pipeline.records import Completion, Failure, Request


@dataclass(frozen=True)
class Late:
    """A reply that comes only after this many calls of `take`, or when nothing else is left."""

    completion: Completion
    calls: int


Play = Completion | Late | Exception
Script = Mapping[str, Play | Sequence[Play]] | Callable[[Request], Play]
"""What to do with a request: a function of it, or a table by question_id (of several, one each time).

An exception is raised by `take` when the request's turn comes; EngineLost is the death of the engine.
"""


def says(text: str, probability: float = 0.9, finish_reason: str = "stop") -> Completion:
    """Return a reply of which each token (a run of letters, or one other character) has this probability."""
    ends = tuple(match.end() for match in re.finditer(r"\w+|\W", text))
    return Completion(
        text,
        finish_reason,
        output_tokens=len(ends),
        token_ends=ends,
        token_probabilities=(probability,) * len(ends),
    )


def fails(code: str = "engine_failed", message: str = "as the script says") -> Completion:
    """Return the completion of a request that could not be answered."""
    return Completion("", "error", failure=Failure(code, message))


class ScriptedEngine:
    """Plays a script, one request each time `take` is called; `asked` are the requests that it was given."""

    def __init__(
        self, script: Script, windows_ahead: int = 0, window_tokens: int = 100_000, last_first: bool = False
    ) -> None:
        """`last_first`: of the same window, the latest request is answered first."""
        self.windows_ahead, self.window_tokens = windows_ahead, window_tokens
        self.asked: list[Request] = []
        self.closed = 0
        self._script, self._last_first = script, last_first
        self._waiting: list[tuple[int, int, Request]] = []
        self._late: list[tuple[int, Request, Completion]] = []
        self._calls = 0
        self._played: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.closed += 1

    def put(self, requests: Sequence[Request], window_number: int) -> None:
        for request in requests:
            number = -len(self.asked) if self._last_first else len(self.asked)
            self._waiting.append((window_number, number, request))
            self.asked.append(request)
        self._waiting.sort(key=lambda waiting: waiting[:2])

    def take(self) -> list[tuple[Request, Completion]]:
        self._calls += 1
        while True:
            if self._late and (not self._waiting or self._late[0][0] <= self._calls):
                _, request, completion = self._late.pop(0)
                break
            _, _, request = self._waiting.pop(0)
            play = self._play(request)
            if isinstance(play, Exception):
                raise play
            if isinstance(play, Completion):
                completion = play
                break
            self._late.append((self._calls + play.calls, request, play.completion))
            self._late.sort(key=lambda late: late[0])
        if completion.failure is None:
            completion = replace(completion, prompt_tokens=completion.prompt_tokens or request.prompt_tokens)
        return [(request, completion)]

    def _play(self, request: Request) -> Play:
        if callable(self._script):
            return self._script(request)
        question_id = request.cell.question.question_id
        plays = self._script[question_id]
        if isinstance(plays, Completion | Late | Exception):
            return plays
        self._played[question_id] += 1
        return plays[min(self._played[question_id], len(plays)) - 1]


def install(
    monkeypatch: pytest.MonkeyPatch,
    script: Script,
    windows_ahead: int = 0,
    window_tokens: int = 100_000,
    last_first: bool = False,
) -> ScriptedEngine:
    """Put an engine that plays `script` in the place of whatever a run would build, and return it."""
    engine = ScriptedEngine(script, windows_ahead, window_tokens, last_first)
    monkeypatch.setattr(choose, "build", lambda *_: engine)
    return engine
