"""Show how far the run is: a bar on a terminal, plain lines elsewhere, a summary whose counts add up."""

from __future__ import annotations

import datetime as dt
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import NoReturn

from tqdm import tqdm

from pipeline.records import Answer, Completion, Page, Subject, Window
from pipeline.summary import Summary
from pipeline.texts import one_line

_LINE_EVERY_S = 30.0
_MOST_NAMED = 5
# What fits 80 columns: how far, how long, how long to go, and what was read.
_BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} documents [{elapsed}<{remaining}]{postfix}"


class Progress:
    """Count what happens, and show it over the documents of the run. Use as a context manager.

    A page counts when the last question about it has its reply, not when it is drawn: engines are handed work
    far ahead of their answers.
    """

    def __init__(self, summary: Summary, documents: int) -> None:
        """`documents`: how many there are in all."""
        self.summary = summary
        self._total, self._settled = documents, 0
        summary.inputs_found = documents
        self._begun = self._shown = time.monotonic()
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> Progress:
        # In a log file a bar is thousands of lines.
        if sys.stderr.isatty():
            self._bar = tqdm(total=self._total, unit="doc", bar_format=_BAR, dynamic_ncols=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.summary.seconds = time.monotonic() - self._begun
        if self._bar is not None:
            self._bar.close()

    def skip(self, documents: int) -> None:
        """Count documents of which nothing is left to ask."""
        self._settle(documents)

    def add_window(self, window: Window) -> None:
        """Count the documents, or folders, whose last pages are in a window that has been answered."""
        ended = {
            chunk.subject.source: _documents(chunk.subject)
            for chunk in window
            if not chunk.pages or chunk.pages[-1].ordinal == _last_page(chunk.subject)
        }
        self.summary.documents += len(ended)
        self._settle(sum(ended.values()))

    def add_pages(self, pages: Sequence[Page]) -> None:
        """Count pages of which every question has its reply."""
        self.summary.pages += len(pages)
        self._show()

    def add_completion(self, completion: Completion) -> None:
        self.summary.requests += 1
        self.summary.prompt_tokens += completion.prompt_tokens
        self.summary.cached_tokens += completion.cached_tokens
        self.summary.output_tokens += completion.output_tokens
        self._show()

    def add_answer(self, answer: Answer, derived: bool) -> None:
        """Count an answer; `derived`: made of stored replies alone."""
        if answer.status == "not_asked":
            self.summary.not_asked += 1
            return
        if answer.failure is None:
            self.summary.answered += 1
            self.summary.derived += derived
            return
        self.summary.failed += 1
        code = answer.failure.code
        self.summary.errors[code] = self.summary.errors.get(code, 0) + 1

    def _settle(self, documents: int) -> None:
        # A document whose questions came in several subjects may be counted twice, the total never passed.
        documents = min(documents, self._total - self._settled)
        self._settled += documents
        self.summary.inputs_done = self._settled
        if self._bar is not None:
            self._bar.update(documents)
        self._show()

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(self._counts())
        elif time.monotonic() - self._shown > _LINE_EVERY_S:
            self._shown = time.monotonic()
            print(self._line(self._shown - self._begun), file=sys.stderr, flush=True)

    def _line(self, seconds: float) -> str:
        """Return a line for a log: when, how far, how fast, how long to go."""
        share = self._settled / self._total if self._total else 0.0
        left = f", {duration(seconds * (1 - share) / share)} left" if 0 < share < 1 else ""
        done = f"{self._settled:,} of {self._total:,} documents ({share:.0%})"
        return f"{dt.datetime.now():%H:%M:%S} {done}, {self._counts()}{left}"

    def _counts(self) -> str:
        done = self.summary
        rate = done.pages / max(time.monotonic() - self._begun, 1e-3)
        cached = done.cached_tokens / done.prompt_tokens if done.prompt_tokens else 0.0
        counts = [f"{done.pages:,} pages", f"{rate:.1f}/s"]
        counts += [f"{cached:.0%} cached"] if cached else []
        counts += [f"{done.failed} errors"] if done.failed else []
        return ", ".join(counts)


def duration(seconds: float) -> str:
    """Return a time as people say it: 2 h 5 min, 12 min, 40 s."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes >= 2 else f"{round(seconds)} s"


def _documents(subject: Subject) -> int:
    """Count the documents of a subject: several where a folder is asked about as a whole."""
    return len({page.document.source for page in subject.pages}) or 1


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
        f" + {summary.failed} error" + (f" + {summary.not_asked} not asked" if summary.not_asked else ""),
        f"work     {summary.pages} pages, {summary.requests} requests,"
        f" {summary.seconds:.1f} s, {rate:.1f} pages/s",
    ]
    if summary.gpu_seconds or summary.cost:
        lines.append(f"cost     {_cost(summary)}")
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


def _cost(summary: Summary) -> str:
    """Return what answering took, and loading the model beside it."""
    parts = [f"{summary.gpu_seconds / 3600:.3g} GPU hours"] if summary.gpu_seconds else []
    parts += [f"{summary.cost:,.2f} by the prices set"] if summary.cost else []
    loading = summary.loading_gpu_seconds / 3600
    return ", ".join(parts) + (f"; and {loading:.3g} GPU hours to load the model" if loading else "")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _named(names: Sequence[str], count: int) -> str:
    """Name a few of `count` things."""
    shown = list(map(one_line, names[:_MOST_NAMED]))
    return ", ".join(shown) + (f" and {count - len(shown)} more" if count > len(shown) else "")
