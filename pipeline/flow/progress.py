"""Show how far the run is: a bar on a terminal, plain lines elsewhere, a summary whose counts add up."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import NoReturn

from tqdm import tqdm

from pipeline.records import Answer, Completion, Page, Subject, Summary, Window

_LINE_EVERY_S = 30.0
_MOST_NAMED = 5


class Progress:
    """Count what happens and show it over pages. Use as a context manager."""

    def __init__(self, summary: Summary) -> None:
        self.summary = summary
        self._begun = self._shown = time.monotonic()
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> Progress:
        # In a log file a bar is thousands of lines.
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

    def add_window(self, window: Window) -> None:
        """Count the documents, or folders, whose last pages are in a window that has been answered."""
        ended = {
            chunk.subject.source
            for chunk in window
            if not chunk.pages or chunk.pages[-1].ordinal == _last_page(chunk.subject)
        }
        self.summary.documents += len(ended)

    def add_pages(self, pages: tuple[Page, ...]) -> None:
        self.summary.pages += len(pages)
        self._show(len(pages))

    def add_completion(self, completion: Completion) -> None:
        self.summary.requests += 1
        self.summary.prompt_tokens += completion.prompt_tokens
        self.summary.cached_tokens += completion.cached_tokens
        self.summary.output_tokens += completion.output_tokens
        self._show(0)

    def add_answer(self, answer: Answer, derived: bool) -> None:
        """Count an answer; `derived`: made of stored replies alone."""
        if answer.failure is None:
            self.summary.answered += 1
            self.summary.derived += derived
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


def _last_page(subject: Subject) -> int:
    """Return the number of the last page of a subject's document, or folder."""
    return subject.pages[-1].ordinal if subject.scope == "folder" else subject.pages_total


def describe(summary: Summary, output: str) -> str:
    """Return the closing summary: what was read, answered and kept, what failed, what left the tables."""
    rate = summary.pages / summary.seconds if summary.seconds else 0.0
    ignored = ", ".join(
        f"{count} {ending or 'without ending'}" for ending, count in sorted(summary.ignored.items())
    )
    derived = f" ({summary.derived} made of stored replies)" if summary.derived else ""
    lines = [
        f"inputs   {summary.inputs} = {summary.inputs_ok} ok + {summary.inputs_error} error"
        f" ({summary.ignored_files} other files ignored{': ' + ignored if ignored else ''})",
        f"answers  {summary.cells} = {summary.answered} new{derived} + {summary.reused} kept"
        f" + {summary.failed} error",
        f"work     {summary.pages} pages, {summary.requests} requests,"
        f" {summary.seconds:.1f} s, {rate:.1f} pages/s",
    ]
    if summary.errors:
        lines.append(f"errors   {_counts(summary.errors)}")
    for code, count in sorted(summary.input_errors.items()):
        lines.append(f"         {code} {count}: {_named(summary.failed_inputs[code], count)}")
    if summary.questions_unmatched:
        patterns = summary.questions_unmatched
        lines.append(f"no input for questions about {_named(patterns, len(patterns))}")
    if summary.earlier and not summary.reused and not summary.derived:
        lines.append(f"none of the {summary.earlier} answers that were there fits these inputs and settings")
    lines += [f"left     {count} rows {reason}" for reason, count in sorted(summary.rows_left.items())]
    lines.append(f"tables   {output}/answers  (pandas.read_parquet)")
    return "\n".join(lines)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _named(names: Sequence[str], count: int) -> str:
    """Name a few of `count` things."""
    shown = list(names[:_MOST_NAMED])
    return ", ".join(shown) + (f" and {count - len(shown)} more" if count > len(shown) else "")
