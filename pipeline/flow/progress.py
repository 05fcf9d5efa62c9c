"""Show how far the run is: a bar on a terminal, plain lines elsewhere, a summary whose counts add up."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm

from pipeline.records import Answer, Completion, Page, Summary, Window

_LINE_EVERY_S = 30.0


class Progress:
    """Count what happens and show it over pages. Use as a context manager."""

    def __init__(self, summary: Summary) -> None:
        self.summary = summary
        self._begun = self._shown = time.monotonic()
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            self._bar = tqdm(total=0, unit="page", desc="answering", dynamic_ncols=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.summary.seconds = time.monotonic() - self._begun
        if self._bar is not None:
            self._bar.close()

    def expect(self, pages: int) -> None:
        """Raise the bar's total: it grows as documents are opened, ahead of the engine."""
        if self._bar is not None:
            self._bar.total = (self._bar.total or 0) + pages

    def see_window(self, window: Window) -> None:
        """Count the documents whose last pages are in a window that has been answered."""
        self.summary.documents += sum(chunk.pages[-1:] == chunk.subject.pages[-1:] for chunk in window)

    def see_pages(self, pages: tuple[Page, ...]) -> None:
        self.summary.pages += len(pages)
        self._show(len(pages))

    def see_request(self, completion: Completion) -> None:
        self.summary.requests += 1
        self.summary.prompt_tokens += completion.prompt_tokens
        self.summary.cached_tokens += completion.cached_tokens
        self.summary.output_tokens += completion.output_tokens
        self._show(0)

    def see_answer(self, answer: Answer) -> None:
        if answer.failure is None:
            self.summary.answered += 1
            return
        self.summary.failed += 1
        code = answer.failure.code
        self.summary.errors[code] = self.summary.errors.get(code, 0) + 1

    def _show(self, pages: int) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(self._counts(), refresh=False)
            self._bar.update(pages)
        elif time.monotonic() - self._shown > _LINE_EVERY_S:
            self._shown = time.monotonic()
            rate = self.summary.pages / (self._shown - self._begun)
            print(
                f"{self.summary.pages} pages, {rate:.1f} pages/s, {self._counts()}",
                file=sys.stderr,
                flush=True,
            )

    def _counts(self) -> str:
        done = self.summary
        cached = done.cached_tokens / done.prompt_tokens if done.prompt_tokens else 0.0
        tokens = f"{done.prompt_tokens:,} tokens, {cached:.0%} cached"
        return f"{done.answered} answers, {tokens}, {done.failed} errors"


def describe(summary: Summary, output: str) -> str:
    """Return the closing summary."""
    rate = summary.pages / summary.seconds if summary.seconds else 0.0
    lines = [
        f"inputs   {summary.inputs} = {summary.inputs_ok} ok + {summary.inputs_error} error"
        f" ({summary.ignored_files} other files ignored)",
        f"answers  {summary.cells} = {summary.answered} new + {summary.reused} kept + {summary.failed} error",
        f"work     {summary.pages} pages, {summary.requests} requests,"
        f" {summary.seconds:.1f} s, {rate:.1f} pages/s",
    ]
    if summary.errors:
        codes = ", ".join(f"{code} {count}" for code, count in sorted(summary.errors.items()))
        lines.append(f"errors   {codes}")
    lines.append(f"tables   {output}/answers  (pandas.read_parquet)")
    return "\n".join(lines)
