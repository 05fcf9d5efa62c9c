"""What `pipeline.evaluate` is asked to do: compare vectors, write a data set, or score a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline import store
from pipeline.answering import calibration
from pipeline.config import EvaluateSettings, RunSettings
from pipeline.errors import OutputError, SettingsError
from pipeline.evaluating import calibrate, golden, reliability, results, statistics
from pipeline.evaluating.evaluation import Evaluation, Rules
from pipeline.evaluating.reliability import Reliability
from pipeline.evaluating.results import Line
from pipeline.evaluating.score import score
from pipeline.evaluating.statistics import Codes
from pipeline.tables import evaluation, run_record

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Done:
    text: str
    """What to print."""
    ok: bool = True


def perform(settings: EvaluateSettings) -> Done:
    """Do it. Raises SettingsError and OutputError."""
    if settings.vectors is not None:
        return _compare(Path(settings.vectors))
    if settings.dataset is not None:
        from pipeline.evaluating.datasets import write

        files, to = str(settings.files), Path(str(settings.to))
        return Done(str(write.write(settings.dataset, files, to, settings.limit)))
    return _score(settings)


def score_published(settings: RunSettings) -> str:
    """Score what was published by the rules of the gate, write RUN/evaluation, and return a line."""
    given = settings.evaluate
    output, rules = store.folder(settings.output), Rules(given.profile, given.metric, given.right_from)
    fitted = settings.engine.calibration
    found = score(output, golden.known(output, given.gold), rules, has_keys=fitted is not None)
    unseen, notes = _unseen(found, fitted)
    measured = reliability.measure(np.asarray(found.confidence, float)[unseen], found.right_values[unseen])
    figures = results.lines(found, measured)
    notes = [*_absent(found), *notes]
    page = results.markdown(f"Scores of {store.named(str(output))}", found, figures, notes)
    _write(output, figures, page, [("answers", measured)] if measured else [])
    name, place = ".".join(rules.name), store.named(str(evaluation.folder(output)))
    return f"{name} {results.main_score(found)} of {len(found)} answers, in {place}"


def _compare(folder: Path) -> Done:
    from pipeline.evaluating import vectors

    compared = vectors.compare(folder)
    return Done(vectors.describe(compared), not any(each.mismatches for each in compared))


def scored(settings: EvaluateSettings, has_keys: bool = False) -> Evaluation:
    """Score a run, and write how each answer was judged."""
    output = store.folder(str(settings.run))
    rules = Rules(settings.profile, settings.metric, settings.right_from)
    _ = rules.name  # a name that is wrong is told before anything is read
    return score(output, golden.known(output, settings.gold), rules, has_keys=has_keys)


def _score(settings: EvaluateSettings) -> Done:
    output = store.folder(str(settings.run))
    record = run_record.read(output / "run.json")
    if record is None:
        raise OutputError(f"run={output}: has no run.json, which names the engine; run first")
    engine = record.settings.get("engine")
    fitted = engine.get("calibration") if isinstance(engine, dict) else None
    has_keys = not (settings.against is settings.calibrate is fitted is None)
    found = scored(settings, has_keys)
    unseen, notes = _unseen(found, str(fitted) if fitted is not None else None)
    measured = reliability.measure(np.asarray(found.confidence, float)[unseen], found.right_values[unseen])
    figures = results.lines(found, measured)
    if settings.against is not None:
        figures += _differences(found, settings)
    drawn = [("answers", measured)] if measured else []
    if settings.calibrate is not None:
        drawn, said = _calibrated(found, record.engine, Path(settings.calibrate), settings.method)
        notes += said
    notes = [*_absent(found), *notes]
    _write(
        output,
        figures,
        results.markdown(f"Scores of {store.named(str(output))}", found, figures, notes),
        drawn,
    )
    return Done(
        "\n".join(
            [results.table(figures), *notes, f"written to {store.named(str(evaluation.folder(output)))}"]
        )
    )


def _write(
    output: Path, figures: Sequence[Line], page: str, drawn: Sequence[tuple[str, Reliability]]
) -> None:
    from pipeline.evaluating import plots

    folder = evaluation.folder(output)
    with store.disk_errors(output):
        evaluation.write(folder / "scores.parquet", [line.row() for line in figures], evaluation.SCORES)
        store.write_text(folder / "scores.md", page)
        if drawn:
            store.write_text(folder / "reliability.svg", plots.reliability(drawn))


def _absent(found: Evaluation) -> Sequence[str]:
    """Say what was not there to be compared."""
    notes = []
    if found.missing:
        named = "; ".join(f"row {row.number}" for row in found.missing[:_SHOWN])
        notes.append(
            f"{len(found.missing)} questions of the golden set have no answer and count as wrong: {named}"
        )
    if found.outside:
        notes.append(
            f"{found.outside} rows of the golden set are about documents that are no input of this run"
        )
    if found.without_gold:
        notes.append(f"{found.without_gold} answers have no gold answer")
    return notes


def _differences(found: Evaluation, settings: EvaluateSettings) -> list[Line]:
    """Return how much higher each metric is than in another run, over the answers that both have."""
    rules = found.rules
    other_output = store.folder(str(settings.against))
    other_known = golden.known(other_output, settings.gold)
    other = score(other_output, other_known, rules, write=False, has_keys=True)
    # By what was asked, not by answer_id, which is another under other settings or models.
    _, here, there = np.intersect1d(found.keys, other.keys, return_indices=True)
    if not len(here):
        raise SettingsError(f"against={other_output}: has no answer that {settings.run} has too")
    documents = found.codes[here]
    pairs = {name: (found.values(name)[here], other.values(name)[there]) for name in found.scores}
    pairs[rules.name[0], "right"] = found.right_values[here], other.right_values[there]
    changes = {name: statistics.difference(*_comparable(*pair, documents)) for name, pair in pairs.items()}
    return [
        Line(*name, change, "change since", str(other_output)) for name, change in changes.items() if change
    ]


def _comparable(
    new: statistics.Floats, old: statistics.Floats, documents: Codes
) -> tuple[statistics.Floats, statistics.Floats, Codes]:
    known = ~(np.isnan(new) | np.isnan(old))
    return new[known], old[known], documents[known]


# ---- confidence ----


def _calibrated(
    found: Evaluation, engine: str, file: Path, method: str
) -> tuple[list[tuple[str, Reliability]], list[str]]:
    """Fit a calibration and write it; return what confidence was and is worth, and what there is to say."""
    answers = calibrate.judged(found)
    calibrate.check(answers)
    checked = calibrate.cross_validate(answers, method)
    fitted = calibrate.fit(answers, engine, method, frozenset(f"{each:x}" for each in found.keys))
    with store.disk_errors(file):
        store.write_text(file, fitted.to_json())
    how = f"{file}: run again with engine.calibration={file}"
    return [("before", checked.before), ("cross-validated", checked.after)], [
        *calibrate.describe(checked, fitted),
        how,
    ]


def _unseen(found: Evaluation, file: str | None) -> tuple[Codes, list[str]]:
    """Return the places of answers that a run's calibration was not fitted on, and a note on others."""
    if file is None:
        return np.arange(len(found)), []
    fitted_on = calibration.read(file).fitted_on
    unseen = np.asarray([i for i, each in enumerate(found.keys) if f"{each:x}" not in fitted_on], np.int64)
    seen = len(found) - len(unseen)
    return unseen, [
        f"{seen} answers were fitted on and are left out of what confidence is worth"
    ] if seen else []
