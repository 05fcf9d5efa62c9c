"""The report in a browser: what a reader sees, finds and marks is what the tables hold."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pymupdf
import pytest
from axe_playwright_python.base import AxeResults
from axe_playwright_python.sync_playwright import Axe
from conftest import EVIL, SIGN_AT, Made, Open
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from pipeline.compose import compose_diff, compose_report
from pipeline.viewing import changes, data, report

ROWS = ".slick-row"
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


def answers(made: Made) -> pd.DataFrame:
    return pd.read_parquet(made.output / "answers")


def answer_of(made: Made, question_id: str) -> pd.Series:
    return answers(made).set_index("question_id").loc[question_id]


def open_answer(open_page: Open, made: Made, question_id: str, **context: object) -> Page:
    page = open_page(f"#/answers?open={answer_of(made, question_id)['answer_id']}", **context)
    expect(page.locator(".panel .question")).to_be_visible()
    return page


def tile(page: Page, label: str) -> str:
    return page.locator(".tile", has=page.get_by_text(label, exact=True)).locator("b").inner_text()


def shown(page: Page) -> str:
    return page.locator("#shown").inner_text()


# ---- the first screen ----


def test_the_totals_are_those_of_the_tables(open_page: Open, made: Made) -> None:
    page = open_page()
    table, documents = answers(made), pd.read_parquet(made.output / "documents")
    requests = pd.read_parquet(made.output / "requests")
    ok = table["status"] == "ok"
    assert tile(page, "Inputs") == str(len(documents))
    assert tile(page, "Pages") == f"{documents['pages'].sum():.0f}"
    assert tile(page, "Answers") == str(len(table))
    assert tile(page, "Answered") == f"{100 * ok.mean():.1f} %"
    assert tile(page, "To review") == str((ok & table["needs_review"]).sum())
    assert tile(page, "Errors") == str((table["status"] == "error").sum())
    row = page.locator("section.card", has_text="Tasks").locator("tbody tr").inner_text().split("\t")
    assert row[0].startswith("qa")
    assert f"{requests['prompt_tokens'].sum():,}" in row
    assert f"{table[ok]['confidence'].median():.2f}" in row
    failed = page.locator("section.card", has_text="What failed")
    expect(failed.get_by_role("row", name="corrupt")).to_contain_text("fetch the file again")
    failed.get_by_text("example").first.click()
    expect(failed).to_contain_text(str(answer_of(made, "broken")["error"]))


def test_a_figure_leads_to_its_answers(open_page: Open, made: Made) -> None:
    page = open_page()
    page.locator("a.tile", has_text="Errors").click()
    expect(page.locator(ROWS)).to_have_count(1)
    expect(page.locator(ROWS)).to_contain_text("torn.pdf")


# ---- finding answers ----


def test_searching_finds_answers_questions_and_sources(open_page: Open, made: Made) -> None:
    page = open_page("#/answers")
    table = answers(made)
    text = table["source"] + "\n" + table["question"] + "\n" + table["answer"].fillna(table["error"])
    for wanted in ("invoice", "LIGHTHOUSE", "ardmore nora", '"total of invoice 7"', "zebra"):
        terms = [wanted.strip('"')] if '"' in wanted else wanted.split()
        count = text.map(lambda each, terms=terms: all(t.lower() in each.lower() for t in terms)).sum()
        page.locator("#search").fill(wanted)
        expect(page.locator("#shown")).to_have_text(f"{count} of {len(table)} answers")
        assert page.locator(ROWS).count() == min(count, page.locator(ROWS).count() or count)


def test_filters_choose_and_a_link_shows_the_same(open_page: Open, made: Made) -> None:
    page = open_page("#/answers")
    table = answers(made)
    page.get_by_role("button", name="Kind").click()
    page.get_by_role("checkbox", name="png").check()
    expect(page.locator(ROWS)).to_have_count(1)
    page.get_by_role("checkbox", name="pdf").check()
    page.get_by_role("checkbox", name="png").uncheck()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Status").click()
    page.get_by_role("checkbox", name="ok").check()
    page.locator("#search").fill("total")
    count = (table["question"].str.contains("total") & (table["status"] == "ok")).sum()
    expect(page.locator("#shown")).to_have_text(f"{count} of {len(table)} answers")
    again = open_page(page.url[page.url.index("#") :])
    expect(again.locator("#shown")).to_have_text(f"{count} of {len(table)} answers")
    assert again.locator("#search").input_value() == "total"
    again.get_by_role("button", name="Clear all").click()
    expect(again.locator("#shown")).to_have_text(f"{len(table)} answers")


def test_answers_are_held_against_gold(open_page: Open, made: Made) -> None:
    page = open_page("#/answers?gold=wrong")
    expect(page.locator(ROWS, has_text="How high is the lighthouse")).to_be_visible()
    page = open_page("#/answers?gold=right")
    expect(page.locator(ROWS, has_text="Who keeps the lighthouse")).to_be_visible()
    expect(page.locator(ROWS, has_text="How high is the lighthouse")).to_have_count(0)


def test_sorting_by_confidence_puts_the_least_sure_first(open_page: Open, made: Made) -> None:
    page = open_page("#/answers")
    page.locator(".slick-header-column", has_text="Confidence").click()
    seen = [float(text) for text in page.locator(f"{ROWS} .meter b").all_inner_texts()]
    tops = page.locator(ROWS).evaluate_all("rows => rows.map(row => parseFloat(row.style.top))")
    in_order = [value for _, value in sorted(zip(tops, seen, strict=False))]
    assert in_order == sorted(answers(made)["confidence"].dropna().round(2))[: len(in_order)]


def test_the_keyboard_goes_through_the_answers(open_page: Open, made: Made) -> None:
    page = open_page()
    page.keyboard.press("/")
    page.keyboard.type("invoice")
    expect(page.locator("#shown")).to_contain_text("12 of")
    for key in ("Escape", "j", "j", "Enter"):
        page.keyboard.press(key)
    expect(page.locator(".panel .where")).to_have_text("invoice-1.pdf")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".panel .where")).to_have_text("invoice-10.pdf")
    page.keyboard.press("Escape")
    expect(page.locator(".panel")).to_be_hidden()


# ---- one answer ----


def test_an_answer_opens_with_all_that_is_known(open_page: Open, made: Made) -> None:
    page = open_answer(open_page, made, "keeper")
    row = answer_of(made, "keeper")
    panel = page.locator(".panel")
    for text in (row["question"], row["answer"], row["gold_answer"]):
        expect(panel).to_contain_text(" ".join(str(text).split()))
    expect(panel.locator("blockquote")).to_have_text(row["evidence_quote"], use_inner_text=False)
    panel.get_by_text("Replies and attempts").click()
    requests = pd.read_parquet(made.output / "requests")
    expect(panel.locator(".raw").first).to_have_text(
        requests[requests["answer_id"] == row["answer_id"]]["text"].iloc[0]
    )
    panel.get_by_text("Document", exact=True).click()
    expect(panel).to_contain_text(row["document_id"])
    panel.locator(".neighbour", has_text="How high").click()
    expect(panel.locator(".question")).to_have_text("How high is the lighthouse tower?")


def is_marked(page: Page, place: pymupdf.Rect, size: tuple[float, float]) -> float:
    """Return the share of light pixels of a place that are tinted; the page's `size` is in the same units."""
    sheet = page.locator(".sheet")
    picture = Image.open(BytesIO(sheet.screenshot())).convert("RGB")
    across, down = picture.width / size[0], picture.height / size[1]
    rows = slice(int(place.y0 * down), int(place.y1 * down))
    pixels = np.asarray(picture)[rows, int(place.x0 * across) : int(place.x1 * across)]
    light = pixels[pixels[..., 0] > 220]
    return float((light[:, 2] < 200).mean())


def test_the_highlight_lies_on_the_quoted_words(open_page: Open, made: Made) -> None:
    page = open_answer(open_page, made, "keeper", viewport={"width": 1600, "height": 1400})
    page.locator(".sheet img").evaluate("image => image.decode()")
    with pymupdf.open(made.inputs / "lighthouse.pdf") as document:
        size = document[1].rect.width, document[1].rect.height
        quoted, other = document[1].search_for("Nora Quill")[0], document[1].search_for("Pelicans.")[0]
    assert "Nora Quill" in answer_of(made, "keeper")["evidence_quote"]
    assert "Pelicans" not in answer_of(made, "keeper")["evidence_quote"]
    assert is_marked(page, quoted, size) > 0.9
    assert is_marked(page, other, size) == 0
    assert is_marked(page, pymupdf.Rect(5, 5, 50, 800), size) == 0


def test_the_highlight_lies_on_the_words_of_a_picture(open_page: Open, made: Made) -> None:
    page = open_answer(open_page, made, "sign", viewport={"width": 1600, "height": 1400})
    page.locator(".sheet img").evaluate("image => image.decode()")
    x, y = SIGN_AT
    assert is_marked(page, pymupdf.Rect(x + 20, y + 30, x + 800, y + 80), (1800, 1200)) > 0.9
    assert is_marked(page, pymupdf.Rect(x, 20, x + 800, y - 60), (1800, 1200)) == 0


def test_a_page_that_could_not_be_drawn_says_why(open_page: Open, made: Made) -> None:
    page = open_answer(open_page, made, "broken")
    expect(page.locator(".missing")).to_contain_text("No image of page 1")
    expect(page.locator(".panel .error")).to_contain_text("corrupt")


def test_what_documents_say_stays_text(open_page: Open, made: Made) -> None:
    page = open_answer(open_page, made, "evil")
    expect(page.locator(".panel .question")).to_have_text("What does the notice say <b>about</b> scripts?")
    expect(page.locator(".answer-text")).to_contain_text(EVIL)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src=x]").count() == 0


def test_a_script_that_got_in_would_not_run(chromium: Browser, made: Made) -> None:
    page = chromium.new_page()
    refused: list[str] = []
    page.on("console", lambda said: refused.append(said.text))
    page.goto(made.address)
    page.evaluate(
        "html => document.body.insertAdjacentHTML('beforeend', html)", "<img src=x onerror='hacked=1'>"
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked") is None
    assert any("inline event handler" in text for text in refused)
    page.close()


# ---- marks ----


def test_marks_are_saved_and_become_reviews(open_page: Open, made: Made, tmp_path: Path) -> None:
    page = open_answer(open_page, made, "keeper")
    page.keyboard.press("y")
    expect(page.locator("#mark-said")).to_contain_text("Marked right")
    page.locator(".neighbour", has_text="How high").click()
    expect(page.locator(".panel .question")).to_have_text("How high is the lighthouse tower?")
    page.keyboard.press("c")
    page.keyboard.type('=41 metres, "high"')
    page.keyboard.press("Enter")
    expect(page.locator("#mark-said")).to_contain_text("Marked corrected")
    page.reload()
    expect(page.locator("#mark-said")).to_contain_text("Marked corrected")  # the browser has kept it
    page.locator("#marks-button").click()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save CSV").click()
    marks = tmp_path / "marks.csv"
    saved.value.save_as(marks)

    command = [
        sys.executable,
        "-m",
        "pipeline.report",
        f"output={made.output}",
        f"marks={marks}",
        "raster.workers=1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("2 marks merged, 2 answers reviewed\n")
    reviews = pd.read_parquet(made.output / "reviews").set_index("question_id")
    assert reviews["verdict"].to_dict() == {"keeper": "right", "height": "corrected"}
    assert reviews.loc["height", "correction"] == '=41 metres, "high"'
    assert reviews.loc["height", "answer"] == answer_of(made, "height")["answer"]

    other = open_answer(open_page, made, "height")  # another browser, which has no marks of its own
    expect(other.locator("#mark-said")).to_contain_text('Reviewed corrected: =41 metres, "high"')
    other.locator("#marks-button").click()
    other.locator("#marks-file").set_input_files(marks)
    expect(other.locator("#marks")).to_contain_text("2 marks loaded.")
    expect(other.locator("#marks-count")).to_have_text("2")


# ---- two runs ----


def test_two_runs_are_seen_side_by_side(open_page: Open, made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.output, tmp_path / "new")
    file = tmp_path / "new" / "answers" / "shard-0000-of-0001.parquet"
    schema, rows = pq.read_schema(file), pq.read_table(file).to_pylist()
    changed = next(row for row in rows if row["question_id"] == "keeper")
    changed["answer"] += " <i>Or so they say.</i>"
    pq.write_table(
        pa.Table.from_pylist([row for row in rows if row["question_id"] != "t-3"], schema=schema), file
    )
    given = [f"old={made.output}", f"new={tmp_path / 'new'}", "raster.workers=2"]
    _, report_file = changes.write(compose_diff(given))
    page = open_page("", report_file.as_uri())
    expect(page.locator("#difference a.tile", has_text="vanished").locator("b")).to_have_text("1")
    page.locator("#difference a.tile", has_text="changed").click()
    expect(page.locator("#shown")).to_have_text(f"1 of {len(rows)} answers")
    page.locator(ROWS).click()
    expect(page.locator(".compared ins")).to_contain_text("<i>Or so they say.</i>")
    expect(page.locator(".sheet .box").first).to_be_visible()


# ---- everywhere ----


def axe(page: Page) -> AxeResults:
    # Style sheets need not be fetched again, which the page's own rules would refuse.
    return Axe().run(page, options={"resultTypes": ["violations"], "preload": False})


@pytest.mark.parametrize("context", [{}, {"color_scheme": "dark"}, PHONE], ids=["desktop", "dark", "phone"])
def test_axe_finds_nothing_serious(open_page: Open, made: Made, context: dict[str, object]) -> None:
    page = open_page(**context)
    seen = [("overview", axe(page))]
    page.goto(f"{made.address}#/answers")
    expect(page.locator(ROWS).first).to_be_visible()
    seen.append(("answers", axe(page)))
    page.get_by_role("button", name="Kind").click()
    seen.append(("filter", axe(page)))
    page.keyboard.press("Escape")
    page.goto(f"{made.address}#/answers?open={answer_of(made, 'keeper')['answer_id']}")
    expect(page.locator(".panel .question")).to_be_visible()
    seen.append(("answer", axe(page)))
    page.locator("#marks-button").click()
    seen.append(("marks", axe(page)))
    serious = [
        (where, found["id"], found["nodes"][0]["html"][:200], found["nodes"][0]["failureSummary"])
        for where, result in seen
        for found in result.response["violations"]
        if found["impact"] in ("serious", "critical")
    ]
    assert not serious


def test_on_a_phone_nothing_is_cut_off(open_page: Open, made: Made) -> None:
    page = open_answer(open_page, made, "keeper", **PHONE)
    for place in ("", "#/answers", f"#/answers?open={answer_of(made, 'keeper')['answer_id']}"):
        page.goto(made.address + place)
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    panel = page.locator(".panel").bounding_box()
    assert panel is not None
    assert panel["width"] == 390
    page.locator(".sheet").scroll_into_view_if_needed()
    expect(page.locator(".sheet img")).to_be_visible()
    page.locator("#panel-close").click()
    page.locator(ROWS).first.click()
    expect(page.locator(".panel .question")).to_be_visible()


def ground(page: Page) -> int:
    red = re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[0]
    return int(red)


def test_it_is_dark_where_one_likes_it_dark(open_page: Open) -> None:
    assert ground(open_page()) > 200
    page = open_page(color_scheme="dark")
    assert ground(page) < 60
    page.locator("#theme-button").click()
    assert ground(page) > 200
    page.reload()
    assert ground(page) > 200  # it stays as it was chosen


def test_answers_in_many_files_are_one_table(
    open_page: Open, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, rows in (("_FIRST_ROWS", 2), ("_TABLE_ROWS", 3), ("DETAIL_ROWS", 4)):
        monkeypatch.setattr(data, name, rows)
    settings = compose_report([f"output={made.output}", "report.pages=none"])
    from pipeline.viewing import finished

    run = finished.load(made.output)
    address = report.build(run, settings, tmp_path / "report").as_uri()
    assert len(list((tmp_path / "report" / "data").glob("table-*"))) > 4
    last = run.answers.num_rows - 1
    page = open_page(f"#/answers?sort=-source&open={run.keys[last]}", address)
    expect(page.locator("#shown")).to_have_text(f"{last + 1} answers")
    expect(page.locator(".panel .where")).to_have_text(str(run.text["source"][last]))
    expect(page.locator(ROWS).first).to_be_visible()
