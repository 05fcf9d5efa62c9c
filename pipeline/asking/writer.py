"""Write the texts of requests and count each request exactly: what packing and reducing need of prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pipeline.asking import prompt
from pipeline.asking.tokens import TokenCounter
from pipeline.config import TaskSettings
from pipeline.records import Cell, Json, Page, Question, Request


class Writer:
    """Writes for one task; every text comes with its tokens, as the engine will count them."""

    def __init__(self, task: TaskSettings, envelope: dict[str, Json] | None, counter: TokenCounter) -> None:
        self._task, self._envelope, self._counter = task, envelope, counter

    def page_cost(self, page: Page) -> int:
        """Count a page's label and image."""
        return self._counter.text(page.label) + self._counter.image(page.width_px, page.height_px)

    def ask(self, cell: Cell) -> tuple[str, int]:
        """Return the text after the images, and its tokens with the chat format's."""
        text = prompt.ask(cell.question, self._task, self._envelope)
        return text, self._counter.text(text) + self._counter.overhead

    def merge(self, question: Question, replies: Sequence[str]) -> tuple[str, int]:
        """Return the text that merges replies, and the tokens of the whole request."""
        text = prompt.merge(question, replies, self._task, self._envelope)
        return text, self._counter.merge(text)

    def again(self, request: Request, fault: str) -> tuple[str, int]:
        """Return the text of another attempt after a reply with that fault, and the request's tokens."""
        text = prompt.again(request.prompt, fault)
        if not request.pages:
            return text, self._counter.merge(text)
        # The images are the same and stay counted.
        more = self._counter.text(text) - self._counter.text(request.prompt)
        return text, request.prompt_tokens + more

    def recount(self, request: Request) -> Request:
        """Count a request again after pages that could not be rendered were left out."""
        pages = sum(map(self.page_cost, request.pages))
        text = self._counter.text(request.prompt) + self._counter.overhead
        return dataclasses.replace(request, prompt_tokens=pages + text)
