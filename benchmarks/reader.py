"""How much the small Pixtral reads right, through the whole pipeline and the real vLLM, on the CPU.

PYTHONPATH=tests/vllm/shim:.:training python benchmarks/reader.py OUT [--documents 20] [--kinds one …]

Documents are made up, in fonts and sizes that the model never learned. The kinds:

one      a page per document
eight    eight pages per document, in one request
merged   sixteen pages per document, in requests of four whose replies are merged
worn     a page per document, blurred or with a strip missing; its reliability is plotted

Prints a line for each: questions that the pages answer, and the share of right answers; the share of right
pages of all questions; questions that the pages do not answer, and the share of replies that say so.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from check import READER, read
from documents import write

KINDS = {
    "one": (1, ()),
    "eight": (8, ()),
    "merged": (16, ("pack.max_images=4",)),
    "worn": (1, ()),
}
"""Pages per document, and settings beside the model's."""
SEED = 2027


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--documents", type=int, default=20)
    given = parser.parse_args()
    for kind in given.kinds:
        measure(given.out / kind, kind, given.documents)


def measure(folder: Path, kind: str, documents: int) -> None:
    """Write documents, have them read, and print what is right."""
    shutil.rmtree(folder, ignore_errors=True)
    pages, settings = KINDS[kind]
    gold = write(folder / "in", [pages] * documents, SEED, is_worn=kind == "worn")
    questions = folder / "in" / "questions.csv"
    command = [
        sys.executable, "-m", "pipeline.run", f"input={folder / 'in'}", f"output={folder / 'output'}",
        f"task.questions={questions}", *READER, *settings,
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log)
    found = read(folder / "output", gold)
    absent = sum(each.answer is None for each in gold)
    shares = f"{found.answers:.3f} | {found.pages:.3f} | {absent} | {found.absent:.3f}"
    print(f"| {kind} | {len(gold) - absent} | {shares} |", flush=True)
    if kind == "worn":
        scored = [sys.executable, "-m", "pipeline.evaluate", f"run={folder / 'output'}", f"gold={questions}"]
        subprocess.run(scored, check=True)


if __name__ == "__main__":
    main()
