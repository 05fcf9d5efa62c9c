"""Measure the report over many answers: how long it takes to write, its sizes, and how it feels in a browser.

python benchmarks/report.py FOLDER [--answers 100000] [--browser /usr/bin/chromium]

FOLDER gets an output of that many made-up answers about PDFs drawn here, and its report. Times are of a
headless Chromium that opens the page from a file: first paint and first rows counted from the start of
navigation, and the time from a search to the frame that shows what it found.
"""

from __future__ import annotations

import argparse
import datetime as dt
import random
import statistics
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pymupdf
from playwright.sync_api import Page, sync_playwright

from pipeline.compose import compose_report, compose_settings
from pipeline.flow.account import Account
from pipeline.reading import source
from pipeline.tables import columns
from pipeline.texts import fingerprint
from pipeline.viewing import report

WORDS = Path(__file__).with_name("answers.py").read_text().split()
SEARCHES = ["return", "page 12", "total 77", "zzzz", "document-1234.pdf"]
DOCUMENTS = 200
"""Different PDFs; the others are these under other names, since drawing is not what is measured."""


def main() -> None:
    given = argparse.ArgumentParser()
    given.add_argument("folder", type=Path)
    given.add_argument("--answers", type=int, default=100_000)
    given.add_argument("--browser", default="/usr/bin/chromium")
    options = given.parse_args()
    output = options.folder / "output"
    make(options.folder / "in", output, options.answers)
    begin = time.perf_counter()
    page = report.write(compose_report([f"output={output}"]))
    print(f"{options.answers} answers; the report is written in {time.perf_counter() - begin:.1f} s")
    sizes(page.parent)
    browse(page, options.browser)


def make(inputs: Path, output: Path, answers: int) -> None:
    """Write the tables that a run over `answers` / 5 documents would have written."""
    chance = random.Random(7)
    inputs.mkdir(parents=True, exist_ok=True)
    for number in range(DOCUMENTS):
        with pymupdf.open() as document:
            text = " ".join(chance.choices(WORDS, k=300))
            document.new_page().insert_textbox(pymupdf.Rect(50, 50, 545, 800), text, fontsize=10)
            document.save(inputs / f"document-{number}.pdf")
    settings = compose_settings([f"input={inputs}", f"output={output}", "task=qa", "task.question=-"])
    found = list(
        source.find(settings.input, settings.source, settings.shard, lambda _c, n: [0] * n).documents
    )
    rows, asked, seen = [], [], []
    took = {"prompt_tokens": 3100, "cached_tokens": 3000, "output_tokens": 40, "engine_seconds": 0.2}
    by = took | {"model": "made-up", "engine": "made-up", "task": "qa", "finish_reason": "stop"}
    by |= {"created_at": (now := dt.datetime.now(dt.UTC))}
    for number in range(answers // 5):
        document = found[number % DOCUMENTS]
        name = document.source if number < DOCUMENTS else f"more/{number // 1000}/document-{number}.pdf"
        of = {"document_id": document.document_id, "source": name}
        seen.append(
            of | {"kind": "pdf", "bytes": document.bytes, "pages": 1, "text_layer_pages": 1, "blank_pages": 0,
                  "languages": [chance.choice(["en", "de", "fr"])], "status": "ok"}
        )  # fmt: skip
        for question in range(5):
            answer = f"total {chance.randrange(1000)}: " + " ".join(chance.choices(WORDS, k=30))
            confidence = chance.random()
            own = of | by | {"answer_id": fingerprint(name, question), "question_id": f"q{question}"}
            rows.append(
                own | {"scope": "document", "question": f"What does field {question} of this document say?",
                       "status": "ok" if chance.random() < 0.97 else "error", "answer": answer,
                       "evidence_pages": [1], "evidence_found": chance.random() < 0.9,
                       "evidence_quote": answer[:80], "pages_total": 1, "pages_read": 1, "requests": 1,
                       "evidence_boxes": [{"page": 1, "x0": 50.0, "y0": 60.0, "x1": 400.0, "y1": 72.0}],
                       "confidence": confidence, "needs_review": confidence < 0.3,
                       "gold_answer": answer.partition(":")[0] if chance.random() < 0.8 else "another"}
            )  # fmt: skip
            text = f'{{"answer": "{answer}"}}'
            request = {
                "request_id": own["answer_id"],
                "kind": "ask",
                "attempt": 0,
                "pages": [1],
                "text": text,
            }
            asked.append(own | request | {"status": "ok"})
    tables = {
        "answers": (rows, columns.ANSWERS),
        "documents": (seen, columns.DOCUMENTS),
        "requests": (asked, columns.REQUESTS),
    }
    for name, (values, schema) in tables.items():
        (output / name).mkdir(parents=True, exist_ok=True)
        pq.write_table(
            pa.Table.from_pylist(values, schema=schema), output / name / "shard-0000-of-0001.parquet"
        )
    record = Account(settings, "made-up", "made-up", "").record("complete", None, now.date(), None, None, {})
    (output / "run.json").write_text(record.to_json())


def sizes(folder: Path) -> None:
    for name, pattern in (
        ("page", "[ijsv]*/**/*"), ("totals", "data/summary.js"), ("table", "data/table-*"),
        ("details", "data/detail-*"), ("page images", "pages/*.webp"),
    ):  # fmt: skip
        files = [file.stat().st_size for file in folder.glob(pattern) if file.is_file()]
        print(f"{name:12} {len(files):5} files {sum(files) / 1e6:8.1f} MB, largest {max(files) / 1e6:.2f} MB")


def browse(page: Path, browser: str) -> None:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for round_ in range(3):
            tab = chromium.new_page(viewport={"width": 1440, "height": 900}, bypass_csp=True)
            tab.goto(f"{page.resolve().as_uri()}#/answers", wait_until="commit")
            tab.wait_for_selector(".slick-row")
            first_rows = tab.evaluate("performance.now()")
            tab.wait_for_function("docbatch.store.count && docbatch.store.count === docbatch.store.total")
            loaded = tab.evaluate("performance.now()")
            paint = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            searches = [search(tab, text) for text in SEARCHES]
            others = [tab.evaluate(_TIMED, action) for action in _ACTIONS]
            print(
                f"round {round_ + 1}: paint {paint:.0f} ms, first rows {first_rows:.0f}, all {loaded:.0f};"
                f" search median {statistics.median(searches):.0f}, longest {max(searches):.0f} ms;"
                f" sort by answer {others[0]:.0f}, by confidence {others[1]:.0f}, filter {others[2]:.0f},"
                f" to the last row {others[3]:.0f} ms"
            )
            tab.close()
        chromium.close()


_TIMED = """async (action) => {
  const begin = performance.now();
  eval(action);
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
  return performance.now() - begin;
}"""
_ACTIONS = [
    "docbatch.state.sort = 'answer'; docbatch.refresh()",
    "docbatch.state.sort = '-confidence'; docbatch.refresh()",
    "docbatch.toggle('review', 'to review')",
    "docbatch.step(Infinity)",
]


def search(tab: Page, text: str) -> float:
    """Return the milliseconds from input to the next frame, without the pause that waits for more letters."""
    action = f"docbatch.state.query = {text!r}; docbatch.refresh()"
    return float(tab.evaluate(_TIMED, action))


if __name__ == "__main__":
    main()
