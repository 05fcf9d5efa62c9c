"""Odd and damaged files of every kind, through the real worker processes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import odd_files as odd
import pillow_heif
import pymupdf
import pytest
from PIL import Image
from test_raster import GEOMETRY, outlines, render, settings

from pipeline.reading import kinds, raster
from pipeline.records import Outline, Page


@pytest.fixture(scope="module")
def rasterizer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[raster.Rasterizer]:
    with raster.Rasterizer(settings(), GEOMETRY, tmp_path_factory.mktemp("s") / "scratch") as opened:
        yield opened


@pytest.fixture
def read(rasterizer: raster.Rasterizer, tmp_path: Path) -> Callable[..., tuple[Outline, tuple[Page, ...]]]:
    """Read one file, given as bytes or written already."""

    def of(name: str, content: bytes | None = None) -> tuple[Outline, tuple[Page, ...]]:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        outline = outlines(rasterizer, tmp_path / name)[name]
        return outline, render(rasterizer, outline) if outline.pages else ()

    return of


Read = Callable[..., tuple[Outline, tuple[Page, ...]]]


def code(outline: Outline, pages: tuple[Page, ...]) -> str:
    failure = outline.failure or next((page.failure for page in pages if page.failure), None)
    return failure.code if failure else "ok"


def image_of(page: Page) -> Image.Image:
    assert page.image is not None, page.failure
    with Image.open(page.image) as image:
        return image.convert("RGB")


def color(page: Page) -> tuple[int, ...]:
    """Return the color in the middle of a page."""
    found = image_of(page).getpixel((page.width_px // 2, page.height_px // 2))
    assert isinstance(found, tuple)
    return found


# ---- PDF: what other readers open ----


@pytest.mark.parametrize("make", [odd.pages_is_page, odd.xref_loop])
def test_pages_that_other_readers_find_are_read(read: Read, make: Callable[[], bytes]) -> None:
    outline, pages = read("a.pdf", make())
    assert code(outline, pages) == "ok" and "Potato" in pages[0].text


def test_a_document_whose_attachments_alone_are_encrypted_needs_no_password(read: Read) -> None:
    outline, pages = read("a.pdf", odd.only_attachments_encrypted())
    assert code(outline, pages) == "ok" and "Open to all" in pages[0].text


def test_a_pdf_without_its_header_is_read(read: Read) -> None:
    outline, pages = read("a.pdf", odd.plain().replace(b"%PDF-1.7", b"%\xe2\xe3\xcf\xd3"))
    assert code(outline, pages) == "ok" and "Potato" in pages[0].text


def test_a_document_that_is_encrypted_for_certificates_is_encrypted(read: Read) -> None:
    assert code(*read("a.pdf", odd.encrypted_for_certificates())) == "encrypted"


def test_a_password_is_normalised_as_pdf_2_asks(tmp_path: Path) -> None:
    odd.locked(tmp_path / "a.pdf", "SaSLprep")
    typed = "S\u00aaSL\u00adprep"
    with raster.Rasterizer(settings(password=typed), GEOMETRY, tmp_path / "scratch") as opened:
        outline = outlines(opened, tmp_path / "a.pdf")["a.pdf"]
        (page,) = render(opened, outline)
    assert "Behind a password" in page.text
    with raster.Rasterizer(settings(password="other"), GEOMETRY, tmp_path / "scratch") as opened:
        outline = outlines(opened, tmp_path / "a.pdf")["a.pdf"]
    assert outline.failure is not None and outline.failure.code == "encrypted"


def test_damage_to_a_files_structure_is_a_fact_of_the_document(read: Read) -> None:
    assert read("a.pdf", odd.plain())[0].is_repaired is False
    assert read("b.pdf", odd.plain().replace(b"startxref", b"startnot "))[0].is_repaired is True
    assert read("c.png", odd.png())[0].is_repaired is None


# ---- PDF: what could not be decoded ----


def test_a_picture_that_the_first_renderer_cannot_decode_is_drawn_by_the_second(read: Read) -> None:
    outline, (page,) = read("a.pdf", odd.larger_than_its_jpeg())
    assert code(outline, (page,)) == "ok" and not page.damaged and not page.blank
    white = image_of(page).getpixel((5, 5))
    assert isinstance(white, tuple) and min(white) > 240


@pytest.mark.parametrize("make", [odd.undecodable_image, odd.undecodable_content, odd.blank_and_repaired])
def test_a_page_on_which_something_is_missing_is_marked(read: Read, make: Callable[[], bytes]) -> None:
    outline, (page,) = read("a.pdf", make())
    assert page.failure is not None or page.damaged, (page.blank, outline.is_repaired)


def test_a_sound_page_is_not_marked_and_a_blank_one_neither(read: Read) -> None:
    for name, content in (("a.pdf", odd.plain()), ("b.pdf", odd.plain(text=""))):
        _, (page,) = read(name, content)
        assert not page.damaged


# ---- PDF: what is shown ----


def test_an_empty_crop_box_means_the_whole_page(read: Read) -> None:
    _, pages = read("a.pdf", odd.boxes())
    shapes = [round(page.width_px / page.height_px, 1) for page in pages]
    assert shapes == [1.3, 1.3, 0.7]
    assert all("In the box" in page.text for page in pages[:2])


def test_what_an_expression_about_layers_hides_is_not_drawn(read: Read) -> None:
    _, (page,) = read("a.pdf", odd.hidden_by_expression())
    below = image_of(page).getpixel((page.width_px // 2, round(page.height_px * 2 / 3)))
    assert below == (255, 255, 255)


def test_a_page_turned_by_no_right_angle_is_upright(read: Read) -> None:
    pages = odd.PAGES.replace("/Count", "/Rotate 90/Count")
    for angle, shape in ((45, "wide"), (-100, "wide"), (450, "tall"), (0, "wide")):
        page_object = odd.PAGE.replace("/Contents", f"/Rotate {angle}/Contents")
        _, (page,) = read(f"{angle}.pdf", odd.plain(pages=pages, page=page_object))
        assert ("wide" if page.width_px > page.height_px else "tall") == shape
        assert "Potato" in page.text and page.text_covers


def test_a_page_whose_text_nobody_sees_is_blank(read: Read) -> None:
    _, (page,) = read("a.pdf", odd.plain("Potato) Tj ET 1 g BT /F 12 Tf 9 9 Td (white"))
    assert not page.blank
    _, (page,) = read("b.pdf", odd.hidden_text())
    assert (page.blank, page.text_covers, page.text, page.words.texts) == (True, False, "", ())


def test_a_text_given_in_place_of_what_is_drawn_is_not_read(read: Read) -> None:
    _, (page,) = read("a.pdf", odd.other_text_given())
    assert page.text.strip() == "Total 1234"


def test_hairlines_are_seen(read: Read) -> None:
    _, (page,) = read("a.pdf", odd.hairlines())
    assert not page.blank
    low, _ = image_of(page).convert("L").getextrema()
    assert isinstance(low, int) and low < 100


def test_pages_that_only_say_that_another_program_is_needed_are_unsupported(
    read: Read, tmp_path: Path
) -> None:
    for needs in ("/NeedsRendering true", ""):
        outline, _ = read("form.pdf", odd.dynamic_form(needs=needs))
        assert outline.failure is not None and outline.failure.code == "unsupported"
        assert "XFA" in outline.failure.message
    assert code(*read("static.pdf", odd.dynamic_form(fields="[3 0 R]", needs=""))) == "ok"
    odd.portfolio(tmp_path / "folder.pdf")
    outline, _ = read("folder.pdf")
    assert outline.failure is not None and outline.failure.code == "unsupported"
    assert "offer.pdf, prices.xlsx" in outline.failure.message


def test_a_page_as_long_as_a_web_page_is_cut_into_pages_that_overlap(read: Read, tmp_path: Path) -> None:
    with pymupdf.open() as document:
        page = document.new_page(width=600, height=6000)
        for line in range(290):
            page.insert_text((40, 40 + 20 * line), f"Line {line} of the page")
        document.save(tmp_path / "a.pdf")
    _, pages = read("a.pdf")
    assert len(pages) > 5 and {page.total for page in pages} == {len(pages)}
    assert [page.failure for page in pages if page.failure] == []
    assert all(page.width_px > 600 for page in pages)
    found = [[int(line.split()[1]) for line in page.text.splitlines() if line] for page in pages]
    assert sorted({line for lines in found for line in lines}) == list(range(290))
    assert all(later[0] <= earlier[-1] for earlier, later in itertools.pairwise(found))
    assert all(page.text_covers for page in pages)


def test_a_page_of_endless_length_is_too_large(read: Read, tmp_path: Path) -> None:
    Image.new("1", (4, 2_000_000)).save(tmp_path / "a.png")
    outline, pages = read("a.png")
    assert code(outline, pages) == "too_large"


# ---- images ----


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_upright_and_keeps_its_shape(read: Read, tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (480, 160), "red").save(tmp_path / "a.tiff", exif=exif)
    _, (page,) = read("a.tiff")
    size = (160, 480) if orientation >= 5 else (480, 160)
    assert (page.width_px, page.height_px) == size


def test_an_orientation_that_is_written_as_text_is_applied(read: Read) -> None:
    _, (page,) = read("a.jpg", odd.text_orientation("6"))
    assert page.height_px > page.width_px
    _, (page,) = read("b.jpg", odd.text_orientation("up"))
    assert page.width_px > page.height_px


@pytest.mark.parametrize("size", [(20, 10), (10, 50), (17, 17), (1, 60), (63, 40)])
def test_a_small_image_keeps_its_shape(read: Read, tmp_path: Path, size: tuple[int, int]) -> None:
    left, top = size[0] // 2, size[1] // 2
    image = Image.new("RGB", size, "white")
    image.paste((255, 0, 0), (0, 0, left, top))
    image.save(tmp_path / "a.png")
    _, (page,) = read("a.png")
    assert image_of(page).crop((0, 0, *size)).tobytes() == image.tobytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.png", odd.png_with_much_text()), ("animation.png", odd.png_with_broken_animation()),
        ("fields.bmp", odd.bmp_with_bit_fields()), ("os2.bmp", odd.bmp_of_os2(32, 32)),
    ],
)  # fmt: skip
def test_what_stands_beside_a_sound_picture_does_not_keep_it(read: Read, name: str, content: bytes) -> None:
    outline, pages = read(name, content)
    assert code(outline, pages) == "ok" and color(pages[0]) == (255, 0, 0)


def test_a_form_that_is_not_read_is_unsupported_and_not_corrupt(read: Read, tmp_path: Path) -> None:
    odd.tiff_of_another_compression(tmp_path / "a.tiff")
    outline, pages = read("a.tiff")
    assert code(outline, pages) == "unsupported"
    assert code(*read("b.jpg", odd.jpeg_of_12_bits())) == "unsupported"


def test_a_camera_raw_file_is_unsupported_whatever_its_name(
    rasterizer: raster.Rasterizer, tmp_path: Path
) -> None:
    (tmp_path / "photo.tif").write_bytes(odd.raw_photo())
    (tmp_path / "other.png").write_bytes(odd.png())
    failure = outlines(rasterizer, tmp_path)["photo.tif"].failure
    assert failure is not None and failure.code == "unsupported" and "dng" in failure.message


def test_a_cut_tiff_keeps_the_pages_that_are_there(read: Read, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (64, 64), name) for name in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    whole = (tmp_path / "a.tiff").read_bytes()
    outline, pages = read("b.tiff", whole[: 2 * len(whole) // 3 - 200])
    good = [page for page in pages if page.failure is None]
    assert len(pages) > len(good) >= 1 and color(good[0]) == (255, 0, 0)
    assert code(outline, pages) == "corrupt"


@pytest.mark.parametrize(
    ("per_inch", "shape"), [((204, 98), (800, 832)), ((98, 204), (832, 400)), ((300, 300), (800, 400))]
)
def test_a_fax_is_as_high_as_it_was_on_paper(
    read: Read, tmp_path: Path, per_inch: tuple[int, int], shape: tuple[int, int]
) -> None:
    size = (800, 400) if per_inch[0] >= per_inch[1] else (400, 400)
    Image.new("1", size).save(tmp_path / "a.tiff", dpi=per_inch)
    _, (page,) = read("a.tiff")
    assert page.width_px - 16 < shape[0] <= page.width_px
    assert page.height_px - 16 < shape[1] <= page.height_px
    assert image_of(page).getextrema() == ((0, 0),) * 3  # to its last row and column


def test_white_on_nothing_is_seen_and_nothing_is_blank(read: Read, tmp_path: Path) -> None:
    image = Image.new("RGBA", (320, 160), (255, 255, 255, 0))
    image.save(tmp_path / "nothing.png")
    image.paste((255, 255, 255, 255), (40, 40, 280, 120))
    image.save(tmp_path / "white.png")
    assert read("nothing.png")[1][0].blank and not read("white.png")[1][0].blank
    assert color(read("white.png")[1][0]) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_photos_of_phones_are_read(read: Read, tmp_path: Path, kind: str) -> None:
    pillow_heif.register_heif_opener()
    name = {"HEIF": "a.heic", "AVIF": "a.avif"}[kind]
    Image.new("RGB", (320, 160), "red").save(tmp_path / name, kind)
    outline, pages = read(name)
    assert code(outline, pages) == "ok" and (pages[0].width_px, pages[0].height_px) == (320, 160)
    red, green, blue = color(pages[0])
    assert red > 220 and max(green, blue) < 40


def test_a_book_of_pictures_is_read_in_the_order_of_people(read: Read, tmp_path: Path) -> None:
    pillow_heif.register_heif_opener()
    names = ["page1.jpg", "page2.webp", "page3.avif", "page10.png", "page11.heic"]
    odd.book(tmp_path / "a.cbz", names)
    outline, pages = read("a.cbz")
    assert code(outline, pages) == "ok"
    assert [page.width_px for page in pages] == [160, 320, 480, 640, 800]


def test_a_broken_page_of_a_book_costs_itself(read: Read, tmp_path: Path) -> None:
    odd.book(tmp_path / "a.cbz", ["1.png", "2.png", "3.png"])
    whole = bytearray((tmp_path / "a.cbz").read_bytes())
    at = whole.index(b"2.png") + 60
    whole[at : at + 20] = bytes(20)
    _, pages = read("b.cbz", bytes(whole))
    assert [page.failure is None for page in pages] == [True, False, True]


def test_a_book_whose_chapters_cannot_be_read_does_not_pass_for_one_that_says_so(
    read: Read, tmp_path: Path
) -> None:
    odd.e_book(tmp_path / "plain.epub", "a.xhtml", encrypted="fonts/a.otf")
    assert "Seven apples" in read("plain.epub")[1][0].text
    odd.e_book(tmp_path / "locked.epub", "a.xhtml", encrypted="a.xhtml")
    assert code(*read("locked.epub")) == "encrypted"
    odd.e_book(tmp_path / "missing.epub", "b.xhtml")
    assert code(*read("missing.epub")) == "unreadable"


# ---- drawings ----

SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {}>{}</svg>'


def drawing(inside: str, root: str = 'width="200" height="100"') -> bytes:
    return SVG.format(root, inside).encode()


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("<style>.a rect{fill:#0f0}</style><g class='a'><rect width='200' height='100'/></g>", (0, 255, 0)),
        ("<defs><linearGradient id='g'><stop stop-color='red'/></linearGradient></defs>"
         "<rect fill='url(#g)' width='200' height='100'/>", (255, 0, 0)),
        ("<switch><foreignObject/><rect fill='blue' width='200' height='100'/></switch>",
         (0, 0, 255)),
        ("<style>:root{--a:var(--b);--b:#0f0}rect{fill:var(--a)}</style>"
         "<rect width='200' height='100'/>", (0, 255, 0)),
        ("<rect style='fill:var(--none, rgb(0, 0, 255))' width='200' height='100'/>", (0, 0, 255)),
        ("<style>:root{--a:#f00}@media (prefers-color-scheme: dark){:root{--a:#000}}</style>"
         "<rect fill='black' style='fill:light-dark(var(--a), var(--dark, #121212))' width='200'"
         " height='100'/>", (255, 0, 0)),
    ],
)  # fmt: skip
def test_drawings_look_as_in_a_browser(read: Read, inside: str, expected: tuple[int, int, int]) -> None:
    _, (page,) = read("a.svg", drawing(inside))
    assert color(page) == expected


@pytest.mark.parametrize(
    "root",
    [
        "viewBox='0 0 200 100'", "width='100%' height='100%' viewBox='0 0 200 100'",
        "width='20mm' height='10mm' viewBox='0 0 200 100'", "width='200' height='100'",
    ],
)  # fmt: skip
def test_a_drawing_without_a_size_or_of_a_relative_one_has_its_shape(read: Read, root: str) -> None:
    _, (page,) = read("a.svg", drawing("<rect fill='red' width='200' height='100'/>", root))
    assert (page.width_px, page.height_px) == (1024, 512) and color(page) == (255, 0, 0)


def test_the_words_of_a_drawing_are_drawn_and_read_in_whatever_font(read: Read) -> None:
    label = "<text x='10' y='60' font-family='No Such Font' font-size='24'>Turnover 2024</text>"
    _, (page,) = read("a.svg", drawing(label))
    assert not page.blank and page.text_covers and "Turnover 2024" in page.text
    html = "<foreignObject width='200' height='100'><p xmlns='http://www.w3.org/1999/xhtml'>Label</p></foreignObject>"
    _, (page,) = read("b.svg", drawing(html))
    assert not page.blank


def test_variables_that_hold_each_other_end(read: Read) -> None:
    bomb = "".join(f"--v{n}:{f'var(--v{n + 1}) ' * 12};" for n in range(30))
    rect = "<rect style='fill:var(--v0)' width='200' height='100'/>"
    outline, pages = read("a.svg", drawing(f"<style>:root{{{bomb}--x:var(--x)}}</style>{rect}"))
    assert code(outline, pages) == "ok"


def test_the_cells_of_a_table_in_a_drawing_stay_apart(read: Read) -> None:
    table = "<table xmlns='http://www.w3.org/1999/xhtml'><tr><td>17</td><td>42</td></tr></table>"
    cells = f"<foreignObject width='200' height='100'>{table}</foreignObject>"
    apart = f"<foreignObject width='200' height='100'>{table.replace('</td><td>', ' ')}</foreignObject>"
    (_, (first,)), (_, (second,)) = read("a.svg", drawing(cells)), read("b.svg", drawing(apart))
    assert image_of(first).tobytes() == image_of(second).tobytes()


def test_a_drawing_for_dark_pages_stands_on_its_own_color(read: Read) -> None:
    root = "width='200' height='100' style='background: #112233'"
    _, (page,) = read("a.svg", drawing("<text x='10' y='20' fill='white'>Light</text>", root))
    assert color(page) == (0x11, 0x22, 0x33)


@pytest.mark.parametrize("name", ["href", "xlink:href"])
def test_nothing_outside_a_drawing_is_read(read: Read, tmp_path: Path, name: str) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "secret.png")
    for where in (f"{tmp_path}/secret.png", "secret.png", f"file://{tmp_path}/secret.png"):
        _, (page,) = read("a.svg", drawing(f"<image {name}='{where}' width='200' height='100'/>"))
        assert color(page) == (255, 255, 255)


def test_a_drawing_without_an_area_is_a_blank_page(read: Read) -> None:
    root = "width='200' height='100' viewBox='0 0 200 0'"
    outline, pages = read("a.svg", drawing("<rect fill='red' width='200' height='100'/>", root))
    assert code(outline, pages) == "ok" and pages[0].blank


def test_a_broken_or_endless_drawing_says_so(read: Read) -> None:
    assert code(*read("a.svg", drawing("<g>"))) == "corrupt"
    assert code(*read("b.svg", drawing("<rect/>", "width='1' height='1000000'"))) == "too_large"
    assert code(*read("c.svg", drawing("<g>" * 5000 + "</g>" * 5000))) == "corrupt"
    bomb = "".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 20}'>" for n in range(1, 12))
    bomb = f"<!DOCTYPE svg [<!ENTITY e0 'ha'>{bomb}]>" + drawing("<text>&e11;</text>").decode()
    assert code(*read("d.svg", bomb.encode())) == "corrupt"


# ---- names and changes ----


@pytest.mark.parametrize("ending", ["pdf", "png", "svg", "cbz", "heic"])
def test_a_file_opens_whatever_bytes_its_name_has(
    rasterizer: raster.Rasterizer, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"plain.{ending}"
    if ending == "cbz":
        odd.book(path, ["1.png"])
    elif ending == "heic":
        pillow_heif.register_heif_opener()
        Image.new("RGB", (64, 64), "red").save(path, "HEIF")
    else:
        made = {"pdf": odd.xref_loop(), "png": odd.png(), "svg": drawing("<rect width='9' height='9'/>")}
        path.write_bytes(made[ending])
    path.rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\xff." + ending.encode()))
    (outline,) = outlines(rasterizer, tmp_path).values()
    assert outline.failure is None
    assert all(page.failure is None for page in render(rasterizer, outline))


def test_a_file_that_changes_between_hashing_and_drawing_is_an_error(
    rasterizer: raster.Rasterizer, tmp_path: Path
) -> None:
    (tmp_path / "a.pdf").write_bytes(odd.plain("Before"))
    outline = outlines(rasterizer, tmp_path / "a.pdf")["a.pdf"]
    (tmp_path / "a.pdf").write_bytes(odd.plain("After and longer"))
    (page,) = render(rasterizer, outline)
    assert page.failure is not None and page.failure.code == "unreadable"
    assert "changed" in page.failure.message


def test_messages_name_no_folder_of_this_machine(read: Read, tmp_path: Path) -> None:
    for name, content in (("a.pdf", b"%PDF-1.7\njunk"), ("a.tiff", b"II*\0junk"), ("a.svg", drawing("<g>"))):
        outline, _ = read(name, content)
        assert outline.failure is not None and str(tmp_path) not in outline.failure.message


def test_the_brand_of_a_photo_is_looked_for_among_all_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\0\0\0\x20ftypmif1\0\0\0\0mif1avifmiaf" + bytes(16))
    assert kinds.recognise(tmp_path / "a") == "avif"
    (tmp_path / "a").write_bytes(b"\0\0\0\x20ftypmif1\0\0\0\0mif1heicmiaf" + bytes(16))
    assert kinds.recognise(tmp_path / "a") == "heic"
