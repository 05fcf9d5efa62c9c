"""Run hostile and odd files through the whole pipeline and print those that come out otherwise than expected.

python benchmarks/hostile.py FOLDER... [--keep OUTPUT]

A FOLDER holds a `manifest.csv` (file, expected_status, expected_code, expected_pages, password, must_be_seen;
see `differences` for how they are read) or a `cases.csv` (case, must show) with a folder for each case. One
run with the embedded engine for a manifest, one for each case. Exits 1 when anything differs.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

QUESTION = "What is written or shown here?"
CASES: dict[str, tuple[str, ...]] = {
    "number-22-digits": ("task=extract", "task.schema={}/schema.json"),
    "schema-defs": ("task=extract", "task.schema={}/schema.json"),
    "questions-shifted": ("task=qa", "task.questions={}/questions.csv"),
    "questions-unmatched": ("task=qa", "task.questions={}/questions.csv"),
    "questions-semicolon": ("task=qa", "task.questions={}/questions.csv"),
    "stamp-on-scan": ("task=qa", "task.question='What is the total amount due?'"),
    "cipher-text-layer": ("task=qa", "task.question='What was the annual budget in 2019?'"),
}
"""Settings of the cases that ask something of their own."""


def run(source: Path, output: Path, *overrides: str) -> tuple[int, str]:
    """Run the pipeline; return its exit status and the end of what it printed."""
    command = [sys.executable, "-m", "pipeline.run", f"input={quoted(source)}", f"output={quoted(output)}"]
    done = subprocess.run([*command, "engine=embedded", *overrides], capture_output=True, text=True)
    return done.returncode, done.stderr[-3000:]


def quoted(path: Path) -> str:
    """Quote a path for an override."""
    return f"'{path}'"


def manifest_run(folder: Path, output: Path) -> int:
    """Run all files of a manifest at once and print each that differs; return how many do."""
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    passwords = output.with_suffix(".passwords.csv")
    with passwords.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["document", "password"])
        writer.writerows([row["file"], row["password"]] for row in rows if row["password"])
    begin = time.monotonic()
    status, said = run(
        folder,
        output,
        "task=qa",
        f"task.question='{QUESTION}'",
        f"raster.passwords={quoted(passwords)}",
    )
    if status != 0:
        print(f"{folder.name}: exit status {status}\n{said}")
        return len(rows)
    documents = pd.read_parquet(output / "documents").set_index("source")
    wrong = 0
    for row in rows:
        found = [*differences(row, documents)]
        wrong += bool(found)
        if found:
            print(f"{folder.name}/{row['file']}: {'; '.join(found)}")
    if said.strip() and "libtiff" in said.lower():
        print(f"{folder.name}: a library wrote to stderr")
    print(
        f"{folder.name}: {len(rows) - wrong} of {len(rows)} as expected, in {time.monotonic() - begin:.0f} s"
    )
    return wrong


def differences(row: dict[str, str], documents: pd.DataFrame) -> Iterator[str]:
    """Yield in words what is otherwise than a row of the manifest says.

    `any` is an error, or pages that are marked as damaged, of any number. Where something must be seen, no
    PDF passes for blank without that. (An image of one color is blank, and tables do not say which color.)
    """
    expected = row["expected_status"]
    if row["file"] not in documents.index:
        if expected != "ignored":
            yield "has no row"
        return
    got = documents.loc[row["file"]]
    marked = (got.get("damaged_pages") or 0) > 0
    said = f"ok, {got.pages:.0f} pages" if got.status == "ok" else f"{got.error_code} ({got.error})"
    if expected == "ignored":
        yield f"has a row: {said}"
    elif expected == "any":
        if got.status == "ok" and not marked and row["must_be_seen"]:
            yield f"is {said} and not marked as damaged"
    elif got.status != expected:
        yield f"is {said}, not {expected}"
    code = row.get("expected_code") or _named_code(row)
    if code and got.status == "error" and got.error_code != code:
        yield f"is {said}, not {code}"
    pages = row["expected_pages"]
    if pages and expected == got.status == "ok" and int(pages) != got.pages:
        yield f"has {got.pages:.0f} pages, not {pages}"
    seen = row["must_be_seen"] if row["file"].endswith(".pdf") else ""
    if got.status == "ok" and got.blank_pages == got.pages and seen and "uniform" not in seen and not marked:
        yield "passes for blank"


def _named_code(row: dict[str, str]) -> str | None:
    """Return the code that a manifest without a column for it names first."""
    return "unsupported" if row["must_be_seen"].startswith("unsupported") else None


def cases_run(folder: Path, output: Path) -> int:
    """Run each case alone and print what came of it beside what it must show."""
    with (folder / "cases.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        case = folder / row["case"]
        settings = CASES.get(row["case"], ("task=qa", f"task.question='{QUESTION}'"))
        into = output / row["case"]
        status, said = run(case / "in", into, *(each.replace("{}", str(case)) for each in settings))
        print(f"\n{row['case']}: must show: {row['must show']}\n  exit status {status}")
        if status != 0:
            print("  " + said.strip().splitlines()[-1])
            continue
        documents = pd.read_parquet(into / "documents")
        for got in documents.itertuples():
            print(
                f"  {got.source}: {got.status} {got.error_code or ''} {got.error or ''}"
                f" pages {got.pages} blank {got.blank_pages}"
            )
        for got in pd.read_parquet(into / "answers").itertuples():
            answer = str(got.answer if pd.isna(got.fields) else got.fields)[:150]
            print(f"    {got.source}: {answer!r} evidence {got.evidence_found} review {got.needs_review}")
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--keep", type=Path, help="folder to keep the outputs in")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        kept = given.keep or Path(temporary)
        kept.mkdir(parents=True, exist_ok=True)
        wrong = 0
        for folder in given.folders:
            one = cases_run if (folder / "cases.csv").exists() else manifest_run
            wrong += one(folder.resolve(), kept.resolve() / folder.name)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
