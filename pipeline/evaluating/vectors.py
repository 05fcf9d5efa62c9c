"""Compare our metrics with scores that the reference implementations gave, row by row."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.evaluating.metrics import ai2d, anls, chartqa, mathvista, mmmu, rating, relaxed, transcript, vqa
from pipeline.evaluating.metrics.structure import anls_star
from pipeline.records import Json

_RAISED = "ERROR:"
"""Begins a score where the reference raised an error: our own must be a number there."""
_TOLERANCE = 1e-12
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Case:
    """A row of a file: what was said, what is known, and the other columns as they stand."""

    prediction: str
    golds: list[Json]
    cells: Mapping[str, str]

    @property
    def texts(self) -> list[str]:
        """The gold answers as texts; of an object, its `answer`."""
        return [gold_text(gold) for gold in self.golds]

    def read(self, column: str) -> dict[str, Json]:
        """Return what a column holds as a JSON object."""
        value = json.loads(self.cells[column])
        return value if isinstance(value, dict) else {}


def gold_text(gold: Json) -> str:
    """Return a gold answer as text; data sets write them as texts, numbers, or objects with `answer`."""
    if isinstance(gold, dict):
        gold = gold.get("answer")
    return "" if gold is None else str(gold)


Score = Callable[[Case], float | str]


def _on_texts(metric: Callable[[str, Sequence[str]], float]) -> Score:
    return lambda case: metric(case.prediction, case.texts)


def _anls(rule: anls.Rule) -> Score:
    return lambda case: anls.anls(case.prediction, case.texts, rule)


def _after_prefix(case: Case) -> float:
    return relaxed.relaxed_explicit(f"Final Answer: {case.prediction}", case.texts)


def _mmmu(case: Case) -> float:
    meta = case.read("meta")
    if meta.get("question_type") != "multiple-choice":
        return mmmu.mmmu_open(case.prediction, case.texts)
    letters, texts, seed = meta["all_choices"], meta["index2ans"], meta.get("random_seed")
    assert isinstance(letters, list) and isinstance(texts, dict)
    named = {letter: str(text) for letter, text in texts.items()}
    choices = mmmu.Choices([str(each) for each in letters], named, seed if isinstance(seed, int) else None)
    return mmmu.mmmu_choice(case.prediction, case.texts, choices)


def _mathvista(case: Case) -> float:
    return mathvista.mathvista(case.prediction, case.texts, mathvista.form(case.read("meta")))


def _chartqapro(case: Case) -> float:
    doc = case.read("doc")
    answers, years = (_texts(doc.get(name)) for name in ("Answer", "Year"))
    return chartqa.chartqapro(
        case.prediction, chartqa.ProItem(answers, years, str(doc.get("Question Type", "")))
    )


def _texts(value: Json) -> list[str]:
    if isinstance(value, list):
        return [gold_text(each) for each in value]
    return [] if value is None else [gold_text(value)]


def _inferred(case: Case) -> float:
    options = {letter: str(text) for letter, text in case.read("options").items()}
    return ai2d.choice_inferred(case.prediction, case.texts, options)


def _structure(case: Case) -> float:
    if case.cells.get("kind") != "json-structure":
        return anls_star(case.prediction, case.golds)
    try:
        prediction = json.loads(case.prediction)
    except ValueError:
        prediction = case.prediction
    return anls_star(prediction, case.golds)


def _against_first(metric: Callable[[str, str], float]) -> Score:
    return lambda case: metric(case.prediction, case.texts[0]) if case.golds else 0.0


_RELAXED, _EXPLICIT = _on_texts(relaxed.relaxed), _on_texts(relaxed.relaxed_explicit)
_MATCH = _on_texts(vqa.vqa_match)
FILES: Mapping[str, Mapping[str, Score]] = {
    "mistral_anls": {"score": _anls(anls.MISTRAL_EVALS)},
    "mistral_vqa_match": {"score": _MATCH},
    "mistral_relaxed_parsed": {"score": _RELAXED},
    "mistral_explicit_prompt_relaxed_correctness": {
        "score": _EXPLICIT,
        "parsed_answer": lambda case: relaxed.final_answer(case.prediction),
    },
    "mistral_anywhere_in_answer_relaxed_correctness": {"score": _on_texts(relaxed.relaxed_anywhere)},
    "mistral_chartqa": {"score": _EXPLICIT},
    "mistral_mmmu": {"score": _EXPLICIT},
    "mistral_mathvista": {"score": _EXPLICIT},
    "mistral_mm_mt_bench_rating": {"score": lambda case: rating.rating(case.prediction)},
    "official_docvqa_anls_tau05": {
        "score": _anls(anls.OFFICIAL),
        "pypi_anls_0.0.2": _anls(anls.PAPER),
        "vlmevalkit": _anls(anls.OFFICIAL),
        "mistral": _anls(anls.MISTRAL_EVALS),
    },
    "official_chartqa_relaxed": {"score": _on_texts(chartqa.chartqa), "mistral_on_parsed": _RELAXED},
    "chartqapro_relaxed_year": {"score": _chartqapro},
    "official_vqa_v2": {"score": _on_texts(vqa.vqa_accuracy), "mistral": _MATCH},
    "official_mmmu": {"score": _mmmu},
    "official_mathvista": {"score": _mathvista},
    "ai2d_multiple_choice": {
        "score": _on_texts(ai2d.choice_exact),
        "vlmevalkit_can_infer": _inferred,
        "mistral_explicit_with_prefix": _after_prefix,
        "mistral_relaxed_parsed": _RELAXED,
    },
    "anls_star": {"score": _structure},
    "jiwer_cer_wer": {
        "score": _against_first(transcript.character_error_rate),
        "wer": _against_first(transcript.word_error_rate),
    },
}
"""Of each file, by its name, what its columns with scores are computed by."""


@dataclass(frozen=True, slots=True)
class Compared:
    """How far one file was reproduced."""

    file: str
    rows: int
    mismatches: tuple[str, ...]
    """One line for each row that differs: which, what the reference gave, what we give."""
    raised: int
    """Rows in which the reference raised an error."""


def compare(folder: Path) -> list[Compared]:
    """Compare every file of a folder. Raises SettingsError without any, or for one that cannot be read."""
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise SettingsError(f"vectors={folder}: there are no CSV files; give the folder that holds them")
    if unknown := [file.name for file in files if file.stem not in FILES]:
        raise SettingsError(f"vectors={folder}: no metric is known for {unknown[0]}; rename it, or remove it")
    return [_compare_file(file) for file in files]


def describe(compared: Sequence[Compared]) -> str:
    """Return a line for each file, and below it the first rows that differ."""
    lines = [f"{'file':50} {'rows':>6} {'mismatches':>11} {'reference raised':>17}"]
    for each in compared:
        lines.append(f"{each.file:50} {each.rows:6} {len(each.mismatches):11} {each.raised:17}")
        lines += [f"  {line}" for line in each.mismatches[:_SHOWN]]
    rows, wrong = sum(each.rows for each in compared), sum(len(each.mismatches) for each in compared)
    return "\n".join([*lines, f"{'all':50} {rows:6} {wrong:11} {sum(each.raised for each in compared):17}"])


def _compare_file(file: Path) -> Compared:
    columns = FILES[file.stem]
    rows = raised = 0
    mismatches = []
    for rows, case in enumerate(_cases(file, columns), 1):
        raised += any(case.cells[name].startswith(_RAISED) for name in columns)
        ours = {name: score(case) for name, score in columns.items()}
        if differing := [name for name in columns if not _agrees(case.cells[name], ours[name])]:
            found = ", ".join(f"{n} is {case.cells[n]!r}, ours {ours[n]!r}" for n in differing)
            mismatches.append(f"row {rows}: {case.prediction[-60:]!r}, {str(case.golds)[:60]}: {found}")
    if not rows:
        raise SettingsError(f"{file}: has no rows; restore it")
    return Compared(file.name, rows, tuple(mismatches), raised)


def _cases(file: Path, columns: Mapping[str, Score]) -> Iterator[Case]:
    # By default a cell of more than 128 KiB is refused, and a reply may be longer.
    csv.field_size_limit(sys.maxsize)
    try:
        with file.open(newline="", encoding="utf-8") as opened:
            table = csv.DictReader(opened)
            if missing := {"prediction", "golds", *columns} - set(table.fieldnames or ()):
                raise SettingsError(f"{file}: has no column {min(missing)}; restore it")
            for row in table:
                golds = json.loads(row["golds"])
                yield Case(row["prediction"], golds if isinstance(golds, list) else [golds], row)
    except (OSError, ValueError, csv.Error) as error:
        raise SettingsError(f"{file}: cannot be read ({error}); restore it") from error


def _agrees(theirs: str, ours: float | str) -> bool:
    if isinstance(ours, str):
        return theirs == ours
    if theirs.startswith(_RAISED):
        return math.isfinite(ours)
    try:
        return math.isclose(float(theirs), ours, rel_tol=0, abs_tol=_TOLERANCE)
    except ValueError:  # no number: whatever it is, ours is another
        return False
