"""An engine that is built when there is something to ask: many runs only make answers of stored replies."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Self

from pipeline.engines.base import Engine
from pipeline.reading import language
from pipeline.records import Completion, Request


class EngineOnDemand:
    """Builds an engine with the first request, and closes it with the run."""

    def __init__(self, build: Callable[[], Engine], add_loading: Callable[[float], None]) -> None:
        """`add_loading` is told the seconds that it took to build."""
        self._build = build
        self._add_loading = add_loading
        self._engine: Engine | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def window_tokens(self) -> int | None:
        """Prompt tokens that may be in flight together; None before the engine is there."""
        return self._engine.window_tokens if self._engine else None

    @property
    def windows_ahead(self) -> int:
        """Windows that the engine wants to hold beyond the one whose answers are waited for."""
        return self._engine.windows_ahead if self._engine else 0

    def put(self, requests: Sequence[Request], window_number: int) -> None:
        """Take on requests; those of an earlier window go first."""
        self._opened().put(requests, window_number)

    def take(self) -> list[tuple[Request, Completion]]:
        """Wait until some of the requests have ended, and return them, each once."""
        return self._opened().take()

    def _opened(self) -> Engine:
        # A model loads for minutes: a run with nothing new to ask must not wait for one.
        if self._engine is None:
            begun = time.monotonic()
            # A second's work, for which the engine would wait later; while the model loads it costs nothing.
            warm_up = threading.Thread(target=language.warm_up, name="warm-up")
            warm_up.start()
            try:
                self._engine = self._stack.enter_context(self._build())
            finally:
                warm_up.join()  # py3langid must not be used while it is set up
            self._add_loading(time.monotonic() - begun)
        return self._engine
