"""Judge answers by what is known to be right, many at a time, a column after the other."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter

import numpy as np

from pipeline.asking.plain import one_line
from pipeline.evaluating.evaluation import Evaluation, key
from pipeline.evaluating.golden import GoldAnswer
from pipeline.evaluating.metrics.sets import Found, of_boxes, of_fields, of_pages
from pipeline.evaluating.statistics import Floats
from pipeline.records import Box, Json
from pipeline.tables.evaluation import AnswerRow, Judgements

UNKNOWN = "unknown"
_ANSWERED = ("ok", "not_asked")  # what an earlier answer made needless is an abstention
_MOST_WRONG = 50


def judge(
    found: Evaluation,
    rows: Sequence[AnswerRow],
    golds: Sequence[GoldAnswer],
    kinds: Mapping[str, str],
    into: Judgements | None,
) -> None:
    """Add answers and how they compare with what is right; `kinds` are those of the run's inputs."""
    answered = [row.status in _ANSWERED for row in rows]
    said = [(row.answer or "") if is_said else "" for row, is_said in zip(rows, answered, strict=True)]
    abstains = [is_said and not text.strip() for is_said, text in zip(answered, said, strict=True)]
    scores = _scores(found, said, abstains, golds)
    decided = _decided(found, rows, golds, scores)
    right = [score >= found.rules.right_from for score in decided]
    for values, column in zip(found.scores.values(), scores, strict=True):
        values.frombytes(column.astype(np.float32).tobytes())
    found.decided.extend(decided)
    found.right.extend(right)
    found.abstains.extend(abstains)
    found.unanswerable.extend([gold.unanswerable for gold in golds])
    found.failed["error"].extend([not each for each in answered])
    wrong = (each for each in zip(rows, golds, right, strict=True) if not each[2])
    for row, gold, _ in itertools.islice(wrong, _MOST_WRONG - len(found.wrong)):
        found.wrong.append(_said_wrong(row, gold))
    _add_rows(found, rows)
    _add_labels(found, rows, golds, kinds)
    _add_evidence(found, rows, golds, found.documents.extend([row.source for row in rows]))
    if into is not None:
        into.add(_judgements(rows, golds, right, abstains, scores))


def _scores(
    found: Evaluation, said: Sequence[str], abstains: Sequence[bool], golds: Sequence[GoldAnswer]
) -> Floats:
    """Return each metric's scores; not a number where one has nothing to compare with."""
    scores = np.full((len(found.scores), len(said)), np.nan)
    compared: list[int] = []
    for index, (text, gold) in enumerate(zip(said, golds, strict=True)):
        if gold.unanswerable or gold.is_wrong or (gold.answers and not text):
            scores[:, index] = _without_comparing(found, gold, abstains[index])
        elif gold.answers:
            compared.append(index)
    texts, answers = [said[index] for index in compared], [golds[index].answers for index in compared]
    places = np.asarray(compared, np.int64)
    for values, metric in zip(scores, found.metrics.values(), strict=False):
        values[places] = np.fromiter(metric(texts, answers), float, len(compared))
    for values, of_item in zip(scores[len(found.metrics) :], found.of_items.values(), strict=True):
        values[places] = [of_item(said[i], golds[i].answers, golds[i].about) for i in compared]
    return scores


def _without_comparing(found: Evaluation, gold: GoldAnswer, abstains: bool) -> list[float]:
    """Return the scores of an answer that is right where it says nothing, or wrong whatever it says."""
    score = float(abstains and gold.unanswerable)
    # A metric that does not apply to a question does not apply where it failed either.
    applies = (not math.isnan(metric("", gold.answers, gold.about)) for metric in found.of_items.values())
    return [score] * len(found.metrics) + [score if each else math.nan for each in applies]


def _decided(
    found: Evaluation, rows: Sequence[AnswerRow], golds: Sequence[GoldAnswer], scores: Floats
) -> list[float]:
    """Return the scores by which answers are right; of answers in fields alone, the F1 of these."""
    decided: list[float] = scores[list(found.scores).index(found.rules.name)].tolist()
    for index, gold in enumerate(golds):
        fields = _add_fields(found, rows[index], gold) if gold.fields is not None else 0.0
        if not (gold.answers or gold.unanswerable or gold.is_wrong):
            decided[index] = fields
    return decided


def _add_fields(found: Evaluation, row: AnswerRow, gold: GoldAnswer) -> float:
    """Count right values of each field; return their F1 in this answer."""
    said: Json = json.loads(row.fields) if row.fields and row.status == "ok" else {}
    each = of_fields(said if isinstance(said, dict) else {}, gold.fields or {})
    for name, counted in each.items():
        found.fields[name] = found.fields.get(name, Found()) + counted
    together = sum(each.values(), Found())
    return 1.0 if together.f1 is None else together.f1


def _add_rows(found: Evaluation, rows: Sequence[AnswerRow]) -> None:
    sure = [math.nan if row.confidence is None else row.confidence for row in rows]
    found.confidence.extend(sure)
    found.engine_confidence.extend(
        [
            confidence if row.engine_confidence is None else row.engine_confidence
            for row, confidence in zip(rows, sure, strict=True)
        ]
    )
    if found.has_keys:
        found.keys.extend(map(key, rows))
    found.failed["parse_failure"].extend([row.error_code == "schema_invalid" for row in rows])
    found.failed["truncated"].extend(
        [row.error_code == "truncated" or row.finish_reason == "length" for row in rows]
    )


def _add_labels(
    found: Evaluation, rows: Sequence[AnswerRow], golds: Sequence[GoldAnswer], kinds: Mapping[str, str]
) -> None:
    found.groups["page_quality"].extend([row.page_quality or UNKNOWN for row in rows])
    found.groups["kind"].extend([kinds.get(row.source) or UNKNOWN for row in rows])
    found.groups["task"].extend([row.task or UNKNOWN for row in rows])
    found.groups["judged_by"].extend([gold.judged_by for gold in golds])
    found.groups["group"].extend([gold.group for gold in golds])


def _add_evidence(
    found: Evaluation, rows: Sequence[AnswerRow], golds: Sequence[GoldAnswer], documents: Sequence[int]
) -> None:
    """Count the pages and boxes that answers give as evidence, where it is known which are right."""
    for row, gold, document in zip(rows, golds, documents, strict=True):
        # In page scope the page was given: to cite it is nothing that an answer has found.
        if gold.pages and row.page is None:
            found.pages.add(of_pages(row.evidence_pages or (), gold.pages), document)
        if gold.boxes:
            boxes = [_box(each) for each in row.evidence_boxes or ()]
            found.boxes.add(of_boxes(boxes, gold.boxes), document)


def _box(values: Mapping[str, float]) -> Box:
    return Box(int(values["page"]), *(values[side] for side in ("x0", "y0", "x1", "y1")))


def _said_wrong(row: AnswerRow, gold: GoldAnswer) -> str:
    """Return a wrong answer in a line: where, what was asked, what was said, what is right."""
    right = " | ".join(gold.answers) or ("no answer" if gold.unanswerable else "another answer")
    said, asked = row.answer or row.status, row.question
    place = row.source if row.page is None else f"{row.source}, page {row.page}"
    return f"{place}: {one_line(asked, 80)}: {one_line(said, 80)!r}, not {one_line(right, 80)!r}"


def _judgements(
    rows: Sequence[AnswerRow],
    golds: Sequence[GoldAnswer],
    right: Sequence[bool],
    abstains: Sequence[bool],
    scores: Floats,
) -> Iterator[Sequence[object]]:
    """Yield the columns of evaluation/answers.parquet."""
    for name in ("answer_id", "source", "page", "question_id", "question", "answer", "status"):
        yield list(map(attrgetter(name), rows))
    for name in ("answers", "pages", "unanswerable", "judged_by"):
        yield list(map(attrgetter(name), golds))
    yield right
    yield abstains
    yield [row.confidence for row in rows]
    yield [row.page_quality for row in rows]
    yield from scores.astype(np.float32)
