"""Show that cost per page and memory do not grow with the corpus, and how fast a large journal is resumed.

python benchmarks/scale.py run [INPUTS]       plan and answer that many one-page PDFs (10,000)
python benchmarks/scale.py corpus FOLDER QUESTIONS.csv   peak memory of qa and describe on real documents
python benchmarks/scale.py resume [ROWS]      open a journal of that many rows (1,000,000)
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pymupdf

from pipeline.config import ShardSettings, SinkSettings
from pipeline.records import Answer, Cell, Document, Question, Subject
from pipeline.tables.rows import Stamp
from pipeline.tables.sink import Tables, opened


def make(folder: Path, count: int) -> None:
    """Write one-page PDFs, each with its own text, in folders of a thousand."""
    for number in range(count):
        place = folder / f"{number // 1000:03}"
        place.mkdir(parents=True, exist_ok=True)
        with pymupdf.open() as document:
            page = document.new_page()
            for line in range(30):
                page.insert_text(
                    (72, 72 + 20 * line), f"Document {number}, line {line}: the value is {number * line}."
                )
            document.save(place / f"{number:06}.pdf")


class Watch(threading.Thread):
    """Sample the memory of a process and of its whole tree, in MB."""

    def __init__(self, process: psutil.Process) -> None:
        super().__init__(daemon=True)
        self.process = process
        self.samples: list[tuple[float, float, float]] = []

    def run(self) -> None:
        begin = time.monotonic()
        while self.process.is_running():
            try:
                own = self.process.memory_info().rss
                tree = own + sum(p.memory_info().rss for p in self.process.children(recursive=True))
            except psutil.NoSuchProcess:
                return
            self.samples.append((time.monotonic() - begin, own / 2**20, tree / 2**20))
            time.sleep(0.5)


def run(count: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder, output = Path(temporary, "in"), Path(temporary, "out")
        make(folder, count)
        for mode in ("plan=true", "engine=embedded"):
            asked = ["task=qa", "task.question=What is the value in line 7?"]
            watched(mode, count, f"input={folder}", f"output={output}", mode, *asked)
        rates(output)


def corpus(folder: str, questions: str) -> None:
    for task in (["task=qa", f"task.questions={questions}"], ["task=describe"]):
        with tempfile.TemporaryDirectory() as output:
            for when in ("first run", "run again"):
                watched(f"{task[0]}, {when}", 1, f"input={folder}", f"output={output}", *task)


def watched(name: str, count: int, *arguments: str) -> None:
    """Run the pipeline and print its time and memory."""
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.run", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    watch = Watch(psutil.Process(process.pid))
    watch.start()
    printed, _ = process.communicate()
    watch.join()
    assert process.returncode == 0, printed
    report(name, count, time.monotonic() - begin, watch.samples)


def report(mode: str, count: int, seconds: float, samples: list[tuple[float, float, float]]) -> None:
    tenth = max(1, len(samples) // 10)
    each = f" for {count} inputs, {1000 * seconds / count:.2f} ms each" if count > 1 else ""
    print(f"{mode}: {seconds:.1f} s{each}")
    for name, column in (("parent", 1), ("tree", 2)):
        early = max(s[column] for s in samples[tenth : 2 * tenth] or samples)
        late = max(s[column] for s in samples[-2 * tenth : -tenth] or samples)
        peak = max(s[column] for s in samples)
        print(f"  {name} MB: {early:.0f} in the second tenth, {late:.0f} in the ninth, {peak:.0f} at most")


def rates(output: Path) -> None:
    """Print the time per page of the first and of the last thousand, from the answers' own dates."""
    import pandas as pd

    made = pd.read_parquet(output / "answers")["created_at"].sort_values()
    for name, part in (("second", made.iloc[1000:2000]), ("last", made.iloc[-1000:])):
        seconds = (part.max() - part.min()).total_seconds()
        print(f"  {name} thousand: {seconds / len(part) * 1000:.2f} ms per page")


def resume(count: int) -> None:
    """Write a journal of `count` rows through the sink, then open it in a fresh process."""
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary)
        with tables(output) as opened:
            for number in range(count):
                opened.sink.add_answer(
                    Answer(cell(number), "ok", answer=f"The value of {number} is {number * 7}.")
                )
                if number % 2000 == 1999:
                    opened.sink.commit()
            opened.sink.commit()
        print(f"{count} rows in {len(list(output.glob('_journal/*/part-*')))} parts")
        done = subprocess.run(
            [sys.executable, __file__, "_open", str(output), str(count)], capture_output=True, text=True
        )
        print(done.stdout, done.stderr)


def open_journal(output: Path, count: int) -> None:
    begin = time.monotonic()
    with tables(output) as opened:
        assert opened.known.is_finished(cell(count - 1), retry_errors=True)
        seconds = time.monotonic() - begin
        print(f"opened in {seconds:.1f} s, peak memory {peak_mb():.0f} MB")
        for number in range(count):
            found = document(number)
            given = cell(number, found)
            opened.wanted.add_document(found)
            opened.wanted.want(given)
            assert opened.known.is_finished(given, retry_errors=True)
        opened.sink.publish(complete=True)
    print(f"published in {time.monotonic() - begin:.1f} s, peak memory {peak_mb():.0f} MB")


def peak_mb() -> float:
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024  # type: ignore[index]


def tables(output: Path) -> AbstractContextManager[Tables]:
    stamp = Stamp(model="m", engine="e", task="qa", run_id="r", settings_hash="s")
    settings = SinkSettings(journal_seconds=5, journal_parts=64, checkpoint_rows=10**9)
    return opened(output, ShardSettings(index=0, count=1, planned=False), settings, stamp, {})


QUESTION = Question("q", "What is the value?")


def document(number: int) -> Document:
    return Document(f"{number:07}.pdf", Path(f"{number:07}.pdf"), "pdf", 1, f"{number:064x}")


def cell(number: int, found: Document | None = None) -> Cell:
    given = found or document(number)
    return Cell(f"{number:032x}", Subject("document", given.source, given.document_id, (), 1), QUESTION)


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "run":
        run(int(rest[0]) if rest else 10_000)
    elif what == "corpus":
        corpus(*rest)
    elif what == "resume":
        resume(int(rest[0]) if rest else 1_000_000)
    else:
        open_journal(Path(rest[0]), int(rest[1]))
    os._exit(0)
