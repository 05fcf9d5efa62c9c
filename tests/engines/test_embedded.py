from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from conftest import SAMPLES, engine_context
from PIL import Image, ImageDraw

from pipeline.config import RunSettings
from pipeline.engines import choose
from pipeline.engines.embedded import extract, reader
from pipeline.engines.embedded.engine import EmbeddedEngine
from pipeline.engines.embedded.lines import Line, lines_of
from pipeline.engines.embedded.passages import Passage, cut, question_terms, tokens
from pipeline.engines.embedded.ranking import Index, Ranked, confidence
from pipeline.reading.language import detect_language
from pipeline.records import Cell, Completion, Document, Json, Page, Question, Request, Subject


def best(question: str, passages: list[Passage]) -> list[Ranked]:
    index = Index(passages)
    return index.rank(question, index.count(question))


@pytest.mark.parametrize(
    ("question", "right", "wrong"),
    [
        (
            "Who started the first port?",
            "Koptein started the first port.",
            "The last port of call was closed.",
        ),
        (
            "Wann wurden die Rechnungen bezahlt?",
            "Die Rechnung wurde im Mai bezahlt.",
            "Wann und wo ist offen.",
        ),
        ("パッケージの作者は誰ですか？", "このパッケージの作者は朝倉です。", "祝日の一覧を示す。"),
        ("考试用时多少分钟？", "本试卷考试用时120分钟。", "请在答题卡上作答。"),
        ("변경 이력은 어디에 있습니까?", "제11절 변경이력 30", "폰트 설정 방식에 대한 설명"),
        (
            "Какой пакет самый важный?",
            "Самым важным пакетом является build-essential.",
            "Какой-то иной текст.",
        ),
        ("Qual a apresentação?", "a apresentac¸ ˜ao do tema", "o tema da aula"),
    ],
)
def test_the_passage_that_answers_is_found_in_every_script(question: str, right: str, wrong: str) -> None:
    passages = [Passage(1, wrong), Passage(2, right), Passage(3, "Lorem ipsum dolor sit amet.")]
    ranked = best(question, passages)
    assert ranked[0].passage.page == 2
    assert 0 < confidence(ranked) <= ranked[0].share <= 1


def test_a_rare_word_outweighs_many_common_ones() -> None:
    passages = [Passage(n, "the default colour of gnuplot is the default colour") for n in range(1, 9)]
    passages.append(Passage(9, "line6Color: sienna"))
    assert best("What is the default colour of gnuplot*line6Color?", passages)[0].passage.page == 9


def test_words_that_only_ask_are_not_looked_for() -> None:
    assert "what" not in question_terms("What is the total?")
    assert "total" in question_terms("What is the total?")
    assert question_terms("What is it?")  # nothing else to look for: better than nothing


def test_tokens_fold_case_width_and_accents() -> None:
    assert tokens("Größe ＡＢＣ") == tokens("größe abc")
    assert set(tokens("0.93R6")) >= {"0.93r6", "93r6"}


def test_passages_cover_every_line_in_order_and_stay_short() -> None:
    lines = [f"line number {n} of the page" for n in range(100)]
    passages = cut({4: [Line(line) for line in lines]}, 300)
    assert all(len(p.text) <= 300 and p.page == 4 for p in passages)
    assert all(any(line in p.text for p in passages) for line in lines)


def filled(schema: dict[str, Json], text: str) -> dict[str, Json]:
    return extract.values(extract.fill(schema, {1: lines_of(text)}, detect_language))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Total: 1,234.50", 1234.5),
        ("Total: 1.234,50 €", 1234.5),
        ("Total: -7", -7.0),
        ("Total: none", None),
        ("", None),
    ],
)
def test_a_labelled_number_is_read_in_either_notation(text: str, value: float | None) -> None:
    schema: dict[str, Json] = {"properties": {"total": {"type": ["number", "null"]}}}
    assert filled(schema, text) == {"total": value}


def test_what_is_not_stated_is_null() -> None:
    schema: dict[str, Json] = {
        "properties": {"buyer": {"type": "string"}, "paid": {"type": "boolean"}, "lines": {"type": "array"}}
    }
    assert filled(schema, "Nothing of the kind.") == {
        "buyer": None,
        "paid": None,
        "lines": None,
    }


@pytest.fixture
def attempt(compose: Callable[..., RunSettings], tmp_path: Path) -> Callable[..., Completion]:
    """Ask the reader of text about pages, which it may fail to read."""

    def answer(pages: Sequence[Page], *overrides: str) -> Completion:
        settings = compose(f"input={SAMPLES}", *overrides)
        subject = Subject("document", pages[0].document.source, "id", tuple(pages), len(pages))
        cell = Cell("c", subject, Question("q", settings.task.question or "?"))
        with EmbeddedEngine(settings.engine.embedded, engine_context(settings, tmp_path)) as engine:
            engine.put([Request("r", cell, "ask", tuple(pages), "?", 10)], window_number=0)
            ((_, completion),) = engine.take()
        return completion

    return answer


@pytest.fixture
def complete(attempt: Callable[..., Completion]) -> Callable[..., Completion]:
    """Ask the reader of text about pages."""

    def answer(pages: Sequence[Page], *overrides: str) -> Completion:
        completion = attempt(pages, *overrides)
        assert completion.failure is None
        return completion

    return answer


def page_of(name: str, text: str = "", image: Path | None = None) -> Page:
    document = Document(name, SAMPLES / name, "pdf", 1, "id")
    return Page(document, 1, 1, 16, 16, 1, image=image, text=text, text_covers=bool(text))


@pytest.mark.parametrize("name", ["describe", "chart", "classify"])
def test_replies_keep_the_form_that_was_asked_for(
    complete: Callable[..., Completion], compose: Callable[..., RunSettings], name: str
) -> None:
    text = "Quarterly report\nRevenue rose to 4711 million euros in the year 2024.\n"
    completion = complete([page_of("a.pdf", text)], f"task={name}")
    envelope = engine_context(compose("input=.", f"task={name}"), Path()).envelope
    assert envelope is not None
    jsonschema.validate(json.loads(completion.text), envelope)


def test_a_picture_is_read_by_ocr(complete: Callable[..., Completion], tmp_path: Path) -> None:
    with Image.open(SAMPLES / "pandas-DataFrame-plot-bar-2.png") as chart:
        chart.convert("RGB").save(tmp_path / "page.ppm")
    text = complete([page_of("chart.png", image=tmp_path / "page.ppm")], "task=transcribe").text
    assert {"speed", "lifespan", "elephant"} <= set(text.split())


def test_a_picture_on_its_side_is_turned(complete: Callable[..., Completion], tmp_path: Path) -> None:
    upright = Image.new("RGB", (700, 300), "white")
    for line in range(6):
        ImageDraw.Draw(upright).text(
            (20, 20 + 40 * line), f"The quick brown fox jumps over dog {line}", "black", font_size=28
        )
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "page.ppm")
    text = complete([page_of("side.png", image=tmp_path / "page.ppm")], "task=transcribe").text
    assert text.replace(" ", "").count("quickbrownfox") == 6


def test_transcription_of_a_text_layer_is_markdown(
    complete: Callable[..., Completion],
) -> None:
    text = complete([page_of("project-history.en.pdf", "A Brief History of Debian")], "task=transcribe").text
    assert text.lstrip().startswith("#") or "**" in text


def test_a_text_layer_that_is_garbage_gives_way_to_ocr(
    complete: Callable[..., Completion], tmp_path: Path
) -> None:
    with Image.open(SAMPLES / "pandas-DataFrame-plot-bar-2.png") as chart:
        chart.convert("RGB").save(tmp_path / "page.ppm")
    text = complete(
        [page_of("chart.png", text="\ufffd" * 40 + "a", image=tmp_path / "page.ppm")], "task=transcribe"
    ).text
    assert "elephant" in text


def transcribed(settings: RunSettings, scratch: Path, pages: Sequence[Page]) -> list[Completion]:
    """Return what the engine says to a request about each page."""
    requests = []
    for page in pages:
        page = replace(page, document=replace(page.document, document_id=page.document.source))
        subject = Subject("page", page.document.source, page.document.document_id, (page,), 1)
        cell = Cell(page.document.source, subject, Question("q", "?"))
        requests.append(Request(page.document.source, cell, "ask", (page,), "?", 10))
    with EmbeddedEngine(settings.engine.embedded, engine_context(settings, scratch)) as engine:
        engine.put(requests, window_number=0)
        return [completion for _ in requests for _, completion in engine.take()]


def test_a_page_that_cannot_be_read_costs_its_own_row(
    compose: Callable[..., RunSettings], tmp_path: Path
) -> None:
    (tmp_path / "bad.ppm").write_bytes(b"P6 10 10 255 too short")
    Image.new("RGB", (64, 64), "white").save(tmp_path / "good.ppm")
    pages = [page_of(f"{name}.png", image=tmp_path / f"{name}.ppm") for name in ("bad", "good")]
    done = transcribed(compose(f"input={SAMPLES}", "task=transcribe"), tmp_path, pages)
    assert [c.failure.code if c.failure else "ok" for c in done] == ["engine_failed", "ok"]


def test_a_page_that_takes_too_long_says_so_or_is_read_as_it_is_and_looked_at(
    compose: Callable[..., RunSettings], tmp_path: Path
) -> None:
    Image.new("RGB", (64, 64), "white").save(tmp_path / "scan.ppm")
    layer = page_of("project-history.en.pdf", "A Brief History of Debian")
    settings = compose(f"input={SAMPLES}", "task=transcribe", "engine.page_timeout_s=0.01")
    scan, text = transcribed(settings, tmp_path, [page_of("scan.png", image=tmp_path / "scan.ppm"), layer])
    assert scan.failure is not None and scan.failure.code == "render_timeout"
    assert text.failure is None and text.text == "A Brief History of Debian"
    assert text.confidence is not None and text.confidence < settings.engine.review_below


def ranked(*places: tuple[int, float, float], legibility: float = 1.0) -> list[Ranked]:
    return [Ranked(Passage(page, "", (), legibility), share, score) for page, share, score in places]


def test_a_passage_is_as_sure_as_it_leads_those_of_other_pages() -> None:
    assert confidence(ranked((1, 0.8, 10.0))) == 0.8
    assert confidence(ranked((1, 0.8, 10.0), (2, 0.8, 5.0))) == pytest.approx(0.4)
    assert confidence(ranked((1, 1.0, 10.0), (2, 1.0, 9.0))) < 0.35  # engine.review_below
    assert confidence(ranked((1, 0.8, 10.0), legibility=0.5)) == pytest.approx(0.4)
    assert confidence(ranked((1, 0.0, 0.0))) == confidence([]) == 0.0


LABELS = "nutrition\nhi_carb\nlo_carb\nmean of response\n2.6\n2.5\nhi\nlow\nweight"
PROSE = "The goods were shipped on Monday and\nreceived in the yard by Mr Hill, who\nsigned for them all.\n"


@pytest.mark.parametrize(
    ("text", "read_by_ocr", "is_sure"),
    [
        (LABELS, True, False),  # the words of a chart hold the question's and state nothing
        ("甲乙丙\n丁戊\n己庚\n辛壬\n癸子\n丑寅", True, False),
        (2 * PROSE, True, True),
        ("Covfefe\nis perfectly\ncromulent\nword.", True, True),  # all that is on a small picture
        (LABELS.replace("2.6\n2.5\n", ""), False, True),
    ],
)
def test_labels_are_no_statement_however_much_of_the_question_they_hold(
    text: str, read_by_ocr: bool, is_sure: bool
) -> None:
    lines = text.count("\n") + 1
    places = tuple((0, 20 * n, 100, 20 * n + 15) for n in range(lines)) if read_by_ocr else ()
    only = Ranked(Passage(1, text, places), share=1.0, score=9.0)
    assert (confidence([only]) > 0.35) is is_sure  # engine.review_below


def test_a_question_that_two_pages_answer_alike_is_for_review_and_one_of_a_single_page_is_not() -> None:
    twins = [Passage(n, f"The harbour of Bergen opened in {1900 + n}.") for n in (1, 2)]
    others = [Passage(n, "Nothing of note happens in this chapter.") for n in range(3, 9)]
    question = "When was the harbour of Bergen opened?"
    assert confidence(best(question, [*twins, *others])) < 0.35
    assert confidence(best(question, [twins[0], *others])) > 0.35


@pytest.mark.parametrize(
    ("overrides", "unsure"),
    [
        (["task=qa", "task.question='Who?'"], False),
        (["task=transcribe"], False),
        (["task=describe"], True),
        (["task=chart"], True),
        (["task=classify"], True),
        (["task=extract", "task.schema={properties:{total:{type:number},name:{type:string}}}"], False),
        (["task=extract", "task.schema={properties:{kind:{enum:[a,b]}}}"], True),
        (["task=extract", "task.schema={properties:{lines:{type:array}}}"], True),
        (["task=extract", "task.schema={properties:{seller:{type:object}}}"], True),
        (["task=extract", "task.schema={properties:{any:{}}}"], True),
    ],
)
def test_the_reader_says_which_tasks_it_is_not_sure_of(
    compose: Callable[..., RunSettings], overrides: list[str], unsure: bool
) -> None:
    envelope = engine_context(compose("input=.", *overrides), Path()).envelope
    assert choose.is_unsure_of("embedded", envelope) is unsure
    assert not choose.is_unsure_of("vllm", envelope)


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("Total: 12.50\nBuyer: Ada", 0.9, 1.0),
        ("Total: 12.50\nNothing else.", 0.0, 0.34),
        ("Nothing at all.", 0.0, 0.0),
    ],
)
def test_fields_that_were_not_found_make_a_row_one_for_review(
    complete: Callable[..., Completion], text: str, least: float, most: float
) -> None:
    schema = "task.schema={properties:{total:{type:number},buyer:{type:string}}}"
    completion = complete([page_of("a.pdf", text)], "task=extract", schema)
    assert completion.confidence is not None
    assert least <= completion.confidence <= most


def test_a_long_document_read_in_parts_is_answered_as_if_it_were_read_at_once(
    compose: Callable[..., RunSettings], tmp_path: Path
) -> None:
    settings = compose("input=.", "task=qa", "task.question='Where does the treasure of the harbour lie?'")
    texts = [f"Chapter {n}. The harbour and the ships of chapter {n} are described." for n in range(1, 61)]
    texts[40] = "Chapter 41. The treasure lies under the lighthouse of the harbour."
    pages = [
        replace(page_of("a.pdf", text), number=n, ordinal=n, total=60) for n, text in enumerate(texts, 1)
    ]
    cell = Cell(
        "c", Subject("document", "a.pdf", "id", tuple(pages), 60), Question("q", settings.task.question or "")
    )
    whole = Request("whole", cell, "ask", tuple(pages), "?", 10)
    parts = [
        Request(f"part {n}", cell, "ask", tuple(pages[20 * n : 20 * n + 20]), "?", 10, n, 3) for n in range(3)
    ]
    with EmbeddedEngine(settings.engine.embedded, engine_context(settings, tmp_path)) as engine:
        engine.put([whole, *parts], 0)
        said = [completion for _ in range(4) for _, completion in engine.take()]
        engine.put([Request("merge", cell, "merge", (), "?", 10, parts=tuple(c.text for c in said[1:]))], 0)
        ((_, merged),) = engine.take()
    assert json.loads(merged.text) == json.loads(said[0].text)
    assert json.loads(merged.text)["pages"] == [41]
    assert merged.confidence == pytest.approx(said[0].confidence)


def test_what_a_picture_says_is_quoted_with_its_place_and_a_layer_that_does_not_cover_is_not_used(
    complete: Callable[..., Completion], tmp_path: Path
) -> None:
    scan = Image.new("RGB", (700, 300), "white")
    ImageDraw.Draw(scan).text((40, 200), "The lighthouse was built in 1831", "black", font_size=30)
    scan.save(tmp_path / "page.ppm")
    page = replace(page_of("scan.pdf", "RECEIVED 4 MAY", tmp_path / "page.ppm"), text_covers=False)
    page = replace(page, width_px=700, height_px=300)
    completion = complete([page], "task=qa", "task.question='When was the lighthouse built?'")
    assert "1831" in json.loads(completion.text)["answer"]
    (box,) = completion.boxes
    assert box.page == 1
    assert (box.x0, box.y0) == pytest.approx((40, 205), abs=15)
    assert 300 < box.x1 < 700
    assert box.y1 < 250


def test_the_place_of_text_on_its_side_is_that_on_the_page_as_drawn(
    complete: Callable[..., Completion], tmp_path: Path
) -> None:
    upright = Image.new("RGB", (900, 300), "white")
    for line, place in enumerate((20, 120)):
        text = f"The lighthouse number {line} was built in 1831"
        ImageDraw.Draw(upright).text((30, place), text, "black", font_size=34)
    for method in (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270):
        turned = upright.transpose(method)
        turned.save(tmp_path / "page.ppm")
        page = page_of("side.png", image=tmp_path / "page.ppm")
        completion = complete([page], "task=qa", "task.question='When was the lighthouse built?'")
        assert len(completion.boxes) == 2
        for box in completion.boxes:
            ink = turned.crop((int(box.x0), int(box.y0), int(box.x1), int(box.y1)))
            assert 0 <= box.x0 < box.x1 <= 300
            assert 0 <= box.y0 < box.y1 <= 900
            darkest = ink.convert("L").getextrema()[0]
            assert isinstance(darkest, int | float) and darkest < 100


def test_an_answer_is_a_few_sentences_and_its_quote_the_passage_that_holds_them(
    complete: Callable[..., Completion],
) -> None:
    padding = [f"Sentence {n} is about something else and goes on for a while." for n in range(24)]
    padding[5] = "The lighthouse of Bergen was built in 1831."
    completion = complete(
        [page_of("a.pdf", "\n".join(padding))],
        "task=qa",
        "task.question='When was the lighthouse of Bergen built?'",
    )
    reply = json.loads(completion.text)
    assert "built in 1831" in reply["answer"]
    assert len(reply["answer"]) < 400 < len(reply["quote"])
    assert reply["answer"] in reply["quote"]


def test_pages_that_were_read_and_forgotten_are_read_again(
    complete: Callable[..., Completion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_CACHED_PAGES", 1)
    pages = []
    for number, word in enumerate(("elephant", "lighthouse"), 1):
        image = Image.new("RGB", (300, 80), "white")
        ImageDraw.Draw(image).text((20, 20), word, "black", font_size=36)
        image.save(tmp_path / f"{word}.ppm")
        page = page_of("scan.pdf", image=tmp_path / f"{word}.ppm")
        pages.append(replace(page, number=number, ordinal=number))
    completion = complete([*pages, *pages], "task=transcribe")
    assert completion.text.split() == ["elephant", "lighthouse"]


def test_what_a_page_took_to_read_is_its_own_though_it_was_read_ahead(
    compose: Callable[..., RunSettings], tmp_path: Path
) -> None:
    settings = compose(f"input={SAMPLES}", "task=transcribe")
    asked = []
    Image.effect_noise((700, 1000), 90).convert("RGB").save(tmp_path / "page.ppm")
    for number, blank in enumerate([False, True, False], 1):
        page = replace(page_of("scan.pdf", image=tmp_path / "page.ppm"), number=number, blank=blank)
        cell = Cell(f"{number}", Subject("document", "scan.pdf", "id", (page,), 3), Question("q", "?"))
        asked.append(Request(f"{number}", cell, "ask", (page,), "?", 10))
    with EmbeddedEngine(settings.engine.embedded, engine_context(settings, tmp_path)) as engine:
        engine.put(asked, 0)
        first, blank_s, second = (completion.engine_seconds for _ in asked for _, completion in engine.take())
    # A page read by OCR takes hundreds of times what one takes that nobody looks at, on any machine.
    assert min(first, second) > 10 * blank_s > 0


def test_no_page_pays_for_the_loading_of_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def look() -> float:
        done.append("look at the time")
        return float(len(done))

    def read(page: str) -> list[Line]:
        done.append(f"read {page}")
        return []

    monkeypatch.setattr(reader, "_core_seconds", look)
    assert reader._measured(lambda: done.append("load"), read, "a page") == ([], 2.0)
    assert done == ["load", "look at the time", "read a page", "look at the time"]


def test_a_layer_that_is_not_what_a_page_shows_is_never_read_for_it(
    attempt: Callable[..., Completion], tmp_path: Path
) -> None:
    page = replace(page_of("scan.pdf", "The hidden total is 99."), image=tmp_path / "lost.ppm")
    assert attempt([replace(page, text_covers=False)], "task=transcribe").failure
    Image.new("RGB", (300, 80), "white").save(tmp_path / "lost.ppm")
    assert "99" not in attempt([replace(page, text_covers=False)], "task=transcribe").text
    assert "99" in attempt([replace(page, text_covers=True)], "task=transcribe").text


def test_auto_says_which_engine_and_why(compose: Callable[..., RunSettings]) -> None:
    settings = compose("input=.")
    name, reason = choose.choose(settings.engine, settings.model)
    assert name == "embedded"
    assert settings.model.name in reason


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("This document describes the history and goals of the project.", "en"),
        ("Dieses Dokument beschreibt die Geschichte und die Ziele.", "de"),
        ("このパッケージは日付から日本の祝日名を得るためのものである", "ja"),
        ("本文档描述了项目的历史和目标，并且解释了它的组织方式", "zh"),
        ("sales signups visits", None),
        ("100 80 60 40 20 0", None),
    ],
)
def test_a_language_is_told_from_a_sentence_and_not_from_labels(text: str, language: str | None) -> None:
    assert detect_language(text) == language


def test_axis_labels_are_neither_title_nor_fact() -> None:
    schema: dict[str, Json] = {"properties": {"title": {"type": "string"}, "key_facts": {"type": "array"}}}
    labels = "val\n100\n80\n60\nJan Feb Mar 2018"
    assert filled(schema, labels) == {"title": None, "key_facts": []}
