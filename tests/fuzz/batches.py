"""Run mutated files through the real pipeline, in batches, and check that each costs its own row and no more.

PYTHONPATH=.:tests python tests/fuzz/batches.py [--files 100] [--seed 1] [--largest-kb 128]
  [--corpus FOLDER …] [--keep FOLDER]

Files come from `data/samples`, from a few that are generated, and from the corpus folders. The engine is
scripted, all else is the real thing: finding, hashing, drawing in worker processes, packing, tables. Ends
with 1 when a batch raised, took longer than its pages may, lost or doubled a row, or when this process has
grown; a crash of it is a crash. What went into such a batch is then left in the folder `--keep`.
"""

from __future__ import annotations

import argparse
import faulthandler
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import hydra
import psutil
import pyarrow.parquet as pq
import pymupdf
import scripted
from fuzz import mutate
from PIL import Image, ImageDraw

from pipeline.compose import CONF, to_settings
from pipeline.config import RunSettings
from pipeline.engines import choose
from pipeline.reading.kinds import ENDINGS
from pipeline.run import execute

ROOT = Path(__file__).parents[2]
BATCH = 100
PAGE_S = 10
_WARM_BATCHES = 3
_MAY_GROW_MB = 40


def generate(folder: Path) -> None:
    """Make a file of each kind that is read."""
    image = Image.new("RGB", (200, 120), "white")
    ImageDraw.Draw(image).text((20, 40), "a chart of 7 bars", fill="black")
    for ending in ("png", "jpg", "webp", "tiff", "gif", "bmp"):
        image.save(folder / f"made.{ending}")
    image.convert("P").save(folder / "frames.tiff", save_all=True, append_images=[image.convert("1"), image])
    (folder / "made.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="200" height="100"><style>.a{fill:#abc}</style>'
        '<g transform="scale(2)"><rect class="a" width="50" height="20"/>'
        '<text x="5" y="15">seven</text></g></svg>'
    )
    with zipfile.ZipFile(folder / "made.cbz", "w") as archive:
        archive.write(folder / "made.png", "1.png")
        archive.write(folder / "made.jpg", "2.jpg")
    with pymupdf.open() as document:
        for number in range(3):
            page = document.new_page(width=300, height=200)
            page.insert_text((20, 50), f"Page {number} says seven.")
            page.insert_image(pymupdf.Rect(20, 60, 120, 120), filename=folder / "made.jpg")
            page.draw_bezier((10, 10), (50, 90), (90, 10), (200, 150))
        document.save(folder / "made.pdf", garbage=0, deflate=True)


def seeds(folders: Sequence[Path], most_bytes: int) -> list[Path]:
    """List the files to start from, in an order that is always the same."""
    found = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in found if path.suffix.lower() in ENDINGS and path.stat().st_size <= most_bytes]


def make_batch(folder: Path, originals: Sequence[Path], seed: int, numbers: range) -> None:
    """Write mutated files; which ones depends on the seed and the number alone.

    In a process of its own: to damage files takes memory in large pieces, and the run's is what is watched.
    """
    given = folder, originals, seed, numbers
    process = multiprocessing.get_context("spawn").Process(target=write_batch, args=given)
    process.start()
    process.join()
    assert process.exitcode == 0


def write_batch(folder: Path, originals: Sequence[Path], seed: int, numbers: range) -> None:
    for number in numbers:
        chance = random.Random(f"{seed}-{number}")
        original = chance.choice(originals)
        ending = original.suffix.lower()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile's, of names that are there twice
            data = mutate.mutate(chance, original.read_bytes(), ending)
        (folder / f"{number:06d}{ending}").write_bytes(data)


def settings(folder: Path) -> RunSettings:
    given = [
        f"input={folder / 'input'}", f"output={folder / 'output'}", "task=qa", "task.question=Which?",
        "engine=vllm", f"raster.page_timeout_s={PAGE_S}", "raster.worker_memory_mb=1024", "raster.workers=2",
        "engine.repair_attempts=0",
    ]  # fmt: skip
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return to_settings(hydra.compose("config", overrides=given))


def wrong_with(folder: Path, count: int, codes: Counter[str]) -> Iterator[str]:
    """Yield what is wrong with the tables of a batch; count its rows by code."""
    names = {path.name for path in (folder / "input").iterdir()}
    assert len(names) == count
    for table in ("answers", "documents"):
        rows = pq.read_table(
            folder / "output" / table, columns=["source", "status", "error_code"]
        ).to_pylist()
        found = Counter(row["source"] for row in rows)
        if found != Counter(names):
            twice = [name for name, rows_of_it in found.items() if rows_of_it > 1]
            yield f"{table}: lacks {sorted(names - set(found))}, has {twice} twice"
        if table == "answers":
            codes.update(row["error_code"] or row["status"] for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=BATCH)
    parser.add_argument("--seed", type=int, default=1)
    # Larger ones are documents of dozens of pages: of small ones many more are damaged in the same time.
    parser.add_argument("--largest-kb", type=int, default=128)
    parser.add_argument("--corpus", type=Path, nargs="*", default=[])
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    faulthandler.enable()
    choose.build = lambda *_: scripted.ScriptedEngine(
        lambda _: scripted.says('{"answer": "x", "pages": [1], "quote": null}')
    )
    codes, wrong, process, warm_mb = Counter[str](), list[str](), psutil.Process(), 0.0
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as made:
        generate(Path(made))
        folders = [ROOT / "data" / "samples", Path(made), *given.corpus]
        originals = seeds(folders, given.largest_kb << 10)
        for number, start in enumerate(range(0, given.files, BATCH)):
            numbers = range(start, min(start + BATCH, given.files))
            wrong += run_batch(originals, given.seed, numbers, codes, given.keep)
            used_mb = process.memory_info().rss / 2**20
            warm_mb = max(warm_mb, used_mb) if number < _WARM_BATCHES else warm_mb
            print(
                f"{numbers.stop} files, {time.monotonic() - begin:.0f} s, {used_mb:.0f} MB here,"
                f" {dict(codes.most_common())}", flush=True,
            )  # fmt: skip
    if used_mb > warm_mb + _MAY_GROW_MB:
        wrong.append(f"this process has grown from {warm_mb:.0f} to {used_mb:.0f} MB")
    print("\n".join(wrong) or f"nothing wrong with {codes.total()} of {given.files} files")
    sys.exit(bool(wrong))


def run_batch(
    originals: Sequence[Path], seed: int, numbers: range, codes: Counter[str], keep: Path | None
) -> list[str]:
    """Run one batch; return what was wrong."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "input").mkdir()
        make_batch(folder / "input", originals, seed, numbers)
        # Were this process to hang, this ends it: each file's pages have a deadline, alone and together.
        faulthandler.dump_traceback_later(BATCH * 12 * PAGE_S, exit=True)
        try:
            execute(settings(folder))
            wrong = list(wrong_with(folder, len(numbers), codes))
        except Exception as error:
            wrong = [f"{numbers}: {type(error).__name__}: {error}"]
        finally:
            faulthandler.cancel_dump_traceback_later()
        if wrong and keep:
            shutil.copytree(folder / "input", keep / f"{seed}-{numbers.start}", dirs_exist_ok=True)
        return wrong


if __name__ == "__main__":
    main()
