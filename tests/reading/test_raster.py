from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pymupdf
import pytest
from conftest import SAMPLES
from PIL import Image, ImageDraw

from pipeline.config import RasterSettings, ShardSettings, SourceSettings
from pipeline.owner import this_process
from pipeline.reading import draw, raster, source
from pipeline.records import Chunk, Outline, Page, Subject
from pipeline.sharding.balance import balance

GEOMETRY = draw.Geometry(1024, 16)


def settings(**values: object) -> RasterSettings:
    given: dict[str, object] = {
        "workers": 1, "page_timeout_s": 30.0, "worker_memory_mb": 1536, "max_megapixels": 200,
        "password": None, "passwords": None, "scratch": None, "crop": "none",
    }  # fmt: skip
    return RasterSettings(**(given | values))  # type: ignore[arg-type]


@pytest.fixture
def rasterizer(tmp_path: Path) -> Iterator[raster.Rasterizer]:
    with raster.Rasterizer(settings(), GEOMETRY, tmp_path / "scratch") as opened:
        yield opened


def outlines(rasterizer: raster.Rasterizer, folder: Path) -> dict[str, Outline]:
    found = source.find(
        str(folder),
        SourceSettings(include=[], exclude=[], follow_links=False),
        ShardSettings(index=0, count=1, planned=False),
        balance,
    )
    return {o.document.source: o for o in rasterizer.outlines(found.documents, lambda document: None)}


def chunk(outline: Outline) -> Chunk:
    document = outline.document
    subject = Subject("document", document.source, document.document_id, outline.pages, len(outline.pages))
    return Chunk(subject, outline.pages, (), 0)


def render(rasterizer: raster.Rasterizer, outline: Outline) -> tuple[Page, ...]:
    ((rendered,),) = rasterizer.render([[chunk(outline)]])
    return rendered.pages


def only(rasterizer: raster.Rasterizer, path: Path) -> Page:
    (page,) = render(rasterizer, outlines(rasterizer, path)[path.name])
    assert page.failure is None
    return page


def test_pages_are_drawn_at_exactly_the_size_that_was_planned(rasterizer: raster.Rasterizer) -> None:
    for outline in outlines(rasterizer, SAMPLES).values():
        if outline.failure:
            assert outline.failure.code == "encrypted"
            continue
        for page in render(rasterizer, outline):
            with Image.open(page.image) as image:  # type: ignore[arg-type]
                assert (image.size, image.mode) == ((page.width_px, page.height_px), "RGB")
            assert page.width_px % 16 == page.height_px % 16 == 0
            assert max(page.width_px, page.height_px) <= 1024


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_a_rotated_page_is_drawn_the_way_it_is_read(
    rasterizer: raster.Rasterizer, make_pdf: Callable[..., Path], rotate: int
) -> None:
    page = only(
        rasterizer, make_pdf(f"{rotate}.pdf", "Upright text", width_pt=400, height_pt=800, rotate=rotate)
    )
    assert (page.height_px > page.width_px) == (rotate in (0, 180))
    assert "Upright text" in page.text


def test_a_long_document_streams_window_by_window(
    rasterizer: raster.Rasterizer, make_pdf: Callable[..., Path]
) -> None:
    path = make_pdf("long.pdf", *(f"Page {n}" for n in range(40)))
    outline = outlines(rasterizer, path)["long.pdf"]
    windows = [[Chunk(chunk(outline).subject, outline.pages[i : i + 10], (), 0)] for i in range(0, 40, 10)]
    taken: list[int] = []

    def source_of_windows() -> Iterator[list[Chunk]]:
        for number, window in enumerate(windows):
            taken.append(number)
            yield window

    stream = rasterizer.render(source_of_windows())
    (first,) = next(stream)
    assert [page.text.strip() for page in first.pages] == [f"Page {n}" for n in range(10)]
    assert taken == [0, 1]  # one window ahead and no more: the rest is not drawn yet
    rasterizer.release([first])
    assert not any(page.image.exists() for page in first.pages if page.image)


def test_an_exif_orientation_is_applied(rasterizer: raster.Rasterizer) -> None:
    page = only(rasterizer, SAMPLES / "bar-ABC-exif-rot6.jpg")
    with Image.open(SAMPLES / "bar-ABC-exif-rot6.jpg") as stored:
        assert (stored.width > stored.height) != (page.width_px > page.height_px)


def test_transparency_becomes_white_and_odd_modes_become_rgb(
    rasterizer: raster.Rasterizer, tmp_path: Path
) -> None:
    Image.new("RGBA", (32, 32), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(tmp_path / "red.jpg")
    ramp = Image.new("I;16", (32, 32))
    ramp.putdata([n * 64 for n in range(1024)])
    ramp.save(tmp_path / "deep.png")
    Image.new("P", (32, 32), 0).save(tmp_path / "palette.gif")
    read = {}
    for name in ("clear.png", "red.jpg", "deep.png", "palette.gif"):
        with Image.open(only(rasterizer, tmp_path / name).image) as image:  # type: ignore[arg-type]
            read[name] = image.copy()
    assert read["clear.png"].getpixel((16, 16)) == (255, 255, 255)
    red = read["red.jpg"].getpixel((16, 16))
    assert isinstance(red, tuple) and red[0] > 200 and red[1] < 60 and red[2] < 60
    low, high = read["deep.png"].convert("L").getextrema()
    assert low == 0 and isinstance(high, int | float) and 250 <= high <= 255
    assert all(image.mode == "RGB" for image in read.values())


def test_every_page_of_a_tiff_counts_and_one_frame_of_a_gif(
    rasterizer: raster.Rasterizer, tmp_path: Path
) -> None:
    frames = [Image.new("RGB", (40 + 20 * n, 40), color) for n, color in enumerate(("red", "green", "blue"))]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    found = outlines(rasterizer, tmp_path)
    assert [(p.width_px, p.height_px) for p in found["a.tiff"].pages] == [(48, 48), (64, 48), (80, 48)]
    assert len(found["a.gif"].pages) == 1
    colors = []
    for page in render(rasterizer, found["a.tiff"]):
        with Image.open(page.image) as image:  # type: ignore[arg-type]
            colors.append(image.getpixel((5, 5)))
    assert colors == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]


def test_blank_pages_are_told_from_faint_and_noisy_ones(
    rasterizer: raster.Rasterizer, make_pdf: Callable[..., Path], tmp_path: Path
) -> None:
    assert only(rasterizer, make_pdf("blank.pdf", "")).blank
    assert not only(rasterizer, make_pdf("word.pdf", "word")).blank
    noise = Image.effect_noise((1000, 1400), 12).point(lambda value: min(255, value + 110))
    noise.save(tmp_path / "noise.png")
    assert only(rasterizer, tmp_path / "noise.png").blank
    ImageDraw.Draw(noise).text((500, 700), "a word", fill=60, font_size=24)
    noise.save(tmp_path / "note.png")
    assert not only(rasterizer, tmp_path / "note.png").blank


def test_files_that_are_damaged_or_too_large_say_so(tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes((SAMPLES / "pandas-DataFrame-plot-bar-2.png").read_bytes()[:3000])
    (tmp_path / "cut.pdf").write_bytes((SAMPLES / "bxjaholiday-ja.pdf").read_bytes()[:60_000])
    (tmp_path / "header.pdf").write_bytes(b"%PDF-1.7\nnothing else\n%%EOF\n")
    Image.new("1", (5000, 5000)).save(tmp_path / "wide.png")
    (tmp_path / "tags.tiff").write_bytes(b"II*\0\x08\0\0\0\0\0\0\0\0\0")  # a directory without any tag
    with raster.Rasterizer(settings(max_megapixels=20), GEOMETRY, tmp_path / "scratch") as opened:
        found = outlines(opened, tmp_path)
        (cut,) = render(opened, found["cut.png"])
    codes = {name: o.failure.code for name, o in found.items() if o.failure}
    assert cut.failure is not None and cut.failure.code == "corrupt"
    assert codes == {
        "cut.pdf": "corrupt", "header.pdf": "corrupt", "tags.tiff": "corrupt", "wide.png": "too_large",
    }  # fmt: skip


def test_a_page_that_needs_too_much_memory_fails_alone(make_pdf: Callable[..., Path], tmp_path: Path) -> None:
    path = make_pdf("in/a.pdf", "small", "large", "small")
    with pymupdf.open(path) as document:
        noise = Image.effect_noise((9000, 9000), 80)
        noise.save(tmp_path / "noise.png")
        document[1].insert_image(pymupdf.Rect(0, 0, 595, 842), filename=tmp_path / "noise.png")
        document.saveIncr()
    with raster.Rasterizer(settings(worker_memory_mb=60), GEOMETRY, tmp_path / "scratch") as opened:
        pages = render(opened, outlines(opened, path)["a.pdf"])
    assert [page.failure.code if page.failure else "ok" for page in pages] == ["ok", "too_large", "ok"]


def test_a_worker_that_is_killed_is_replaced(make_pdf: Callable[..., Path], tmp_path: Path) -> None:
    path = make_pdf("a.pdf", *(f"Page {n}" for n in range(60)))
    with raster.Rasterizer(settings(), GEOMETRY, tmp_path / "scratch") as opened:
        outline = outlines(opened, path)["a.pdf"]
        stream = opened.render(
            [[Chunk(chunk(outline).subject, outline.pages[i : i + 20], (), 0)] for i in (0, 20, 40)]
        )
        next(stream)
        own = psutil.Process().pid
        workers = [p for p in psutil.Process().children(recursive=True) if p.ppid() != own]
        assert workers  # children of the process server, not of this process
        for process in workers:
            process.kill()
        rest = [page for window in stream for c in window for page in c.pages]
    assert [page.number for page in rest] == list(range(21, 61))
    assert all(page.failure is None or page.failure.code == "render_crashed" for page in rest)
    assert sum(page.failure is None for page in rest) >= 39


def test_two_names_of_the_same_bytes_never_share_an_image(
    rasterizer: raster.Rasterizer, make_pdf: Callable[..., Path]
) -> None:
    path = make_pdf("in/a.pdf", "Page 1", "Page 2")
    (path.parent / "b.pdf").write_bytes(path.read_bytes())
    found = outlines(rasterizer, path.parent)
    stream = rasterizer.render([[chunk(found["a.pdf"])], [chunk(found["b.pdf"])]])
    first, second = next(stream), next(stream)
    rasterizer.release(first)
    assert not any(page.image.exists() for page in first[0].pages if page.image)
    assert all(page.image is not None and page.image.exists() for page in second[0].pages)
    rasterizer.release(second)
    assert [left.name for left in rasterizer.scratch.iterdir()] == ["owner.json"]


def test_a_page_that_fails_leaves_no_image_behind(tmp_path: Path) -> None:
    image = Image.effect_noise((300, 300), 80)
    image.save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with raster.Rasterizer(settings(), GEOMETRY, tmp_path / "scratch") as opened:
        (page,) = render(opened, outlines(opened, tmp_path)["a.png"])
        assert page.failure is not None and page.image is None
        assert [left.name for left in opened.scratch.iterdir()] == ["owner.json"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_page_images_are_for_this_user_alone(
    make_pdf: Callable[..., Path], tmp_path: Path, umask: int
) -> None:
    path = make_pdf("in/a.pdf", "secret")
    before = os.umask(umask)
    try:
        with raster.Rasterizer(settings(), GEOMETRY, tmp_path / "scratch") as opened:
            page = only(opened, path)
            assert page.image is not None
            modes = [stat.S_IMODE(p.stat().st_mode) for p in (opened.scratch, page.image)]
    finally:
        os.umask(before)
    assert modes == [0o700, 0o600]


def test_folders_of_dead_runs_are_swept_by_any_later_run_and_no_others(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    mine = this_process()
    owners = {
        "docbatch-aa-dead": replace(mine, pid=dead.pid, started=0),
        "docbatch-bb-living": mine,
        "docbatch-cc-rebooted": replace(mine, boot="another"),
        "docbatch-dd-elsewhere": replace(mine, host="elsewhere", boot="another", job=None),
        "docbatch-ee-unsaid": None,
        "docbatch-ff-0": mine,
        "other-dead": replace(mine, pid=dead.pid, started=0),
    }
    dead.wait()
    for name, owner in owners.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.ppm").touch()
        if owner is not None:
            (tmp_path / name / "owner.json").write_text(json.dumps(asdict(owner)))
    (tmp_path / "docbatch-link-x").symlink_to(tmp_path / "other-dead")
    with raster.Rasterizer(settings(), GEOMETRY, tmp_path / "docbatch-ff-1"):
        left = {p.name for p in tmp_path.iterdir()}
    assert left == {
        "docbatch-bb-living", "docbatch-dd-elsewhere", "docbatch-ee-unsaid", "docbatch-ff-1",
        "docbatch-link-x", "other-dead",
    }  # fmt: skip


def test_a_file_that_becomes_a_pipe_or_vanishes_before_it_is_drawn_is_an_error(
    rasterizer: raster.Rasterizer, make_pdf: Callable[..., Path]
) -> None:
    for name in ("a.pdf", "b.pdf"):
        make_pdf(f"in/{name}", name)
    path = make_pdf("in/c.pdf", "c")
    found = outlines(rasterizer, path.parent)
    (path.parent / "a.pdf").unlink()
    (path.parent / "b.pdf").unlink()
    os.mkfifo(path.parent / "b.pdf")
    codes = {
        name: page.failure.code if page.failure else "ok"
        for name, outline in found.items()
        for page in render(rasterizer, outline)
    }
    assert codes == {"a.pdf": "unreadable", "b.pdf": "unreadable", "c.pdf": "ok"}


def tree(kids: str, count: int) -> bytes:
    """Write a PDF with three pages, objects 3 to 5, whose tree says what it is told to."""
    page = "<</Type/Page/Parent 2 0 R/Contents 6 0 R>>"
    root = f"<</Type/Pages/MediaBox[0 0 300 200]/Kids[{kids}]/Count {count}>>"
    stream = "<</Length 17>>stream\n0 0 m 100 100 l S\nendstream"
    data, places = b"%PDF-1.4\n", []
    for number, body in enumerate(["<</Type/Catalog/Pages 2 0 R>>", root, page, page, page, stream], 1):
        places.append(len(data))
        data += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    head = f"xref\n0 7\n0000000000 65535 f \n{table}trailer<</Size 7/Root 1 0 R>>\n"
    return data + f"{head}startxref\n{len(data)}\n%%EOF".encode()


ALL = "3 0 R 4 0 R 5 0 R"


@pytest.mark.parametrize(
    ("kids", "count", "expected"),
    [
        (ALL, 3, "ok ok ok"), (ALL, 5, "ok ok ok"), (ALL, 1, "ok ok ok"), (ALL, 0, "ok ok ok"),
        (ALL, -7, "ok ok ok"), (ALL, 10**9, "ok ok ok"), ("3 0 R 2 0 R 4 0 R 5 0 R", 4, "ok ok ok"),
        ("3 0 R 4 0 R null", 3, "ok ok"), ("3 0 R null 5 0 R", 3, "ok unreadable ok"),
    ],
)  # fmt: skip
def test_the_pages_of_a_page_tree_that_lies_are_read(
    rasterizer: raster.Rasterizer, tmp_path: Path, kids: str, count: int, expected: str
) -> None:
    (tmp_path / "a.pdf").write_bytes(tree(kids, count))
    pages = render(rasterizer, outlines(rasterizer, tmp_path / "a.pdf")["a.pdf"])
    assert " ".join(page.failure.code if page.failure else "ok" for page in pages) == expected
    drawn = [page for page in pages if page.failure is None]
    assert all((page.width_px, page.height_px, page.blank) == (1024, 688, False) for page in drawn)


def test_a_document_without_a_page_is_empty(rasterizer: raster.Rasterizer, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(tree("", 0))
    failure = outlines(rasterizer, tmp_path / "a.pdf")["a.pdf"].failure
    assert failure is not None and failure.code == "empty"
