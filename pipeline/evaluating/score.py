"""Score the answers of a run against what is known to be right, a batch at a time."""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.asking.plain import one_line
from pipeline.errors import SettingsError
from pipeline.evaluating import profiles
from pipeline.evaluating.golden import GoldAnswer, GoldRow, Known
from pipeline.evaluating.metrics.sets import Found, of_boxes, of_fields, of_pages
from pipeline.evaluating.profiles import Metric, MetricOfItem, Name
from pipeline.evaluating.statistics import Codes, Floats
from pipeline.records import Box, Json
from pipeline.tables import evaluation
from pipeline.tables.evaluation import AnswerRow, Judgements

UNKNOWN = "unknown"
_MOST_WRONG = 50


@dataclass(frozen=True, slots=True)
class Rules:
    """What answers are scored by."""

    profile: str
    metric: str
    """The metric that says whether an answer is right."""
    right_from: float
    """The score from which it is."""

    @property
    def name(self) -> Name:
        """The metric with its profile. Raises SettingsError where there is none of that name."""
        return profiles.named(self.metric, self.profile)


@dataclass(slots=True)
class Evaluation:
    """The scores of all answers of which something is known: an item of each list for each."""

    rules: Rules
    metrics: Mapping[Name, Metric]
    of_items: Mapping[Name, MetricOfItem]
    """Of a data set, beside them."""
    scores: dict[Name, array[float]]
    right: array[int] = field(default_factory=lambda: array("b"))
    documents: array[int] = field(default_factory=lambda: array("q"))
    """A number from 0 for each document."""
    confidence: array[float] = field(default_factory=lambda: array("d"))
    engine_confidence: array[float] = field(default_factory=lambda: array("d"))
    """Before calibration."""
    decided: array[float] = field(default_factory=lambda: array("f"))
    """The score of each answer by which it is right or not."""
    keys: array[int] = field(default_factory=lambda: array("q"))
    """What was asked: see `key`."""
    abstains: array[int] = field(default_factory=lambda: array("b"))
    unanswerable: array[int] = field(default_factory=lambda: array("b"))
    failed: dict[str, array[int]] = field(
        default_factory=lambda: {name: array("b") for name in ("error", "parse_failure", "truncated")}
    )
    groups: dict[str, list[str]] = field(
        default_factory=lambda: {name: [] for name in ("page_quality", "kind", "task", "judged_by", "group")}
    )
    pages: list[Found] = field(default_factory=list)
    boxes: list[Found] = field(default_factory=list)
    evidence_documents: array[int] = field(default_factory=lambda: array("q"))
    """The document of each item of `pages`."""
    box_documents: array[int] = field(default_factory=lambda: array("q"))
    fields: dict[str, Found] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    """Some of the wrong answers, a line each."""
    missing: list[GoldRow] = field(default_factory=list)
    """Of the golden set: not answered, though the document is an input. They count as wrong."""
    outside: int = 0
    """Rows of the golden set about documents that are no input of this run."""
    without_gold: int = 0
    _numbers: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many answers are judged."""
        return len(self.right)

    def document(self, source: str) -> int:
        """Return the number of a document."""
        return self._numbers.setdefault(source, len(self._numbers))

    def values(self, name: Name) -> Floats:
        """Return the scores by one metric; not a number where it has nothing to compare with."""
        return np.frombuffer(self.scores[name], np.float32).astype(float)

    @property
    def right_values(self) -> Floats:
        """1 for each right answer, 0 for each other."""
        return np.frombuffer(self.right, np.int8).astype(float)

    @property
    def codes(self) -> Codes:
        """The number of each answer's document."""
        return np.frombuffer(self.documents, np.int64)


def score(output: Path, known: Known, rules: Rules, write: bool = True) -> Evaluation:
    """Score a run, and write how each answer was judged. Raises OutputError and SettingsError."""
    files, kinds = evaluation.files(output), evaluation.documents(output)
    if not write:
        return score_files(files, kinds, known, rules, None)
    names = [*profiles.chosen(rules.profile), *_of_items(known, rules)]
    with evaluation.judging(output, ["_".join(name) for name in names]) as judgements:
        return score_files(files, kinds, known, rules, judgements)


def _of_items(known: Known, rules: Rules) -> dict[Name, MetricOfItem]:
    """Return the metrics that have to know more of a question, where the golden set says it."""
    says = known.golden is not None and any(row.gold.about for row in known.golden.rows)
    return profiles.of_items(rules.profile) if says else {}


def score_files(
    files: Sequence[Path], kinds: Mapping[str, str], known: Known, rules: Rules, into: Judgements | None
) -> Evaluation:
    """Score the answers of files; `kinds` are those of the run's inputs."""
    metrics, of_items = profiles.chosen(rules.profile), _of_items(known, rules)
    main = rules.name
    if main not in metrics and main not in of_items:
        raise SettingsError(f"metric={main[1]}: needs gold=gold.jsonl of a data set, which says what it asks")
    names = [*metrics, *of_items]
    found = Evaluation(rules, metrics, of_items, {name: array("f") for name in names})
    deciding = names.index(main)
    has_boxes = known.golden is not None and any(row.gold.boxes for row in known.golden.rows)
    for row in evaluation.answers(files, has_boxes):
        gold = known.of(row)
        if gold is None:
            found.without_gold += 1
            continue
        _judge(found, row, gold, kinds.get(row.source, UNKNOWN), deciding, into)
    if known.golden is not None:
        found.missing, found.outside = known.golden.missing(list(kinds))
        for missing in found.missing:
            _judge(found, _no_answer(missing), missing.gold, UNKNOWN, deciding, into)
    if not len(found):
        raise SettingsError(
            "gold: nothing is known of any answer of this run; `document` is a path or glob relative to"
            " input, `question` the text that was asked"
        )
    return found


def _no_answer(row: GoldRow) -> AnswerRow:
    nothing: dict[str, None] = dict.fromkeys(
        ("page", "error_code", "answer", "fields", "evidence_pages", "evidence_boxes", "finish_reason",
         "confidence", "engine_confidence", "page_quality", "task", "gold_answer", "gold_page")
    )  # fmt: skip
    return AnswerRow(
        answer_id="", source=row.document, question_id=row.question_id, question=row.question,
        status="missing", **nothing,
    )  # fmt: skip


def _judge(
    found: Evaluation, row: AnswerRow, gold: GoldAnswer, kind: str, main: int, into: Judgements | None
) -> None:
    answered = row.status in ("ok", "not_asked")  # what an earlier answer made needless is an abstention
    prediction = (row.answer or "") if answered else ""
    abstains = answered and not prediction.strip()
    fields = _add_fields(found, row, gold) if gold.fields is not None else None
    scores = _scores(found, prediction, abstains, gold)
    deciding = scores[main] if gold.answers or gold.unanswerable or gold.is_wrong else fields or 0.0
    right = deciding >= found.rules.right_from
    for values, value in zip(found.scores.values(), scores, strict=True):
        values.append(value)
    document = found.document(row.source)
    found.right.append(right)
    found.decided.append(deciding)
    if not right and len(found.wrong) < _MOST_WRONG:
        found.wrong.append(_said_wrong(row, gold))
    found.documents.append(document)
    found.confidence.append(_number(row.confidence))
    found.engine_confidence.append(
        _number(row.confidence if row.engine_confidence is None else row.engine_confidence)
    )
    found.keys.append(key(row))
    found.abstains.append(abstains)
    found.unanswerable.append(gold.unanswerable)
    found.failed["error"].append(not answered)
    found.failed["parse_failure"].append(row.error_code == "schema_invalid")
    found.failed["truncated"].append(row.error_code == "truncated" or row.finish_reason == "length")
    named = (row.page_quality or UNKNOWN, kind or UNKNOWN, row.task or UNKNOWN, gold.judged_by, gold.group)
    for group, label in zip(found.groups.values(), named, strict=True):
        group.append(label)
    _add_evidence(found, row, gold, document)
    if into is not None:
        into.add(_judgement(row, gold, right, abstains, scores))


def _scores(found: Evaluation, prediction: str, abstains: bool, gold: GoldAnswer) -> list[float]:
    """Return a score by each metric; not a number where one has nothing to compare with."""
    if not gold.answers and not gold.unanswerable and not gold.is_wrong:
        return [float("nan")] * len(found.scores)
    if gold.unanswerable or gold.is_wrong or not prediction:
        score = float(abstains and gold.unanswerable)
        # A metric that does not apply to a question does not apply where it failed either.
        applies = (not math.isnan(metric("", gold.answers, gold.about)) for metric in found.of_items.values())
        return [score] * len(found.metrics) + [score if each else math.nan for each in applies]
    return [
        *(metric(prediction, gold.answers) for metric in found.metrics.values()),
        *(metric(prediction, gold.answers, gold.about) for metric in found.of_items.values()),
    ]


def key(row: AnswerRow) -> int:
    """Return 63 bits that identify what was asked, the same in every run and process."""
    asked = f"{row.question}\0{row.source}\0{row.page}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(asked, digest_size=8).digest()) >> 1


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _said_wrong(row: AnswerRow, gold: GoldAnswer) -> str:
    """Return a wrong answer in a line: where, what was asked, what was said, what is right."""
    right = " | ".join(gold.answers) or ("no answer" if gold.unanswerable else "another answer")
    said, asked = row.answer or row.status, row.question
    place = row.source if row.page is None else f"{row.source}, page {row.page}"
    return f"{place}: {one_line(asked, 80)}: {one_line(said, 80)!r}, not {one_line(right, 80)!r}"


def _judgement(
    row: AnswerRow, gold: GoldAnswer, right: bool, abstains: bool, scores: Iterable[float]
) -> Sequence[object]:
    return (
        row.answer_id, row.source, row.page, row.question_id, row.question, row.answer, row.status,
        gold.answers, gold.pages, gold.unanswerable, gold.judged_by, right, abstains, row.confidence,
        row.page_quality, *scores,
    )  # fmt: skip


def _add_evidence(found: Evaluation, row: AnswerRow, gold: GoldAnswer, document: int) -> None:
    """Count the pages and boxes that an answer gives as evidence, where it is known which are right."""
    if gold.pages and row.page is None:
        found.pages.append(of_pages(row.evidence_pages or (), gold.pages))
        found.evidence_documents.append(document)
    if gold.boxes:
        boxes = [_box(each) for each in row.evidence_boxes or ()]
        found.boxes.append(of_boxes(boxes, gold.boxes))
        found.box_documents.append(document)


def _box(values: Mapping[str, float]) -> Box:
    return Box(int(values["page"]), *(values[side] for side in ("x0", "y0", "x1", "y1")))


def _add_fields(found: Evaluation, row: AnswerRow, gold: GoldAnswer) -> float:
    """Count right values of each field; return their F1 in this answer."""
    said: Json = json.loads(row.fields) if row.fields and row.status == "ok" else {}
    each = of_fields(said if isinstance(said, dict) else {}, gold.fields or {})
    for name, counted in each.items():
        found.fields[name] = found.fields.get(name, Found()) + counted
    together = sum(each.values(), Found())
    return 1.0 if together.f1 is None else together.f1
