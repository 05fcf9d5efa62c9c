"""Measure what many questions cost without a model: finding those of a document, and the embedded engine.

python benchmarks/questions.py [QUESTIONS]      so many (400) about a generated document of 100 pages
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from pipeline.asking.selection import Selection
from pipeline.engines.embedded.lines import lines_of
from pipeline.engines.embedded.passages import cut
from pipeline.engines.embedded.ranking import Index
from pipeline.records import Question

PAGES, PAGES_PER_REQUEST, OWN_QUESTIONS = 100, 25, 34_000


def selection(pattern: str) -> str:
    """Give each of many documents a question of its own; return what finding one takes."""
    asked = [Question(f"q{n}", "?", pattern.format(n)) for n in range(OWN_QUESTIONS)]
    begin = time.process_time()
    found = Selection(asked)
    indexed = time.process_time()
    for number in range(1000):
        assert len(found.of(str(Path(f"in/{number:05}.pdf")))) == 1
    took = time.process_time() - indexed
    return f"{pattern}: indexed in {indexed - begin:.1f} s, found in {took:.3f} ms each"


def main() -> None:
    questions = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    chance = random.Random(1)
    words = [f"w{n}" for n in range(3000)]
    texts = ["\n".join(" ".join(chance.choices(words, k=12)) for _ in range(45)) for _ in range(PAGES)]
    asked = ["which " + " ".join(chance.choices(words, k=5)) for _ in range(questions)]
    begin = time.process_time()
    for start in range(0, PAGES, PAGES_PER_REQUEST):
        shown = {n + 1: lines_of(texts[n]) for n in range(start, start + PAGES_PER_REQUEST)}
        index = Index(cut(shown, 850))
        for question in asked:
            index.rank(question, index.count(question))
    print(f"{questions} questions about {PAGES} pages: {time.process_time() - begin:.1f} s of one core")
    for pattern in ("in/{:05}.pdf", "*/{:05}.pdf", "in/{:05}*"):
        print(selection(pattern))


if __name__ == "__main__":
    main()
