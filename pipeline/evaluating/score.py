"""Score the answers of a run against what is known to be right, a batch at a time."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.evaluating import profiles
from pipeline.evaluating.evaluation import Evaluation, Rules
from pipeline.evaluating.golden import GoldRow, Known
from pipeline.evaluating.judging import judge
from pipeline.evaluating.profiles import MetricOfItem, Name
from pipeline.tables import evaluation
from pipeline.tables.evaluation import AnswerRow, Judgements


def score(output: Path, known: Known, rules: Rules, write: bool = True, has_keys: bool = False) -> Evaluation:
    """Score a run, and write how each answer was judged. Raises OutputError and SettingsError."""
    files, kinds = evaluation.files(output), evaluation.documents(output)
    if not write:
        return score_files(files, kinds, known, rules, None, has_keys)
    names = [*profiles.chosen(rules.profile), *_of_items(known, rules)]
    with evaluation.judging(output, ["_".join(name) for name in names]) as judgements:
        return score_files(files, kinds, known, rules, judgements, has_keys)


def _of_items(known: Known, rules: Rules) -> dict[Name, MetricOfItem]:
    """Return the metrics that have to know more of a question, where the golden set says it."""
    says = known.golden is not None and any(row.gold.about for row in known.golden.rows)
    return profiles.of_items(rules.profile) if says else {}


def score_files(
    files: Sequence[Path],
    kinds: Mapping[str, str],
    known: Known,
    rules: Rules,
    into: Judgements | None,
    has_keys: bool = False,
) -> Evaluation:
    """Score the answers of files; `kinds` are those of the run's inputs."""
    metrics, of_items = profiles.chosen(rules.profile), _of_items(known, rules)
    main = rules.name
    if main not in metrics and main not in of_items:
        raise SettingsError(f"metric={main[1]}: needs gold=gold.jsonl of a data set, which says what it asks")
    names = [*metrics, *of_items]
    found = Evaluation(rules, metrics, of_items, {name: array("f") for name in names}, has_keys)
    has_boxes = known.golden is not None and any(row.gold.boxes for row in known.golden.rows)
    for rows in evaluation.answers(files, has_boxes):
        golds = [known.of(row) for row in rows]
        judged = [row for row, gold in zip(rows, golds, strict=True) if gold is not None]
        found.without_gold += len(rows) - len(judged)
        judge(found, judged, [gold for gold in golds if gold is not None], kinds, into)
    if known.golden is not None:
        # After all answers: which rows of the golden set none was found for is known only then.
        found.missing, found.outside = known.golden.missing(list(kinds))
        unanswered = [_no_answer(row) for row in found.missing]
        judge(found, unanswered, [row.gold for row in found.missing], {}, into)
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
