"""Measure the OCR's character error rate at the model's own resolution.

python benchmarks/ocr.py CORPUS

Once on a scan whose text was typed off by hand (benchmarks/truth), once on pages of documents with a text
layer, drawn as pictures: their text layer is the truth, in ten languages. Letters and digits count, case and
all; spaces, line breaks and punctuation do not, for a text layer has them where it likes.
"""

from __future__ import annotations

import re
import sys
import tempfile
import unicodedata
from pathlib import Path

import pymupdf
from rapidfuzz.distance import Levenshtein

from pipeline.engines.embedded.ocr import read_image
from pipeline.reading.draw import Geometry

# One page of running text, in one column, of each language of the corpus.
PAGES = {
    "en": ("en/project-history.en.pdf", 12), "fr": ("fr/project-history.fr.pdf", 12),
    "es": ("es/project-history.es.pdf", 12), "pt": ("pt/project-history.pt.pdf", 12),
    "it": ("it/debian-faq.it.pdf", 20), "de": ("de/schulmathematik.pdf", 5),
    "ru": ("ru/maint-guide.ru.pdf", 20), "ja": ("ja/bxjaholiday-ja.pdf", 1),
    "ko": ("ko/oblivoir-simpledoc.pdf", 18), "zh": ("zh/maint-guide.zh-cn.pdf", 20),
}  # fmt: skip
SCANS = {"scan/c03-29.pdf": "c03-29.txt"}


def letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text))


def read(page: pymupdf.Page) -> str:
    """Return the OCR of a page drawn as the pipeline draws it."""
    width, height = Geometry(1024, 16).fit(page.rect.width, page.rect.height, enlarge=True)
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        scale = pymupdf.Matrix(width / page.rect.width, height / page.rect.height)
        page.get_pixmap(matrix=scale, alpha=False).save(file.name)
        return "\n".join(line.text for line in read_image(file.name))


def main() -> None:
    corpus = Path(sys.argv[1])
    for name, truth in SCANS.items():
        expected = (Path(__file__).parent / "truth" / truth).read_text(encoding="utf-8")
        report(name, expected, read(pymupdf.open(corpus / name)[0]))
    for language, (name, number) in PAGES.items():
        page = pymupdf.open(corpus / name)[number - 1]
        report(f"{language} {name} page {number}", page.get_text(), read(page))


def report(what: str, expected: str, got: str) -> None:
    truth = letters(expected)
    print(
        f"{Levenshtein.distance(truth, letters(got)) / len(truth):6.1%} of {len(truth):5} characters  {what}"
    )


if __name__ == "__main__":
    main()
