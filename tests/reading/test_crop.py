"""Pages without their margins: fewer tokens, nothing lost, and places that stay those of the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pymupdf
import pytest

from pipeline.engines.embedded.lines import Line, in_points
from pipeline.reading import draw
from pipeline.reading.job import WHOLE, Rendered, Sheet
from pipeline.reading.sheets import box


def measured(path: Path, crop: str) -> list[Sheet]:
    return draw.inspect(job(path), draw.Geometry(1024, 16, crop)).sheets


def job(path: Path) -> draw.Job:
    return draw.Job(str(path), path.name, "pdf", None, 200_000_000)


def tokens(sheet: Sheet) -> int:
    return (sheet.width_px // 16 + 1) * (sheet.height_px // 16)


@pytest.fixture
def letter(make_pdf: Callable[..., Path]) -> Path:
    """A page whose text is in its middle, with a hairline above it; a blank one; one that is full."""
    path = make_pdf("letter.pdf", "", "", "Full. " * 2000)
    with pymupdf.open(path) as document:
        document[0].insert_text((200, 400), "The profit was 4711 euros.")
        document[0].draw_line((150, 300), (400, 300), width=0.2)
        document.saveIncr()
    return path


def test_a_page_without_its_margins_takes_fewer_tokens_at_the_same_scale(letter: Path) -> None:
    whole, cut = (measured(letter, crop) for crop in ("none", "ink"))
    assert tokens(cut[0]) < 0.3 * tokens(whole[0])
    assert cut[1] == whole[1]  # a blank page has no margins
    x0, y0, x1, y1 = box(cut[0].crop, 595, 842)
    assert x0 < 150 and y0 < 300 and x1 > 400 and y1 > 402
    for pixels, points, side in ((cut[0].width_px, x1 - x0, 595), (cut[0].height_px, y1 - y0, 842)):
        assert pixels % 16 == 0
        assert pixels / points == pytest.approx({595: 736 / 595, 842: 1024 / 842}[side], rel=0.03)


def test_zoom_spends_the_gain_on_larger_print(letter: Path) -> None:
    whole, cut = (measured(letter, crop)[0] for crop in ("none", "zoom"))
    x0, _, x1, _ = box(cut.crop, 595, 842)
    assert cut.width_px / (x1 - x0) > 1.5 * whole.width_px / 595
    assert tokens(cut) <= 1.05 * tokens(whole) and max(cut.width_px, cut.height_px) <= 1024


def test_words_and_boxes_keep_their_places_on_the_page(letter: Path, tmp_path: Path) -> None:
    def drawn(crop: str) -> Rendered:
        sheet = measured(letter, crop)[0]
        (found,) = draw.render_run(job(letter), [(sheet, str(tmp_path / f"{crop}.ppm"))])
        assert isinstance(found, Rendered)
        return found

    whole, cut = drawn("none"), drawn("ink")
    assert (cut.text, cut.words, cut.text_covers) == (whole.text, whole.words, whole.text_covers)
    assert whole.origin == (0, 0)
    # What OCR finds in the corner of the image lies where the image begins on the page.
    line = in_points(Line("x", (0, 0, 16, 16)), cut.points_per_px, cut.origin)
    left, top = box(measured(letter, "ink")[0].crop, 595, 842)[:2]
    assert line.place is not None and line.place[:2] == pytest.approx((left, top), abs=0.02)


def test_pieces_of_a_long_page_are_not_cropped(make_pdf: Callable[..., Path]) -> None:
    path = make_pdf("receipt.pdf", "Total 12", width_pt=300, height_pt=3000)
    assert measured(path, "ink") == measured(path, "none")
    assert all(sheet.crop == WHOLE for sheet in measured(path, "ink"))
