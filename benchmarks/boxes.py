"""Measure evidence boxes against the places where another library (PDFium) finds the same words.

python benchmarks/boxes.py CORPUS [--text 50] [--pictures 20]

On pages with a text layer, runs of eight words are looked up as quotes are, and their boxes are held against
PDFium's. The same pages drawn as pictures stand for scans: real ones have no words whose places are known.
There the lines that OCR reads, of which the embedded engine's boxes are made, are held against PDFium's.
Printed is the share of quotes, or lines, whose boxes have an intersection over union of at least 0.5.
"""

from __future__ import annotations

import argparse
import difflib
import random
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pypdfium2

from pipeline.answering.evidence import look_up
from pipeline.compose import compose_report
from pipeline.engines.embedded.ocr import read_image
from pipeline.reading import draw, raster, source
from pipeline.records import Chunk, Page, Subject

Rect = tuple[float, float, float, float]
QUOTE_WORDS = 8
QUOTES = 5
"""Of each page."""
LEAST_WORDS = 60
LEAST_LETTERS = 20


def main() -> None:
    given = argparse.ArgumentParser()
    given.add_argument("corpus")
    given.add_argument("--text", type=int, default=50)
    given.add_argument("--pictures", type=int, default=20)
    options = given.parse_args()
    chance = random.Random(5)
    quotes: list[float] = []
    lines: list[float] = []
    not_found = text_pages = pictures = 0
    for page in pages(options.corpus, chance):
        if text_pages == options.text and pictures == options.pictures:
            break
        words = Words(page)
        if len(words.spans) < LEAST_WORDS or not page.text_covers:
            continue
        if text_pages < options.text:
            text_pages += 1
            found = list(of_quotes(page, words, chance))
            not_found += found.count(None)
            quotes += [each for each in found if each is not None]
        if pictures < options.pictures:
            pictures += 1
            lines += of_lines(page, words)
    print(f"text layer: {text_pages} pages, {len(quotes)} quotes found, {not_found} not; {told(quotes)}")
    print(f"pictures: {pictures} pages, {len(lines)} lines that OCR read; {told(lines)}")


def told(found: Sequence[float]) -> str:
    if not found:
        return "none"
    share = sum(each >= 0.5 for each in found) / len(found)
    return f"IoU >= 0.5 of {share:.1%}, median IoU {statistics.median(found):.2f}"


def pages(corpus: str, chance: random.Random) -> Iterator[Page]:
    """Yield up to three drawn pages of each PDF, at random."""
    settings = compose_report([f"output={corpus}"])
    files = [(file, file.relative_to(corpus).as_posix()) for file in sorted(Path(corpus).rglob("*.pdf"))]
    chance.shuffle(files)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "boxes-0"
        with raster.Rasterizer(settings.raster, draw.Geometry(1024, 16), scratch) as rasterizer:
            documents = source.listed(
                files, source.SourceSettings(include=[], exclude=[], follow_links=False)
            )
            for outline in rasterizer.outlines(documents, lambda document: None):
                some = tuple(chance.sample(outline.pages, min(3, len(outline.pages))))
                subject = Subject("document", outline.document.source, "", some, len(outline.pages))
                for window in rasterizer.render([[Chunk(subject, some, (), 0)]]):
                    yield from (page for page in window[0].pages if page.failure is None)
                    rasterizer.release(window)


class Words:
    """The text of a page as PDFium reads it, and where it stands, in points from the top left corner."""

    def __init__(self, page: Page) -> None:
        try:
            loaded = pypdfium2.PdfDocument(page.document.path)[page.number - 1]
            self.is_plain = loaded.get_rotation() == 0
            # Without a box of its own, PDFium takes a page for letter paper, whatever its parents say.
            box = loaded.get_cropbox(fallback_ok=False) or loaded.get_mediabox(fallback_ok=False) or (0, 0)
            self.left, self.top = box[0], box[1] + loaded.get_height()
            self.layer = loaded.get_textpage()
            text = self.layer.get_text_range(errors="replace") if self.is_plain else ""
        except pypdfium2.PdfiumError:
            text = ""
        self.text = text
        self.spans: list[tuple[int, int]] = []
        start = 0
        for word in text.split():
            start = text.index(word, start)
            self.spans.append((start, start + len(word)))
            start += len(word)

    def rects(self, start: int, end: int) -> list[Rect]:
        found = (self.layer.get_rect(i) for i in range(self.layer.count_rects(start, end - start)))
        moved = [(x0 - self.left, self.top - y1, x1 - self.left, self.top - y0) for x0, y0, x1, y1 in found]
        joined: list[Rect] = []
        for rect in moved:  # PDFium parts a line by fonts and spaces; ours are of lines
            last = joined[-1] if joined else None
            if last and min(last[3], rect[3]) > max(last[1], rect[1]) and rect[0] >= last[0]:
                joined[-1] = (last[0], min(last[1], rect[1]), max(last[2], rect[2]), max(last[3], rect[3]))
            else:
                joined.append(rect)
        return joined


def of_quotes(page: Page, words: Words, chance: random.Random) -> Iterator[float | None]:
    """Yield the IoU of some quotes; None for one that is not found."""
    for _ in range(QUOTES):
        first = chance.randrange(len(words.spans) - QUOTE_WORDS)
        start, end = words.spans[first][0], words.spans[first + QUOTE_WORDS - 1][1]
        found = look_up(words.text[start:end], [page.ordinal], {page.ordinal: page}, {page.ordinal}, [])
        yield iou([box[1:] for box in found.boxes], words.rects(start, end)) if found.boxes else None


def of_lines(page: Page, words: Words) -> Iterator[float]:
    """Yield the IoU of the lines that OCR reads off the drawn page."""
    read = [(line.text, line.place) for line in read_image(str(page.image)) if line.place]
    for start, end in lines(words):
        text = words.text[start:end]
        likeness = [difflib.SequenceMatcher(None, text, other).ratio() for other, _ in read]
        if not likeness or max(likeness) < 0.8:
            continue  # misread, or parted differently: what is measured is places
        place = read[likeness.index(max(likeness))][1]
        x0, y0, x1, y1 = (scale * at for scale, at in zip(2 * page.points_per_px, place, strict=True))
        yield iou([(x0, y0, x1, y1)], words.rects(start, end))


def lines(words: Words) -> Iterator[tuple[int, int]]:
    """Yield where PDFium's lines begin and end in its text."""
    start = 0
    for line in words.text.split("\n"):
        if len(line.strip()) >= LEAST_LETTERS:
            yield start, start + len(line.rstrip())
        start += len(line) + 1


def iou(ours: Sequence[Rect], theirs: Sequence[Rect]) -> float:
    """Return the intersection over union of two sets of rectangles, on a grid of half points."""
    one, other = painted(ours), painted(theirs)
    union = np.logical_or(one, other).sum()
    return float(np.logical_and(one, other).sum() / union) if union else 0.0


def painted(rects: Sequence[Rect]) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    grid = np.zeros((4000, 4000), bool)
    for x0, y0, x1, y1 in rects:
        grid[max(round(2 * y0), 0) : round(2 * y1), max(round(2 * x0), 0) : round(2 * x1)] = True
    return grid


if __name__ == "__main__":
    main()
