"""Compare rasterization with its peers: the same pages, at the same size, handed over to a reader.

python benchmarks/rasterize.py FOLDER [REPEATS]

Every contender gets each readable PDF below FOLDER (at most 60 pages of each) and must leave, for every
page, an image of the same size that a reader has decoded to RGB pixels: what a vision model's processor
needs. All of them, readers and worker processes included, share one core. Then ours is timed with one and
with two workers.

- ours            MuPDF in a worker process, binary PPM in a scratch folder, text layer along with it
- pdftoppm        poppler's own PPM files, one process per document
- pypdfium2       PDFium, converted to a Pillow image and saved as PNG, as its documentation does
- pypdfium2 ppm   the same, handed over as PPM like ours
- olmocr's way    pdftoppm at the page's longest side to PNG, then base64, decoded by the reader, page by page
"""

from __future__ import annotations

import base64
import contextlib
import io
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pymupdf
import pypdfium2
from PIL import Image

from pipeline.config import RasterSettings, ShardSettings, SourceSettings
from pipeline.reading import draw, raster, scratch, source
from pipeline.records import Chunk, Outline, Subject
from pipeline.sharding.balance import balance

MOST_PAGES = 60
GEOMETRY = draw.Geometry(1024, 16)


def settings(workers: int) -> RasterSettings:
    return RasterSettings(
        workers=workers, page_timeout_s=60, worker_memory_mb=1536, max_megapixels=200,
        password=None, passwords=None, scratch=None, crop="none",
    )  # fmt: skip


def decode(image: Path | io.BytesIO) -> None:
    """Read an image as the model's processor does."""
    with Image.open(image) as opened:
        opened.convert("RGB").load()


def ours(rasterizer: raster.Rasterizer, outlines: list[Outline], read: bool = True) -> None:
    for window in rasterizer.render(windows(outlines)):
        for page in (page for chunk in window for page in chunk.pages):
            assert page.image is not None, page.failure
            if read:
                decode(page.image)
        rasterizer.release(window)


def windows(outlines: list[Outline], size: int = 30) -> Iterator[list[Chunk]]:
    """Group the pages as a run does: windows of several documents."""
    window: list[Chunk] = []
    for outline in outlines:
        document = outline.document
        subject = Subject(
            "document", document.source, document.document_id, outline.pages, len(outline.pages)
        )
        window.append(Chunk(subject, outline.pages, (), 0))
        if sum(len(chunk.pages) for chunk in window) >= size:
            yield window
            window = []
    yield window


@contextlib.contextmanager
def opened(workers: int, outlines: list[Outline]) -> Iterator[raster.Rasterizer]:
    """Open a pool whose processes have started: a run lasts hours, their start a second."""
    with raster.Rasterizer(
        settings(workers), GEOMETRY, scratch.choose(None, f"docbatch-bench-{os.getpid()}-{workers}")
    ) as rasterizer:
        ours(rasterizer, outlines[:5], read=False)
        yield rasterizer


def pdftoppm(outlines: list[Outline]) -> None:
    for outline in outlines:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            for first, last, (width, height) in runs(outline):
                pages = ["-f", str(first), "-l", str(last)]
                size = ["-scale-to-x", str(width), "-scale-to-y", str(height)]
                subprocess.run(["pdftoppm", *pages, *size, outline.document.path, f"{folder}/p"], check=True,
                               stderr=subprocess.DEVNULL)  # fmt: skip
            for file in sorted(Path(folder).iterdir()):
                decode(file)


def runs(outline: Outline) -> list[tuple[int, int, tuple[int, int]]]:
    """Return (first, last, size) of the runs of pages of one size."""
    found: list[tuple[int, int, tuple[int, int]]] = []
    for page in outline.pages:
        size = (page.width_px, page.height_px)
        if found and found[-1][2] == size:
            found[-1] = (found[-1][0], page.number, size)
        else:
            found.append((page.number, page.number, size))
    return found


def pdfium(outlines: list[Outline], kind: str) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        file = Path(folder, f"page.{kind}")
        for outline in outlines:
            document = pypdfium2.PdfDocument(outline.document.path)
            document.init_forms()
            for page in outline.pages:
                opened = document[page.number - 1]
                image = opened.render(
                    scale=max(page.width_px, page.height_px) / max(opened.get_size())
                ).to_pil()
                if image.size != (page.width_px, page.height_px):
                    image = image.resize((page.width_px, page.height_px))
                image.save(file)
                decode(file)
            document.close()


def olmocr(outlines: list[Outline]) -> None:
    for outline in outlines:
        for page in outline.pages:
            longest = str(max(page.width_px, page.height_px))
            png = subprocess.run(
                ["pdftoppm", "-png", "-f", str(page.number), "-l", str(page.number), "-scale-to", longest,
                 outline.document.path],
                check=True, capture_output=True,
            ).stdout  # fmt: skip
            decode(io.BytesIO(base64.b64decode(base64.b64encode(png))))


def timed(run: Callable[[], None]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def corpus(folder: str) -> list[Outline]:
    """Return the outlines of the PDFs that every contender can open."""
    found = source.find(
        folder,
        SourceSettings(include=["*.pdf"], exclude=[], follow_links=False),
        ShardSettings(index=0, count=1, planned=False),
        balance,
    )
    outlines = []
    with opened(2, []) as rasterizer:
        for outline in rasterizer.outlines(found.documents, lambda document: None):
            document = outline.document
            if outline.failure or document.kind != "pdf":
                continue
            try:
                count = len(pypdfium2.PdfDocument(document.path))
            except pypdfium2.PdfiumError:
                continue
            check = subprocess.run(
                ["pdftoppm", "-l", "1", "-scale-to", "8", document.path], capture_output=True
            )
            if count == len(outline.pages) and check.returncode == 0 and check.stdout:
                outlines.append(Outline(document, outline.pages[:MOST_PAGES]))
    return outlines


def compare(outlines: list[Outline], repeats: int) -> None:
    """Print every contender's rate."""
    pages = sum(len(outline.pages) for outline in outlines)
    with opened(1, outlines) as rasterizer:
        contenders: dict[str, Callable[[], None]] = {
            "ours": lambda: ours(rasterizer, outlines),
            "pdftoppm": lambda: pdftoppm(outlines),
            "pypdfium2, PNG": lambda: pdfium(outlines, "png"),
            "pypdfium2, PPM": lambda: pdfium(outlines, "ppm"),
            "olmOCR's way": lambda: olmocr(outlines),
        }
        seconds = paired(contenders, repeats)
    print(f"{len(outlines)} documents, {pages} pages, one core, medians of {repeats} paired rounds")
    for name, times in seconds.items():
        ratio = statistics.median(t / o for t, o in zip(times, seconds["ours"], strict=True))
        print(f"{name:16} {pages / statistics.median(times):7.1f} pages/s   ours is {ratio:5.2f} x as fast")


def paired(contenders: Mapping[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Time every contender once a round: what else the machine does meets them all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            seconds[name].append(timed(run))
    return seconds


def scale(outlines: list[Outline], repeats: int) -> None:
    """Print the rate with one and two workers, and how far two bare MuPDF processes get on this machine."""
    pages = sum(len(outline.pages) for outline in outlines)
    context = multiprocessing.get_context("forkserver")
    with opened(1, outlines) as single, opened(2, outlines) as double, context.Pool(2) as bare:
        bare.map(draw, [outlines[:5]] * 2, chunksize=1)
        seconds = paired(
            {
                "one worker": lambda: ours(single, outlines, read=False),
                "two workers": lambda: ours(double, outlines, read=False),
                "bare MuPDF, one process": lambda: bare.map(draw, [outlines], chunksize=1),
                "bare MuPDF, two processes": lambda: bare.map(draw, [outlines] * 2, chunksize=1),
            },
            2 * repeats,
        )
    one, two, bare_one, bare_two = seconds.values()
    for name in ("one worker", "two workers"):
        print(f"{name:16} {pages / statistics.median(seconds[name]):7.1f} pages/s")
    print(
        f"two workers do {statistics.median(o / t for o, t in zip(one, two, strict=True)):.2f} x one;",
        end=" ",
    )
    machine = statistics.median(2 * o / t for o, t in zip(bare_one, bare_two, strict=True))
    print(f"two bare MuPDF processes do {machine:.2f} x one on this machine in the same rounds")


def draw(outlines: list[Outline]) -> None:
    """Draw the pages with MuPDF alone: nothing handed over."""
    for outline in outlines:
        with pymupdf.open(outline.document.path) as document:
            for page in outline.pages:
                opened = document[page.number - 1]
                scale = pymupdf.Matrix(page.width_px / opened.rect.width, page.height_px / opened.rect.height)
                opened.get_pixmap(matrix=scale, alpha=False)


def main() -> None:
    folder, repeats = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    # Each part in a process of its own: worker processes keep the cores that the first pool was given.
    for part in (compare, scale):
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(part, folder, repeats))
        process.start()
        process.join()
        assert process.exitcode == 0


def measure(part: Callable[[list[Outline], int], None], folder: str, repeats: int) -> None:
    if part is compare:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    part(corpus(folder), repeats)


if __name__ == "__main__":
    main()
