"""Measure what cutting margins saves and loses: `python -m benchmarks.crop FOLDER [--zoom]`.

Counts the image tokens of every page of every PDF with and without its margins, the words of text layers that
do not lie whole within what is left, and the pages that have a mark outside of it at the full size.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pymupdf

from pipeline.errors import PipelineError
from pipeline.reading import draw, kinds
from pipeline.reading.job import WHOLE, Sheet
from pipeline.reading.sheets import box


def main() -> None:
    """Print one line with the totals, and one for each page that lost something."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--zoom", action="store_true")
    given = parser.parse_args()
    draw.prepare_worker()
    totals = Counter[str]()
    files = sorted(path for path in given.folder.rglob("*") if path.is_file())
    for path in (path for path in files if kinds.recognise(path) == "pdf"):
        try:
            totals += _document(path, "zoom" if given.zoom else "ink")
        except (PipelineError, RuntimeError) as error:
            print(f"{path.name}: {error}", file=sys.stderr)
    share = totals["tokens"] / max(1, totals["whole_tokens"])
    print(
        f"{totals['pages']} pages, {totals['cut']} cut:"
        f" {totals['tokens']:,} of {totals['whole_tokens']:,} tokens"
        f" ({share:.3f}); words lost {totals['lost']} of {totals['words']:,};"
        f" pages with marks outside {totals['marked']}"
    )


def _document(path: Path, crop: str) -> Counter[str]:
    job = draw.Job(str(path), path.name, "pdf", None, 200_000_000)
    whole = draw.inspect(job, draw.Geometry(1024, 16)).sheets
    sheets = draw.inspect(job, draw.Geometry(1024, 16, crop)).sheets
    found = Counter[str]()
    with pymupdf.open(path) as document:
        for before, sheet in zip(whole, sheets, strict=True):
            found["pages"] += 1
            found["tokens"] += _tokens(sheet)
            found["whole_tokens"] += _tokens(before)
            if sheet.crop != WHOLE:
                found["cut"] += 1
                found += _lost(path, document[sheet.number - 1], sheet)
    return found


def _tokens(sheet: Sheet) -> int:
    return (sheet.width_px // 16 + 1) * (sheet.height_px // 16)


def _lost(path: Path, page: pymupdf.Page, sheet: Sheet) -> Counter[str]:
    x0, y0, x1, y1 = box(sheet.crop, page.rect.width, page.rect.height)
    inside = pymupdf.Rect(x0 - 0.01, y0 - 0.01, x1 + 0.01, y1 + 0.01)
    turn = page.rotation_matrix
    words = [pymupdf.Rect(word[:4]) * turn & page.rect for word in page.get_text("words")]
    lost = [word for word in words if not word.is_empty and not inside.contains(word)]
    scale = 1024 / max(page.rect.width, page.rect.height)
    pixmap = page.get_pixmap(matrix=pymupdf.Matrix(scale, scale), colorspace=pymupdf.csGRAY)
    levels = np.frombuffer(pixmap.samples_mv, np.uint8).reshape(pixmap.height, pixmap.stride)[
        :, : pixmap.width
    ]
    outside = levels < 230
    outside[int(y0 * scale) : int(y1 * scale) + 1, int(x0 * scale) : int(x1 * scale) + 1] = False
    if lost or outside.any():
        print(f"{path.name}, page {sheet.number}: {len(lost)} words, {int(outside.sum())} pixels outside")
    return Counter(words=len(words), lost=len(lost), marked=int(outside.any()))


if __name__ == "__main__":
    main()
