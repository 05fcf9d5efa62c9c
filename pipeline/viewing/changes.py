"""Compare two finished runs, answer by answer."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline import store
from pipeline.config import DiffSettings, ReportSettings
from pipeline.records import Json
from pipeline.tables import changes, read
from pipeline.tables.columns import Row
from pipeline.viewing import finished, report
from pipeline.viewing.data import Difference
from pipeline.viewing.finished import RIGHT, WRONG, Finished

SAME, CHANGED, APPEARED, VANISHED = "same", "changed", "appeared", "vanished"
_KEY = ("task", "source", "page", "question_id")
_COMPARED = ("answer", "fields", "status", "needs_review", "confidence", "answer_id")
_SHOWN = ("answer", "status", "needs_review", "confidence")
_MOST_LINES = 40
_Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Compared:
    """Two runs, and every answer that either has."""

    old: Finished
    new: Finished
    rows: list[Row]

    @property
    def counts(self) -> Counter[str]:
        """How many answers are the same, changed, appeared, vanished."""
        return Counter(str(row["change"]) for row in self.rows)


def compare(old: Finished, new: Finished) -> Compared:
    """Compare answers to the same question about the same source (and page), under the same task."""
    before, after = _rows(old), _rows(new)
    # In the order of the new run; what has vanished comes last.
    keys = dict.fromkeys([*after, *before])
    return Compared(old, new, [_change(before.get(key), after.get(key)) for key in keys])


def _rows(run: Finished) -> dict[_Key, Row]:
    names = [*_KEY, "question", "gold_answer", *_COMPARED]
    rows: list[Row] = run.answers.select(names).to_pylist()
    judged = zip(rows, run.verdicts, strict=True)
    return {tuple(row[name] for name in _KEY): row | {"verdict": verdict} for row, verdict in judged}


def _keys(run: Finished) -> Iterator[_Key]:
    return zip(*(run.answers[name].to_pylist() for name in _KEY), strict=True)


def _change(old: Row | None, new: Row | None) -> Row:
    known = new or old or {}
    row: Row = {name: known[name] for name in (*_KEY, "question", "gold_answer")}
    for name in ("answer", "status", "needs_review", "confidence", "answer_id"):
        row |= {f"old_{name}": (old or {}).get(name), f"new_{name}": (new or {}).get(name)}
    if old is None or new is None:
        return row | {"change": APPEARED if old is None else VANISHED, "flips": []}
    flips = list(_flips(old, new))
    # Not by confidence: at temperature 0, too, it is another with each batch. What it lets flip counts.
    same = all(_plain(old[name]) == _plain(new[name]) for name in ("answer", "fields")) and not flips
    return row | {"change": SAME if same else CHANGED, "flips": flips}


def _plain(value: object) -> str:
    """Return a text as it is compared: white space alone is no change."""
    return " ".join(str(value or "").split())


def _flips(old: Row, new: Row) -> Iterator[str]:
    if old["status"] != new["status"]:
        yield f"{old['status']} → {new['status']}"
    if old["needs_review"] != new["needs_review"]:
        yield "sure → to review" if new["needs_review"] else "to review → sure"
    if {old["verdict"], new["verdict"]} == {RIGHT, WRONG}:
        yield f"{old['verdict']} → {new['verdict']}"


# ---- what comes of it ----


def write(settings: DiffSettings) -> tuple[Compared, Path]:
    """Write NEW/diff: changes.parquet, and the page with both answers. Return what changed, and the page."""
    compared = compare(finished.load(store.folder(settings.old)), finished.load(store.folder(settings.new)))
    both = _both(compared)
    of_page = ReportSettings(
        output=settings.new, input=settings.input, marks=None, report=settings.report, raster=settings.raster
    )
    target = store.folder(settings.new) / "diff"
    page = report.build(both, of_page, target, _difference(compared, both))
    with store.disk_errors(store.folder(settings.new)):
        changes.save(target / "changes.parquet", compared.rows)
        store.send_all(target / "changes.parquet")
    return compared, page


def _both(compared: Compared) -> Finished:
    """Return the new run with the rows of the old one that are not in it any more."""
    old, new = compared.old, compared.new
    vanished = [row for row in compared.rows if row["change"] == VANISHED]
    gone = {row["old_answer_id"] for row in vanished}
    # Not by answer_id: the same bytes may have vanished under one name and be there under another.
    places = {tuple(row[name] for name in _KEY) for row in vanished}
    answers = [index for index, key in enumerate(_keys(old)) if key in places]
    known = set(new.document_rows)
    documents = [row for source, row in old.document_rows.items() if source not in known]
    there, ids = set(new.requests["request_id"].to_pylist()), old.requests["request_id"].to_pylist()
    of_gone = (row for answer_id in gone for row in old.request_rows.get(str(answer_id), []))
    asked = [row for row in of_gone if ids[row] not in there]
    return replace(
        new,
        answers=read.joined(new.answers, old.answers, answers, ["source", "page", "task", "question_id"]),
        documents=read.joined(new.documents, old.documents, documents, ["source"]),
        requests=read.joined(new.requests, old.requests, asked, []),
    )


def _difference(compared: Compared, both: Finished) -> Difference:
    """Return what the page shows of the changes, in the order of its rows."""
    rows: dict[_Key, Row] = {tuple(row[name] for name in _KEY): row for row in compared.rows}
    found = [rows[key] for key in _keys(both)]
    return Difference(
        title=f"{report.name(compared.old.output)} → {report.name(compared.new.output)}",
        counted=compared.new,
        change=[str(row["change"]) for row in found],
        flips=["\n".join(map(str, row["flips"] or ())) or None for row in found],  # type: ignore[arg-type]
        old=[_shown(row) for row in found],
        counts=dict(compared.counts),
        questions=[dict(each) for each in by_question(compared.rows)],
    )


def _shown(row: Row) -> Json:
    if row["change"] == APPEARED:
        return None
    kept: dict[str, Json] = {name: row[f"old_{name}"] for name in _SHOWN}  # type: ignore[misc]
    return kept


def by_question(rows: Sequence[Row]) -> list[Mapping[str, Json]]:
    """Count changes by task and question, those with most first."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[str(row["task"]), str(row["question_id"])].append(row)
    counted = [_counted(task, question_id, some) for (task, question_id), some in groups.items()]
    return sorted(counted, key=lambda each: (each[SAME] == each["rows"], -int(str(each["rows"]))))


def _counted(task: str, question_id: str, rows: Sequence[Row]) -> dict[str, Json]:
    counts = Counter(str(row["change"]) for row in rows)
    flips = Counter(str(flip) for row in rows for flip in row["flips"] or ())  # type: ignore[union-attr]
    told: dict[str, Json] = {"task": task, "question_id": question_id, "question": str(rows[0]["question"])}
    return told | {
        "rows": len(rows),
        **{name: counts[name] for name in (SAME, CHANGED, APPEARED, VANISHED)},
        "flips": ", ".join(f"{name} {count}" for name, count in sorted(flips.items())),
    }


def describe(compared: Compared) -> str:
    """Return the changes as a table for a terminal, and how many there are."""
    lines = [f"{'task':10} {'question':44} {'changed':>8} {'appeared':>8} {'vanished':>8} {'same':>8}  flips"]
    questions = [each for each in by_question(compared.rows) if each[SAME] != each["rows"]]
    for each in questions[:_MOST_LINES]:
        text = " ".join(str(each["question"]).split())
        counts = " ".join(f"{each[name]:>8}" for name in (CHANGED, APPEARED, VANISHED, SAME))
        lines.append(f"{str(each['task'])[:10]:10} {text[:44]:44} {counts}  {each['flips']}".rstrip())
    if len(questions) > _MOST_LINES:
        lines.append(f"and {len(questions) - _MOST_LINES} more questions; changes.parquet has all")
    total = ", ".join(f"{compared.counts[name]} {name}" for name in (CHANGED, APPEARED, VANISHED, SAME))
    return "\n".join([*(lines if questions else []), f"answers: {total}"])
