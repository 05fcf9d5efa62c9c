"""Write the report: a page, its data and page images, in OUTPUT/report, which opens from a file."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from pipeline import store
from pipeline.config import ReportSettings
from pipeline.records import Json
from pipeline.viewing import data, finished, pages, script, totals
from pipeline.viewing.finished import Finished

_SITE = Path(__file__).parent / "site"


def write(settings: ReportSettings) -> Path:
    """Write OUTPUT/report, whole, and return the page. Raises OutputError without answers."""
    output = store.folder(settings.output)
    run = finished.load(output)
    return build(run, settings, output / "report")


def build(
    run: Finished, settings: ReportSettings, target: Path, difference: data.Difference | None = None
) -> Path:
    """Write a report beside its place, then put it there; images of an earlier one are kept."""
    aside = store.aside(target)
    with store.disk_errors(run.output):
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(_SITE, aside)
        for folder in ("data", "pages"):
            (aside / folder).mkdir()
        # Before any page is drawn: `draw_pages` looks here for those of an earlier report.
        _link(target / "pages", aside / "pages")
    wanted = pages.pages_of(run)
    changed = [row for row, change in enumerate(difference.change) if change != "same"] if difference else []
    chosen = pages.chosen(run, wanted, settings.report, changed)
    drawn = pages.draw_pages(run, chosen, settings, aside / "pages")
    with store.disk_errors(run.output):
        # Else images of answers that are gone would gather with each report.
        _drop_others(aside / "pages", {picture.file for picture in drawn.pictures.values()})
        data.write_details(run, wanted, drawn, aside / "data", difference)
        plots = _plots(run.output / "evaluation", aside / "data")
        summary = _summary(run, data.write_table(run, aside / "data", difference), difference, plots)
        (aside / "data" / "summary.js").write_text(script.call("begin", summary), encoding="utf-8")
        _replace(target, aside)
        store.send_all(target)
    return target / "index.html"


_PLOTS = (
    (
        "reliability.svg",
        "What confidence is worth",
        "Of answers as sure as this, how many are right.",
    ),
    ("history.svg", "Scores over time", "Of each publishing, with its 95 % interval."),
)


def _plots(evaluation: Path, folder: Path) -> list[Json]:
    """Copy what an evaluation has drawn, and return what the page shows of it."""
    shown: list[Json] = []
    for name, title, note in _PLOTS:
        store.fetch(evaluation / name)
        if (evaluation / name).is_file():
            shutil.copyfile(evaluation / name, folder / name)
            shown.append({"file": f"data/{name}", "title": title, "note": note})
    return shown


def _summary(run: Finished, files: int, difference: data.Difference | None, plots: list[Json]) -> Json:
    """Return what the first screen shows, and how much there is to load."""
    record = run.run
    return {
        "title": difference.title if difference else name(run.output),
        # Marks are kept in the browser by output: two of them may hold the same answers.
        "id": hashlib.sha256(os.fsencode(_address(run.output))).hexdigest()[:16],
        "rows": run.answers.num_rows,
        "tableFiles": files,
        "detailRows": data.DETAIL_ROWS,
        "facets": data.FACETS,
        "difference": {"counts": difference.counts, "questions": difference.questions}
        if difference
        else None,
        "plots": plots,
        "totals": totals.count(difference.counted if difference else run).to_json(),
        "run": {
            "state": record.attempt.state,
            "error": record.attempt.error,
            "begun": record.attempt.begun,
            "ended": record.attempt.ended,
            "seconds": record.attempt.summary.seconds,
            "engine": record.engine,
            "model": record.model,
            "licence": record.model_license,
            "missing": record.missing,
            "input": record.settings.get("input"),
            "settings": dict(record.settings),
            "versions": record.versions,
        },
        "hasSummary": "summary.md" in store.names(run.output),
    }


def name(output: Path) -> str:
    """Return the last part of an output's path or URL."""
    return Path(_address(output)).name


def _address(output: Path) -> str:
    return store.named(str(output.resolve()))


def _link(before: Path, folder: Path) -> None:
    """Take over page images without copying them, where the file system can."""
    for file in before.glob("*") if before.is_dir() else ():
        try:
            os.link(file, folder / file.name)
        except OSError:
            shutil.copyfile(file, folder / file.name)


def _drop_others(folder: Path, files: set[str]) -> None:
    for image in folder.glob("*.webp"):
        if image.name not in files:
            image.unlink()


def _replace(target: Path, aside: Path) -> None:
    """Put a folder into its place; a folder that is not empty cannot be replaced by one rename."""
    before = target.with_name(f"{target.name}.before.aside")
    shutil.rmtree(before, ignore_errors=True)
    if target.exists():
        target.rename(before)
    aside.rename(target)
    shutil.rmtree(before, ignore_errors=True)
