from __future__ import annotations

import random
import string
from collections.abc import Callable
from pathlib import Path

import pymupdf
import pytest
from conftest import SAMPLES
from PIL import Image, ImageDraw

from pipeline.reading import draw, kinds, layer, letters

A4 = (1240, 1754)
ENGLISH = (
    "The annual budget of the harbour office was seven hundred million euros in that year. The director"
    " reports that all ships were handled in time, and that the new pier is to be opened before the winter. "
)
TEXTS = {
    "cs": "Rozpočet přístavního úřadu činil v tomto roce sedm set milionů eur a všechny lodě byly odbaveny.",
    "fi": "Sataman vuosibudjetti oli seitsemänsataa miljoonaa euroa, ja kaikki alukset käsiteltiin ajoissa.",
    "hu": "A kikötői hivatal éves költségvetése hétszázmillió euró volt, és minden hajót időben kezeltek.",
    "pl": "Budżet urzędu portowego wyniósł w tym roku siedemset milionów euro, a wszystkie statki obsłużono.",
    "tr": "Liman idaresinin yıllık bütçesi yedi yüz milyon avroydu ve bütün gemiler zamanında karşılandı.",
    "vi": "Ngân sách hàng năm của văn phòng cảng là bảy trăm triệu euro và tất cả tàu được xử lý đúng hạn.",
    "sw": "Bajeti ya mwaka ya ofisi ya bandari ilikuwa milioni mia saba, na meli zote zilihudumiwa.",
    "de": "Der Haushalt des Hafenamts betrug in diesem Jahr siebenhundert Millionen Euro, und alle Schiffe"
    " wurden rechtzeitig abgefertigt. Der neue Pier soll noch vor dem Winter eröffnet werden.",
    "ru": "Бюджет портового управления составил в этом году семьсот миллионов евро, и все корабли были"
    " вовремя обслужены. Новый пирс должен открыться до зимы.",
    "el": "Ο προϋπολογισμός του λιμανιού ήταν εφέτος επτακόσια εκατομμύρια και όλα τα πλοία εξυπηρετήθηκαν.",
    "zh": "港务局今年的预算为七亿欧元，所有船只均按时处理完毕。新码头将于冬季之前启用。",
    "ja": "港湾局の今年の予算は七億ユーロであり、すべての船舶は期限内に処理された。",
    "ko": "항만청의 올해 예산은 칠억 유로였으며 모든 선박이 제때 처리되었다. 새 부두는 겨울 전에 연다.",
    "ar": "بلغت ميزانية مكتب الميناء هذا العام سبعمائة مليون يورو وتمت خدمة جميع السفن في الوقت المناسب.",
    "hi": "बंदरगाह कार्यालय का इस वर्ष का बजट सात सौ मिलियन यूरो था और सभी जहाजों को समय पर संभाला गया।",
    "th": "สำนักงานท่าเรือใช้ HTML และ PDF ในรายงานประจำปี งบประมาณปีนี้เจ็ดร้อยล้านยูโร",
}


def read(path: Path) -> list[draw.Rendered]:
    kind = kinds.recognise(path)
    assert kind is not None
    job = draw.Job(str(path), path.name, kind, None, 10**9)
    sheets = draw.inspect(job, draw.Geometry(1024, 16)).sheets
    wanted = [(sheet, str(path.with_suffix(f".{n}.ppm"))) for n, sheet in enumerate(sheets, 1)]
    done = draw.render_run(job, wanted)
    assert all(isinstance(page, draw.Rendered) for page in done)
    return [page for page in done if isinstance(page, draw.Rendered)]


def scan(lines: int) -> Image.Image:
    """Draw a page of text as a scanner sees one."""
    image = Image.new("L", A4, 250)
    for line in range(lines):
        ImageDraw.Draw(image).text((120, 150 + 42 * line), ENGLISH[:70], fill=30, font_size=26)
    return image


def paper(
    path: Path, *texts: tuple[str, float, float], image: Image.Image | None = None, mode: int = 0
) -> Path:
    """Write a page with texts at places in points, over an image that fills it."""
    with pymupdf.open() as document:
        page = document.new_page(width=595, height=842)
        if image is not None:
            image.save(path.with_suffix(".png"))
            page.insert_image(page.rect, filename=path.with_suffix(".png"))
        for text, x, y in texts:
            page.insert_text((x, y), text, fontsize=11, render_mode=mode)
        document.save(path)
    return path


def test_the_words_are_those_of_the_text_in_its_order_each_in_its_place(
    make_pdf: Callable[..., Path],
) -> None:
    for rotate in (0, 90):
        path = make_pdf(f"{rotate}.pdf", "first second\nthird", rotate=rotate)
        (page,) = read(path)
        assert page.words.texts == ("first", "second", "third") == tuple(page.text.split())
        with pymupdf.open(path) as document:
            for index, word in enumerate(page.words.texts):
                (expected,) = document[0].search_for(word)
                x0, y0, x1, y1 = page.words.place(index)
                found = pymupdf.Rect(x0, y0, x1, y1)
                assert (found & expected * document[0].rotation_matrix).get_area() > 0.8 * found.get_area()


def test_every_page_of_real_documents_has_the_words_of_its_text() -> None:
    path = SAMPLES / "bxjaholiday-ja.pdf"
    job = draw.Job(str(path), path.name, "pdf", None, 10**9)
    with pymupdf.open(path) as document:
        for page in document:
            found = layer.read(page.get_displaylist())
            assert "".join(found.words.texts) == "".join(found.text.split())
            assert len(found.words.corners) == 16 * len(found.words.texts)
    assert len(draw.inspect(job, draw.Geometry(1024, 16)).sheets) == 3


def test_a_text_page_is_covered_by_its_layer(make_pdf: Callable[..., Path]) -> None:
    assert all(page.text_covers for page in read(make_pdf("a.pdf", ENGLISH, "7")))


def test_a_table_of_contents_and_a_page_cut_out_of_a_larger_one_are_covered(tmp_path: Path) -> None:
    dots = [(f"Chapter {n} {'. ' * 60}{n}", 60, 100 + 20 * n) for n in range(20)]
    contents = paper(tmp_path / "a.pdf", *dots)
    assert read(contents)[0].text_covers
    with pymupdf.open(contents) as document:
        document[0].set_cropbox(pymupdf.Rect(0, 0, 595, 200))
        document.save(tmp_path / "b.pdf")
    assert read(tmp_path / "b.pdf")[0].text_covers


def test_a_page_without_text_is_not(make_pdf: Callable[..., Path]) -> None:
    (page,) = read(make_pdf("a.pdf", ""))
    assert (page.text_covers, page.blank, page.faint) == (False, True, False)


@pytest.mark.parametrize("stamp", ["Received by mail room, Bates 000117", "3", "Annex B - confidential"])
def test_a_stamp_on_a_scan_does_not_cover_it(tmp_path: Path, stamp: str) -> None:
    (page,) = read(paper(tmp_path / "a.pdf", (stamp, 300, 830), image=scan(30)))
    assert page.text.strip() == stamp
    assert not page.text_covers and not page.blank


def test_a_page_number_on_a_text_of_outlines_does_not_cover_it(tmp_path: Path) -> None:
    lines = [(ENGLISH[:70], 57.6, 84.5 + 20.16 * n) for n in range(30)]
    with pymupdf.open(paper(tmp_path / "text.pdf", *lines)) as document:
        drawn = document[0].get_svg_image(text_as_path=True).encode()
    with pymupdf.open(stream=drawn, filetype="svg") as shapes:
        document = pymupdf.open(stream=shapes.convert_to_pdf())
    document[0].insert_text((560, 830), "117")
    document.save(tmp_path / "a.pdf")
    (page,) = read(tmp_path / "a.pdf")
    assert page.text.strip() == "117" and not page.text_covers


def test_a_chart_with_few_words_is_covered_by_them(tmp_path: Path) -> None:
    with pymupdf.open() as document:
        page = document.new_page(width=595, height=842)
        page.insert_text((60, 60), "Ships by month")
        for month in range(12):
            bar = pymupdf.Rect(60 + 40 * month, 700 - 40 * (month % 7 + 3), 85 + 40 * month, 700)
            page.draw_rect(bar, fill=(0.1, 0.3, 0.7))
            page.insert_text((62 + 40 * month, 715), f"M{month + 1}")
        for height in range(300, 700, 40):
            page.draw_line((50, height), (545, height), color=(1, 1, 1))
        document.save(tmp_path / "a.pdf")
    (page,) = read(tmp_path / "a.pdf")
    assert page.text_covers


def test_the_invisible_layer_of_a_scan_that_was_read_covers_it(tmp_path: Path) -> None:
    lines = [(ENGLISH[:70], 57.6, 84.5 + 20.16 * n) for n in range(30)]
    assert read(paper(tmp_path / "a.pdf", *lines, image=scan(30), mode=3))[0].text_covers


def test_an_invisible_layer_that_stands_on_nothing_does_not(tmp_path: Path) -> None:
    lines = [(ENGLISH[:70], 57.6, 84.5 + 20.16 * n) for n in range(30)]
    assert not read(paper(tmp_path / "a.pdf", *lines, mode=3))[0].text_covers
    assert not read(paper(tmp_path / "b.pdf", *lines, image=scan(3), mode=3))[0].text_covers


def test_a_picture_beside_text_and_a_background_behind_it_leave_it_covered(tmp_path: Path) -> None:
    lines = [(ENGLISH[:70], 57.6, 84.5 + 20.16 * n) for n in range(30)]
    tint = Image.linear_gradient("L").resize(A4)
    assert read(paper(tmp_path / "a.pdf", *lines, image=tint.point(lambda v: 200 + v // 8)))[0].text_covers


@pytest.mark.parametrize("language", sorted(TEXTS))
def test_written_languages_are_told_from_ciphers(language: str) -> None:
    text = TEXTS[language] + "\n2019: 731,5 (A-17)\n"
    assert letters.is_written(text)


@pytest.mark.parametrize("shift", range(1, 26))
def test_a_shift_of_the_alphabet_is_a_cipher(shift: int) -> None:
    rotated = string.ascii_lowercase[shift:] + string.ascii_lowercase[:shift]
    table = str.maketrans(string.ascii_lowercase + string.ascii_uppercase, rotated + rotated.upper())
    assert not letters.is_written(ENGLISH.translate(table))


@pytest.mark.parametrize("seed", range(20))
def test_a_random_alphabet_or_random_signs_are_a_cipher(seed: int) -> None:
    generator = random.Random(seed)
    shuffled = list(string.ascii_lowercase)
    generator.shuffle(shuffled)
    signs = "".join(chr(generator.randrange(0x4E00, 0x9FFF)) for _ in range(80))
    syllables = "".join(chr(generator.randrange(0xAC00, 0xD7A3)) for _ in range(80))
    codes = "".join(chr(generator.randrange(0xE000, 0xE100)) for _ in range(80))
    assert not letters.is_written(signs)
    assert not letters.is_written(syllables)
    assert not letters.is_written(codes + ENGLISH)
    assert not letters.is_written(ENGLISH[:100] + "\ufffd" * 20)


def test_glyph_numbers_that_pass_for_letters_of_many_scripts_are_a_cipher() -> None:
    assert not letters.is_written("ˤ ਲ Ů̕ુ ă ݧ ৊ ౄǩ ѤҨը̸ ҨɁ̸ ǝʞ̸ Ɠȗؘ ƲŇʚ")


@pytest.mark.parametrize(
    "text",
    [
        "Total", "12,044 731.5 -3 % 18\n" * 40, "XK-2291-QZ WQX-77 KZV/44\n" * 10,
        "x = f(y, z) + k ** w\n" * 3,
        "for (int i = 0; i < n; ++i) { buf[i] = src[k]; printf(\"%d\", buf[i]); } return NULL;\n" * 10,
        "العربية Ελληνικά ქართული ไทย বাংলা हिन्दी Русский 日本語 한국어 English Deutsch Français",
    ],
)  # fmt: skip
def test_tables_codes_and_lists_of_names_are_no_ciphers(text: str) -> None:
    assert letters.is_written(text)
