"""Count what a run has answered: every figure of the page's first screen."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

from pipeline.records import Json
from pipeline.viewing.finished import NO_GOLD, RIGHT, Finished
from pipeline.viewing.remedies import REMEDIES

_BARS = 20
_MOST_QUESTIONS = 200
_MOST_EXAMPLES = 20


@dataclass(slots=True)
class Counts:
    """Of some answers: how many there are of each sort."""

    rows: int = 0
    ok: int = 0
    review: int = 0
    """Of those that are ok: to look at."""
    errors: int = 0
    gold: int = 0
    """With a gold answer."""
    right: int = 0
    median_confidence: float | None = None

    @property
    def open(self) -> int:
        """Answers that a person has something to do with."""
        return self.errors + self.review


@dataclass(slots=True)
class TaskTotals:
    """One task: its answers, and what they took, over all requests that are in the tables."""

    task: str
    counts: Counts
    models: list[str]
    requests: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    engine_seconds: float
    gpu_seconds: float
    cost: float
    bars: list[int]
    """Answers that are ok, by confidence: twenty bars from 0 to 1."""


@dataclass(slots=True)
class QuestionTotals:
    task: str
    question_id: str
    question: str
    counts: Counts


@dataclass(slots=True)
class KindTotals:
    """The inputs of one kind of file."""

    kind: str
    inputs: int = 0
    errors: int = 0
    pages: int = 0
    text_layer_pages: int = 0
    blank_pages: int = 0


@dataclass(slots=True)
class CodeTotals:
    """What failed with one error code, and what to do about it."""

    code: str
    inputs: int = 0
    answers: int = 0
    meaning: str = ""
    remedy: str = ""
    examples: list[str] = field(default_factory=list)
    """What rows say: which file, and why."""


@dataclass(slots=True)
class Totals:
    inputs: int
    input_errors: int
    pages: int
    counts: Counts
    tasks: list[TaskTotals]
    questions: list[QuestionTotals]
    questions_in_all: int
    kinds: list[KindTotals]
    languages: dict[str, int]
    codes: list[CodeTotals]

    def to_json(self) -> Json:
        """Return the figures for the page."""
        values: Json = asdict(self)
        return values


def count(run: Finished) -> Totals:
    """Count everything that the first screen shows."""
    questions = _by_question(run)
    statuses = run.documents["status"].to_pylist()
    return Totals(
        inputs=len(statuses),
        input_errors=sum(status != "ok" for status in statuses),
        pages=sum(pages or 0 for pages in run.documents["pages"].to_pylist()),
        counts=_counts(run, range(run.answers.num_rows)),
        tasks=_by_task(run),
        questions=questions[:_MOST_QUESTIONS],
        questions_in_all=len(questions),
        kinds=_by_kind(run),
        languages=dict(Counter(_flat(run.documents["languages"].to_pylist())).most_common()),
        codes=_by_code(run),
    )


def _counts(run: Finished, rows: Sequence[int]) -> Counts:
    status, review, confidence = run.text["status"], run.review, run.confidence
    verdicts = [run.verdicts[row] for row in rows]
    ok = [row for row in rows if status[row] == "ok"]
    known = [c for row in ok if (c := confidence[row]) is not None]
    return Counts(
        rows=len(rows),
        ok=len(ok),
        review=sum(review[row] is True for row in ok),
        errors=sum(status[row] == "error" for row in rows),
        gold=len(verdicts) - verdicts.count(NO_GOLD),
        right=verdicts.count(RIGHT),
        median_confidence=statistics.median(known) if known else None,
    )


def _by_task(run: Finished) -> list[TaskTotals]:
    asked: dict[str, list[int]] = defaultdict(list)
    for row, task in enumerate(run.requests["task"].to_pylist()):
        asked[task].append(row)
    return [_task(run, task, rows, asked.get(task, [])) for task, rows in _grouped(run, "task").items()]


def _task(run: Finished, task: str, rows: list[int], asked: list[int]) -> TaskTotals:
    status, confidence, model = run.text["status"], run.confidence, run.text["model"]
    known = [c for row in rows if status[row] == "ok" and (c := confidence[row]) is not None]
    # A confidence of 1 belongs to the last bar.
    bars = Counter(min(int(c * _BARS), _BARS - 1) for c in known)
    took = {name: _sum(run, name, asked) for name in ("prompt_tokens", "cached_tokens", "output_tokens")}
    return TaskTotals(
        task=task,
        counts=_counts(run, rows),
        models=sorted({str(model[row]) for row in rows}),
        requests=len(asked),
        prompt_tokens=int(took["prompt_tokens"]),
        cached_tokens=int(took["cached_tokens"]),
        output_tokens=int(took["output_tokens"]),
        engine_seconds=_sum(run, "engine_seconds", asked),
        gpu_seconds=_sum(run, "gpu_seconds", asked),
        cost=_sum(run, "cost", asked),
        bars=[bars[place] for place in range(_BARS)],
    )


def _sum(run: Finished, name: str, rows: Iterable[int]) -> float:
    values: list[float | None] = run.requests[name].to_pylist()
    return sum(values[row] or 0 for row in rows)


def _by_question(run: Finished) -> list[QuestionTotals]:
    """Count the answers to each question, those with most to look at first."""
    tasks, ids, texts = run.text["task"], run.text["question_id"], run.text["question"]
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, key in enumerate(zip(map(str, tasks), map(str, ids), strict=True)):
        groups[key].append(row)
    counted = [
        QuestionTotals(task, question_id, texts[rows[0]] or "", _counts(run, rows))
        for (task, question_id), rows in groups.items()
    ]
    # What a person has most to do with comes first, and then what is most often wrong.
    return sorted(counted, key=lambda each: (-each.counts.open, each.counts.right - each.counts.gold))


def _by_kind(run: Finished) -> list[KindTotals]:
    found: dict[str, KindTotals] = {}
    names = ("kind", "status", "pages", "text_layer_pages", "blank_pages")
    for kind, status, pages, text, blank in zip(*(run.documents[n].to_pylist() for n in names), strict=True):
        each = found.setdefault(kind, KindTotals(kind or "unknown"))
        each.inputs += 1
        each.errors += status != "ok"
        each.pages += pages or 0
        each.text_layer_pages += text or 0
        each.blank_pages += blank or 0
    return sorted(found.values(), key=lambda each: -each.inputs)


def _by_code(run: Finished) -> list[CodeTotals]:
    """Count what failed by code: inputs, whether or not anything was asked about them, and answers."""
    found: dict[str, CodeTotals] = {}
    inputs = [run.documents[name].to_pylist() for name in ("error_code", "error")]
    for code, error in zip(*inputs, strict=True):
        if code:
            _code(found, code, error).inputs += 1
    for code, error in zip(run.text["error_code"], run.text["error"], strict=True):
        if code:
            _code(found, code, error).answers += 1
    return sorted(found.values(), key=lambda each: (-each.inputs, -each.answers))


def _code(found: dict[str, CodeTotals], code: str, error: str | None) -> CodeTotals:
    each = found.setdefault(code, CodeTotals(code, 0, 0, *REMEDIES.get(code, ("", ""))))
    if error and error not in each.examples and len(each.examples) < _MOST_EXAMPLES:
        each.examples.append(error)
    return each


def _grouped(run: Finished, column: str) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for row, value in enumerate(map(str, run.text[column])):
        groups[value].append(row)
    return groups


def _flat(lists: Iterable[list[str] | None]) -> Iterable[str]:
    return (item for each in lists for item in each or ())
