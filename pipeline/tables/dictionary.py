"""Say what each column of each table holds; `python -m pipeline.tables.dictionary` prints docs/columns.md."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa

from pipeline.records import Json
from pipeline.tables import changes, columns, evaluation, reviews


class About(NamedTuple):
    """What a reader has to know of a column beside its name and type."""

    meaning: str
    example: Json = None
    unit: str = ""


class Described(NamedTuple):
    """A table: what a row of it is, its columns, and what is known of each."""

    rows: str
    schema: pa.Schema
    about: Mapping[str, About]


_SHA = "9c34b6f1…"
_RUN = {
    "model": About("what answered: the model's name, or `embedded-reader`", "Pixtral-Large-Instruct-2411"),
    "engine": About("through which engine", "vllm"),
    "task": About("the task's name: [tasks.md](tasks.md)", "qa"),
    "run_id": About("the run that wrote the row", "5f0c2b7e…"),
}
_ERROR = {
    "error_code": About("why not: [errors.md](errors.md); null when `status` is `ok`", "encrypted"),
    "error": About("what, which, and what to do about it", "a.pdf: needs a password; …"),
}
_TAKEN = {
    "prompt_tokens": About("what the engine counted of its prompts", 6016, "tokens"),
    "cached_tokens": About("of these, found in the prefix cache", 5984, "tokens"),
    "output_tokens": About("what it wrote", 57, "tokens"),
    "engine_seconds": About(
        "what the engine took, from its start to its end; embedded: of the cores, its pages read ahead",
        1.87,
        "seconds",
    ),
    "gpu_seconds": About(
        "its share of the time of all GPUs that answered: the rows of a run sum to the run's",
        0.42,
        "GPU seconds",
    ),
    "cost": About(
        "the same in money, at `cost.gpu_hour_price` or `cost.core_hour_price`", 0.0004, "currency"
    ),
}
_BOX: Json = [{"page": 3, "x0": 72.0, "y0": 90.5, "x1": 310.2, "y1": 101.0}]
_SOURCE = About("path relative to `input`", "2024/a.pdf")

_ANSWERS = {
    "answer_id": About(
        "which question about which bytes, asked with which settings: the same in every run that asks it"
        " again",
        "1f8a09c2…",
    ),
    "document_id": About("SHA-256 of the file's bytes (of a folder: of its documents' ids)", _SHA),
    "source": About("path relative to `input`; of a folder, the folder's", "2024/a.pdf"),
    "scope": About("what the question was about: `page`, `document` or `folder`", "document"),
    "page": About("the page's number in page scope, from 1; else null", 3),
    "question_id": About("as in the questions file, or `q1`, `q2`, … where it has none", "total"),
    "question": About("as asked", "What is the total?"),
    "status": About("`ok`, `error` or `not_asked`: [tasks.md](tasks.md)", "ok"),
    **_ERROR,
    "answer": About("the answer as text; what there is of one when `status` is `error`", "EUR 1,240.00"),
    "fields": About(
        "the structured answer as JSON; its top-level fields are columns `field_…` too: [tasks.md](tasks.md)",
        '{"total": 1240.0}',
    ),
    "evidence_pages": About(
        "the pages that the reply names, as far as the document has them; in folder scope, the number of the"
        " page within the folder",
        [3, 4],
    ),
    "evidence_found": About(
        "whether the quote stands there; null where that cannot be told:"
        " [tables.md](tables.md#evidence_found)",
        True,
    ),
    "evidence_quote": About("what the reply quotes, word for word", "Total due EUR 1,240.00"),
    "evidence_boxes": About(
        "where it stands: one box for each line, from the page's top left corner; at most 500", _BOX, "points"
    ),
    "pages_total": About("pages of the document, or of the folder", 31, "pages"),
    "pages_read": About("pages that were read; fewer only in rows whose `status` is `error`", 31, "pages"),
    "requests": About(
        "model requests that the answer took, second attempts and merges included; 0 for a page that is blank"
        " and one that was refused",
        3,
    ),
    "finish_reason": About(
        "`stop`, `length`, `repetition`, or `blank` for a blank page, which is not asked about on its own;"
        " null without a reply",
        "stop",
    ),
    "confidence": About("0 to 1: [tables.md](tables.md#confidence); null without one", 0.97, "probability"),
    "engine_confidence": About("the same before `engine.calibration`", 0.91, "probability"),
    "page_quality": About(
        "the worst of the pages that it rests on: `text`, `clean_scan` (a scan or picture), or `poor_scan`"
        " (faint, damaged, or under 600 pixels long)",
        "text",
    ),
    "needs_review": About("whether a person has to look: [tables.md](tables.md#needs_review)", False),
    **_TAKEN,
    "prompt_tokens": About("of all its requests, as the engine counted", 92160, "tokens"),
    **_RUN,
    "settings_hash": About(
        "by which settings it was made of its reply: [tables.md](tables.md#answer_id-and-settings_hash)",
        "c41d77aa…",
    ),
    "created_at": About("when the row was made", "2026-11-27T09:30:00Z", "UTC"),
    "gold_answer": About("`answer` of the questions file, carried along for evaluation", "1240.00"),
    "gold_page": About("`page` of the questions file, the same", "3"),
}
_DOCUMENTS = {
    "document_id": About("SHA-256 of the file's bytes; empty when they could not be read", _SHA),
    "source": _SOURCE,
    "kind": About("what the content is: `pdf`, `tiff`, `docx`, …", "pdf"),
    "bytes": About("the file's size", 184320, "bytes"),
    "pages": About(
        "how many, as they are shown: a page as long as a web page or a receipt is cut into several that"
        " overlap",
        31,
        "pages",
    ),
    "text_layer_pages": About(
        "pages with a text layer; null for documents that no question was about: their pages were not looked"
        " at",
        29,
        "pages",
    ),
    "blank_pages": About("blank pages; null as above", 1, "pages"),
    "languages": About("languages of at least a fifth of the pages; empty as above", ["en", "fr"]),
    "status": About("`ok` or `error`", "ok"),
    "error_code": About("of the first failure of the document or any of its pages", "corrupt"),
    "error": About("what, which, and what to do about it", "a.pdf: cannot be opened; repair it"),
    "duplicate_of": About("the source that was met first with the same bytes", "2023/a.pdf"),
    "raster_seconds": About("what drawing its pages took", 0.31, "seconds"),
    "is_repaired": About(
        "the structure of a PDF was damaged and had to be rebuilt, so pages may be missing; null for other"
        " kinds, and for rows of earlier versions",
        False,
    ),
    "damaged_pages": About(
        "pages of which something could not be decoded by any renderer, or that came out blank in a repaired"
        " file; answers about them need review",
        0,
        "pages",
    ),
}
_REQUESTS = {
    "request_id": About(
        "of the answer, the pages shown, their sizes and labels, the text and the attempt", "77b0…"
    ),
    "answer_id": About("the answer that it is for", "1f8a09c2…"),
    "document_id": About("of what it is about", _SHA),
    "source": _SOURCE,
    "question_id": About("of what was asked", "total"),
    "kind": About("`ask` (about pages) or `merge` (of the replies about parts)", "ask"),
    "attempt": About("0, or 1 for a second attempt after a bad reply", 0),
    "pages": About("the pages that it showed; those that could not be drawn are not among them", [1, 2, 3]),
    "text": About("the raw reply", '{"answer": "EUR 1,240.00", …}'),
    "status": About("`ok` or `error`: how the request ended", "ok"),
    **_ERROR,
    "finish_reason": About("`stop`, `length` or `repetition`", "stop"),
    "counted_tokens": About(
        "of the prompt, as counted before it was sent: equal to `prompt_tokens`", 6016, "tokens"
    ),
    **_TAKEN,
    "confidence": About(
        "the engine's own score; null where it is worked out from the tokens", 0.63, "probability"
    ),
    "token_ends": About(
        "of each token of the reply: how long the reply is when it is written", [2, 8], "characters"
    ),
    "token_probabilities": About(
        "of each token of the reply: how sure the engine was", [0.5, 0.75], "probability"
    ),
    "boxes": About("where an engine that reads pages itself found what it quotes", _BOX, "points"),
    **_RUN,
    "created_at": About("when the reply came", "2026-11-27T09:30:00Z", "UTC"),
}
_REVIEWS = {
    **{name: _ANSWERS[name] for name in ("answer_id", "source", "page", "question_id", "question", "task")},
    "answer": About("what it was when it was judged", "EUR 1,240.00"),
    "verdict": About("`right`, `wrong`, `corrected`, or `none` where a mark was taken back", "corrected"),
    "correction": About("what it should be, where it was corrected", "EUR 1,420.00"),
    "marked_at": About("when; of two marks of an answer the later is kept", "2026-11-27T10:00:00Z", "UTC"),
    "run_id": About("the run that wrote the answer", "5f0c2b7e…"),
}
_CHANGES = {
    **{name: _ANSWERS[name] for name in ("task", "source", "page", "question_id", "question", "gold_answer")},
    "change": About(
        "`same`, `changed` (the answer, its fields, or one of the flips), `appeared`, `vanished`", "changed"
    ),
    "flips": About(
        "of status, of review (`sure → to review`), of right and wrong against gold", ["ok → error"]
    ),
    **{
        f"{side}_{name}": about._replace(meaning=f"{about.meaning}, in the {side} output; null without it")
        for side in ("old", "new")
        for name, about in {
            "answer": About("the answer", "12 %"),
            "status": About("`ok` or `error`", "ok"),
            "needs_review": About("whether a person has to look", False),
            "confidence": About("0 to 1", 0.97, "probability"),
            "answer_id": About("which answer it is", "1f8a09c2…"),
        }.items()
    },
}
_PLAN = {
    "source": _SOURCE,
    "document_id": _DOCUMENTS["document_id"],
    "kind": _DOCUMENTS["kind"],
    "bytes": _DOCUMENTS["bytes"],
    "duplicate_of": _DOCUMENTS["duplicate_of"],
    "path": About("where the file is: bytes, as names on disk are", "/data/pdfs/2024/a.pdf"),
    "shard": About("the task that answers it; null where nothing is left to do", 5),
    "task": _RUN["task"],
    "pages": About("how many it has", 31, "pages"),
    "requests": About("model requests about its pages", 2),
    "merge_requests": About("model requests that merge answers given in parts", 1),
    "prompt_tokens": About("of all of them", 96256, "tokens"),
    "computed_tokens": About("of these, those that are not in the prefix cache", 48128, "tokens"),
    "output_tokens": About("predicted: what will be written", 114, "tokens"),
    "follow_ups": About("questions that an earlier answer decides on", 0),
    "engine_seconds": About("predicted", 41.2, "seconds"),
    "gpu_seconds": About("predicted", 82.4, "GPU seconds"),
    "cost": About("predicted", 0.08, "currency"),
    "language": About("of a sample of its text", "en"),
    "risk": About("what may go wrong with it; null where nothing is known", "needs a password"),
    **_ERROR,
}
_METRIC = {
    "profile": About("by whose rules: `official` or `mistral_evals`", "official"),
    "metric": About("[evaluation.md](evaluation.md)", "anls"),
    "answers": About("how many were scored", 110),
    "score": About("the figure", 0.87),
    "low": About("lower end of its 95 % interval, where there is one", 0.81),
    "high": About("upper end of it", 0.92),
}
_SCORES = {
    **_METRIC,
    "group": About("what the answers have in common; null for all", "question_id"),
    "value": About("their value of it", "total"),
}
_HISTORY = {
    **_METRIC,
    "scored_at": About("when", "2026-11-27T09:30:00Z", "UTC"),
    "run_id": About("by which run", "5f0c2b7e…"),
    "min_score": About("what `evaluate.min_score` asked for", 0.8),
    "is_published": About("whether it was reached", True),
}
_JUDGED = {
    **{
        name: _ANSWERS[name]
        for name in (
            *("answer_id", "source", "page", "question_id", "question", "answer", "confidence"),
            "page_quality",
        )
    },
    "status": About("as in answers; `missing` where a question of the golden set has no answer", "ok"),
    "gold_answers": About("what is right: any of these", ["1240.00"]),
    "gold_pages": About("where it stands", [3]),
    "is_unanswerable": About("the document does not say", False),
    "judged_by": About("`gold`, `questions` (their own answers) or `review`", "gold"),
    "is_right": About("whether it is right", True),
    "is_abstention": About("whether there is no answer", False),
}
TABLES = {
    "answers": Described("one row per document (or page, or folder) and question", columns.ANSWERS, _ANSWERS),
    "documents": Described("one row per input file", columns.DOCUMENTS, _DOCUMENTS),
    "requests": Described(
        "one row per model request: what an engine said to exactly which pages and words",
        columns.REQUESTS,
        _REQUESTS,
    ),
    "reviews": Described(
        "one row per answer that a person has judged; written by `pipeline.report marks=FILE` from marks that"
        " [the report](report.md) has saved; no run reads or changes it",
        reviews.REVIEWS,
        _REVIEWS,
    ),
    "diff/changes.parquet": Described(
        "one row per answer that either of two runs has, matched by task, source, page and question_id;"
        " written by `pipeline.diff old=… new=…` into the new output",
        changes.CHANGES,
        _CHANGES,
    ),
    "plan.parquet": Described("one row per input; written by `plan=true`", columns.PLAN, _PLAN),
    "evaluation/answers.parquet": Described(
        "one row per answer of which something is known; written by `pipeline.evaluate`, with one column"
        " more for each metric, named profile_metric: the score by it, not a number where it has nothing to"
        " compare with",
        evaluation.JUDGED,
        _JUDGED,
    ),
    "evaluation/scores.parquet": Described("one row per figure", evaluation.SCORES, _SCORES),
    "evaluation/history.parquet": Described(
        "one row for each time that tables met `evaluate.min_score`", evaluation.HISTORY, _HISTORY
    ),
}

_HEAD = """\
# The columns

Made from the schemas in `pipeline/tables` by `make columns`; a test holds that they are these. How answers
are judged, what run.json holds and which rows stay is in [tables.md](tables.md). Pages count from 1. A null
means that there is no such value, never zero or an empty text. `pipeline.load`, the report and exports sort
rows by source, page, task and question_id."""


def to_markdown() -> str:
    """Return docs/columns.md."""
    return "\n".join([_HEAD, *(line for name in TABLES for line in _table(name, TABLES[name]))]) + "\n"


def _table(name: str, table: Described) -> Iterator[str]:
    yield from ("", f"## {name}", "", f"{table.rows[0].upper()}{table.rows[1:]}.", "")
    yield from ("| column | type | unit | meaning | example |", "|---|---|---|---|---|")
    for field in table.schema:
        about = table.about[field.name]
        cells = (field.name, _type(field.type), about.unit, about.meaning, f"`{_shown(about.example)}`")
        yield f"| {' | '.join(cells)} |"
    if table.schema is columns.ANSWERS:
        kinds = ", ".join(f"{_type(kind)} ({name})" for name, kind in columns.KINDS.items())
        yield f"| field_… | {kinds} | | one for each top-level field of the task's schema | `1240.0` |"


def _type(kind: pa.DataType) -> str:
    return str(kind).replace("list<element: ", "list<").replace("list<item: ", "list<").replace(", tz=", ", ")


def _shown(example: Json) -> str:
    return example if isinstance(example, str) else json.dumps(example, ensure_ascii=False)


if __name__ == "__main__":
    print(to_markdown(), end="")
