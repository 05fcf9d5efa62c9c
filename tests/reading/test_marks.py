from __future__ import annotations

import io

import numpy as np
import pymupdf
import pytest
from PIL import Image, ImageDraw

from pipeline.reading import marks

SIZE = (736, 1024)
ACROSS, DOWN, ASLANT = ((50, 400), (550, 400)), ((300, 50), (300, 800)), ((50, 50), (550, 800))


def page(
    width: float = 0, grey: float = 0, line: tuple[tuple[int, int], tuple[int, int]] = ACROSS
) -> Image.Image:
    with pymupdf.open() as document:
        drawn = document.new_page(width=595, height=842)
        drawn.draw_line(*line, color=(grey,) * 3, width=width)
        pixmap = drawn.get_pixmap(matrix=pymupdf.Matrix(SIZE[0] / 595, SIZE[1] / 842), alpha=False)
        return Image.frombytes("RGB", SIZE, pixmap.samples)


def noise(sigma: float, slope: float = 0) -> Image.Image:
    generator = np.random.default_rng(1)
    levels = (
        240 + np.linspace(-slope / 2, slope / 2, SIZE[0])[None, :] + generator.normal(0, sigma, SIZE[::-1])
    )
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=quality)
    return Image.open(file)


@pytest.mark.parametrize("line", [ACROSS, DOWN, ASLANT], ids=["across", "down", "aslant"])
@pytest.mark.parametrize(
    ("width", "grey"), [(0, 0), (0, 0.95), (0.1, 0.8), (0.25, 0.9), (0.5, 0.9), (1, 0.95)]
)
def test_a_hairline_is_a_mark(
    width: float, grey: float, line: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    assert marks.look(page(width, grey, line)) == (False, False)


@pytest.mark.parametrize("line", [ACROSS, DOWN, ASLANT], ids=["across", "down", "aslant"])
def test_what_the_eye_does_not_see_is_blank_but_must_be_looked_at(
    line: tuple[tuple[int, int], tuple[int, int]],
) -> None:
    assert marks.look(page(0.25, 0.95, line)) == (True, True)


@pytest.mark.parametrize("color", [255, 250, 17, 0])
def test_an_empty_page_of_any_color_is_blank(color: int) -> None:
    assert marks.look(Image.new("RGB", SIZE, (color,) * 3)) == (True, False)
    assert marks.look(Image.new("RGB", (16, 16), (color,) * 3)) == (True, False)


@pytest.mark.parametrize("sigma", [1, 3, 6, 9, 12])
def test_the_noise_of_a_scanner_is_blank_and_a_line_or_word_in_it_is_not(sigma: float) -> None:
    assert marks.look(noise(sigma)) == (True, False)
    assert marks.look(jpeg(noise(sigma), 60)) == (True, False)
    lined, written = noise(sigma), noise(sigma)
    ImageDraw.Draw(lined).line((50, 500, 700, 500), fill=200)
    ImageDraw.Draw(written).text((300, 500), "a word", fill=170, font_size=18)
    assert marks.look(lined) == marks.look(written) == (False, False)


def test_uneven_light_is_no_mark() -> None:
    assert marks.look(noise(3, slope=10)) == (True, False)


@pytest.mark.parametrize("quality", [60, 75, 90])
def test_specks_of_dust_are_blank_but_looked_at(quality: int) -> None:
    dusty = Image.new("L", SIZE, 255)
    for x in range(40, 700, 90):
        ImageDraw.Draw(dusty).rectangle((x, x, x + 1, x + 1), fill=150)
    assert marks.look(jpeg(dusty, quality))[0]
    ImageDraw.Draw(dusty).text((300, 500), "word", fill=200, font_size=12)
    assert not marks.look(jpeg(dusty, quality))[0]
