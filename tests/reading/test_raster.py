from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pymupdf
import pytest
from conftest import SAMPLES
from PIL import Image, ImageDraw

from pipeline.config import RasterSettings, ShardSettings, SourceSettings
from pipeline.reading import draw, raster, source
from pipeline.records import Chunk, Outline, Page, Subject
from pipeline.sharding.balance import balance

GEOMETRY = draw.Geometry(1024, 16)


def settings(**values: object) -> RasterSettings:
    given: dict[str, object] = {
        "workers": 1, "page_timeout_s": 30.0, "worker_memory_mb": 1536, "max_megapixels": 200,
        "password": None, "passwords": None, "scratch": None,
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
    red, green, blue = read["red.jpg"].getpixel((16, 16))
    assert red > 200 and green < 60 and blue < 60
    low, high = read["deep.png"].convert("L").getextrema()
    assert low == 0 and 250 <= high <= 255
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
