"""Compare our page images with PDFium's at the same size, and list the pages that differ most.

python benchmarks/renderers.py FOLDER... [--pages 3] [--worst 20] [--save OUT]

The first pages of every PDF below the folders. A page's difference is the share of its cells of
4 x 4 pixels in which one picture has an edge or a color and the other has none within a cell. `--save` writes
the worst side by side.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from pipeline.reading import draw, kinds, second_renderer
from pipeline.reading.damage import shown, widened
from pipeline.reading.job import Job, Sheet


class Compared(NamedTuple):
    """A page as both drew it."""

    difference: float
    name: str
    ours_only: float
    theirs_only: float
    ours: Image.Image
    theirs: Image.Image


def compare(file: Path, sheet: Sheet, job: Job, scratch: Path) -> Compared | None:
    """Draw a page twice; None where one of the two cannot."""
    out = scratch / "page.ppm"
    out.unlink(missing_ok=True)
    (drawn,) = draw.render_run(job, [(sheet, str(out))])
    size = sheet.width_px, sheet.height_px
    theirs = second_renderer.draw(str(file), [None], sheet.number - 1, *size, sheet.part)
    if isinstance(drawn, Exception) or theirs is None:
        return None
    with Image.open(out) as opened:
        ours = opened.convert("RGB")
    mine, other = shown(ours), shown(theirs)
    ours_only = float(np.mean(mine & ~widened(other)))
    theirs_only = float(np.mean(other & ~widened(mine)))
    name = f"{file.name}, page {sheet.number}"
    return Compared(ours_only + theirs_only, name, ours_only, theirs_only, ours, theirs)


def pages_of(folder: Path, most: int, scratch: Path) -> list[Compared]:
    """Compare the first pages of each PDF below a folder."""
    found = []
    for file in sorted(folder.rglob("*.pdf")):
        try:
            job = Job(str(file), file.name, kinds.recognise(file) or "pdf", None, 200_000_000)
            sheets = draw.inspect(job, draw.Geometry(1024, 16)).sheets[:most]
        except Exception as error:
            print(f"{file.name}: not read ({error})"[:150])
            continue
        found += [pair for sheet in sheets if (pair := compare(file, sheet, job, scratch))]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--pages", type=int, default=3)
    parser.add_argument("--worst", type=int, default=20)
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    draw.prepare_worker()
    with tempfile.TemporaryDirectory() as scratch:
        found = [pair for folder in given.folders for pair in pages_of(folder, given.pages, Path(scratch))]
    shares = np.array([pair.difference for pair in found])
    some, much = int((shares > 0.005).sum()), int((shares > 0.02).sum())
    print(f"{len(found)} pages; {some} differ by over 0.5 %, {much} of them by over 2 %")
    worst = sorted(found, key=lambda pair: -pair.difference)[: given.worst]
    for number, pair in enumerate(worst):
        print(f"{pair.name}: {pair.difference:.2%} (ours alone {pair.ours_only:.2%})")
        if given.save:
            given.save.mkdir(parents=True, exist_ok=True)
            both = Image.new("RGB", (2 * pair.ours.width + 8, pair.ours.height), "blue")
            both.paste(pair.ours, (0, 0))
            both.paste(pair.theirs, (pair.ours.width + 8, 0))
            both.save(given.save / f"{number:02}.png")


if __name__ == "__main__":
    main()
