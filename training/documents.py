"""Write documents that the small Pixtral reads, with questions and the answers that they deserve.

python training/documents.py FOLDER [--documents 12 --pages 1 8 --seed 1 --worn]

FOLDER gets PDFs and `questions.csv`, whose columns document, answer and page say what is right. Fonts are
those that no lesson has. With `--worn` each page is an image, blurred or cut, as bad scans are.
"""

from __future__ import annotations

import argparse
import csv
import io
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import lessons
import pages
import pymupdf
from PIL import Image, ImageFilter

COLUMNS = ("question_id", "question", "document", "answer", "page", "unanswerable")
FAMILIES = ("on the page", "in the document", "which page")
SIZES_PX = ((256, 128), (256, 160), (256, 192), (192, 256))
"""With `model.image_max_px=256` the pipeline draws these pages as they are; others it would scale."""
_ABSENT = 0.25


@dataclass(frozen=True, slots=True)
class Gold:
    """A question about a document, with what is right: nothing where its pages do not say it."""

    question_id: str
    question: str
    document: str
    answer: str | None
    page: int | None


def write(
    folder: Path,
    lengths: Sequence[int],
    seed: int,
    questions: int = 3,
    sizes_px: Sequence[tuple[int, int]] = SIZES_PX,
    is_worn: bool = False,
) -> list[Gold]:
    """Write a document of each length in pages, and as many questions about each; return what is right."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, painter = random.Random(seed), pages.Painter()
    gold: list[Gold] = []
    for number, length in enumerate(lengths):
        name, size = f"{number:03}.pdf", rng.choice(sizes_px)
        shown = [(n + 1, pages.page(rng, size, pages.HELD_OUT_FONTS)) for n in range(length)]
        with pymupdf.open() as document:
            for _, page in shown:
                if is_worn:
                    _add_image(document, _worn(rng, Image.fromarray(painter.draw(page))))
                else:
                    pages.write(document, page)
            document.save(folder / name)
        gold += _asked(rng, name, shown, questions)
    rng.shuffle(gold)
    with (folder / "questions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for each in gold:
            found = [each.answer or "", each.page or "", "" if each.answer else "true"]
            writer.writerow([each.question_id, each.question, each.document, *found])
    return gold


def _asked(
    rng: random.Random, name: str, shown: Sequence[tuple[int, pages.Page]], questions: int
) -> Iterator[Gold]:
    for number in range(questions):
        family = FAMILIES[number % len(FAMILIES)]
        asked = lessons.ask(rng, shown, family, rng.random() < _ABSENT)
        yield Gold(f"{name[:3]}-{number}", asked.question, name, asked.answer, asked.page)


def _worn(rng: random.Random, image: Image.Image) -> Image.Image:
    """Return a page as a bad scanner gives it: blurred, or with a strip of it missing."""
    if rng.random() < 0.7:
        return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 5.0)))
    cut = image.copy()
    left = rng.randrange(image.width)
    cut.paste(255, (left, 0, min(image.width, left + rng.randrange(4, 60)), image.height))
    return cut


def _add_image(document: pymupdf.Document, image: Image.Image) -> None:
    packed = io.BytesIO()
    image.save(packed, "PNG")
    page = document.new_page(width=image.width, height=image.height)
    page.insert_image(page.rect, stream=packed.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--documents", type=int, default=12)
    parser.add_argument("--pages", type=int, nargs=2, default=(1, 8), help="fewest and most of a document")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--questions", type=int, default=3, help="about each document")
    parser.add_argument("--worn", action="store_true", help="pages as bad scans")
    given = parser.parse_args()
    rng = random.Random(given.seed)
    lengths = [rng.randint(*given.pages) for _ in range(given.documents)]
    write(given.folder, lengths, given.seed, given.questions, is_worn=given.worn)


if __name__ == "__main__":
    main()
