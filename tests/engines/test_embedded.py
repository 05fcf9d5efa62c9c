from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from conftest import SAMPLES, engine_context
from PIL import Image

from pipeline.config import RunSettings
from pipeline.engines import choose
from pipeline.engines.embedded import extract
from pipeline.engines.embedded.engine import EmbeddedEngine
from pipeline.engines.embedded.passages import Passage, best, cut, question_terms, tokens
from pipeline.reading.language import detect_language
from pipeline.records import Cell, Document, Page, Question, Request, Subject


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
    ranked = best(question, passages, 3)
    assert ranked[0][0].page == 2
    assert 0 < ranked[0][1] <= 1


def test_a_rare_word_outweighs_many_common_ones() -> None:
    passages = [Passage(n, "the default colour of gnuplot is the default colour") for n in range(1, 9)]
    passages.append(Passage(9, "line6Color: sienna"))
    assert best("What is the default colour of gnuplot*line6Color?", passages, 1)[0][0].page == 9


def test_words_that_only_ask_are_not_looked_for() -> None:
    assert "what" not in question_terms("What is the total?")
    assert "total" in question_terms("What is the total?")
    assert question_terms("What is it?")  # nothing else to look for: better than nothing


def test_tokens_fold_case_width_and_accents() -> None:
    assert tokens("Größe ＡＢＣ") == tokens("größe abc")
    assert set(tokens("0.93R6")) >= {"0.93r6", "93r6"}


def test_passages_cover_every_line_in_order_and_stay_short() -> None:
    lines = [f"line number {n} of the page" for n in range(100)]
    passages = cut({4: "\n".join(lines)}, 300)
    assert all(len(p.text) <= 300 and p.page == 4 for p in passages)
    assert all(any(line in p.text for p in passages) for line in lines)


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
    schema = {"properties": {"total": {"type": ["number", "null"]}}}
    assert extract.fill(schema, {1: text}, detect_language) == {"total": value}


def test_what_is_not_stated_is_null() -> None:
    schema = {
        "properties": {"buyer": {"type": "string"}, "paid": {"type": "boolean"}, "lines": {"type": "array"}}
    }
    assert extract.fill(schema, {1: "Nothing of the kind."}, detect_language) == {
        "buyer": None,
        "paid": None,
        "lines": None,
    }


@pytest.fixture
def ask(
    compose: Callable[..., RunSettings], tmp_path: Path
) -> Iterator[Callable[..., tuple[str, dict[str, object] | None]]]:
    def answer(page: Page, *overrides: str) -> tuple[str, dict[str, object] | None]:
        settings = compose(f"input={SAMPLES}", *overrides)
        subject = Subject("document", page.document.source, "id", (page,), 1)
        cell = Cell("c", subject, Question("q", settings.task.question or "?"))
        context = engine_context(settings, tmp_path)
        with EmbeddedEngine(settings.engine.embedded, context) as engine:
            engine.put([Request("r", cell, "ask", (page,), "?", 10)], window_number=0)
            ((_, completion),) = engine.take()
        assert completion.failure is None
        assert completion.prompt_tokens == 10
        return completion.text, context.envelope

    yield answer


def page_of(name: str, text: str = "", image: Path | None = None) -> Page:
    return Page(Document(name, SAMPLES / name, "pdf", 1, "id"), 1, 1, 16, 16, 1, image=image, text=text)


@pytest.mark.parametrize("name", ["describe", "chart", "classify"])
def test_replies_keep_the_form_that_was_asked_for(
    ask: Callable[..., tuple[str, dict[str, object] | None]], name: str
) -> None:
    import json

    text, envelope = ask(
        page_of("a.pdf", "Quarterly report\nRevenue rose to 4711 million euros in the year 2024.\n"),
        f"task={name}",
    )
    assert envelope is not None
    jsonschema.validate(json.loads(text), envelope)


def test_a_picture_is_read_by_ocr(
    ask: Callable[..., tuple[str, dict[str, object] | None]], tmp_path: Path
) -> None:
    with Image.open(SAMPLES / "pandas-DataFrame-plot-bar-2.png") as chart:
        chart.convert("RGB").save(tmp_path / "page.ppm")
    text, _ = ask(page_of("chart.png", image=tmp_path / "page.ppm"), "task=transcribe")
    assert {"speed", "lifespan", "elephant"} <= set(text.split())


def test_a_picture_on_its_side_is_turned(
    ask: Callable[..., tuple[str, dict[str, object] | None]], tmp_path: Path
) -> None:
    from PIL import ImageDraw

    upright = Image.new("RGB", (700, 300), "white")
    for line in range(6):
        ImageDraw.Draw(upright).text(
            (20, 20 + 40 * line), f"The quick brown fox jumps over dog {line}", "black", font_size=28
        )
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "page.ppm")
    text, _ = ask(page_of("side.png", image=tmp_path / "page.ppm"), "task=transcribe")
    assert text.replace(" ", "").count("quickbrownfox") == 6


def test_transcription_of_a_text_layer_is_markdown(
    ask: Callable[..., tuple[str, dict[str, object] | None]],
) -> None:
    text, _ = ask(page_of("project-history.en.pdf", "A Brief History of Debian"), "task=transcribe")
    assert text.lstrip().startswith("#") or "**" in text


def test_a_text_layer_that_is_garbage_gives_way_to_ocr(
    ask: Callable[..., tuple[str, dict[str, object] | None]], tmp_path: Path
) -> None:
    with Image.open(SAMPLES / "pandas-DataFrame-plot-bar-2.png") as chart:
        chart.convert("RGB").save(tmp_path / "page.ppm")
    text, _ = ask(
        page_of("chart.png", text="\ufffd" * 40 + "a", image=tmp_path / "page.ppm"), "task=transcribe"
    )
    assert "elephant" in text


def test_a_page_that_cannot_be_read_costs_its_own_row(
    compose: Callable[..., RunSettings], tmp_path: Path
) -> None:
    settings = compose(f"input={SAMPLES}", "task=transcribe")
    (tmp_path / "bad.ppm").write_bytes(b"P6 10 10 255 too short")
    Image.new("RGB", (64, 64), "white").save(tmp_path / "good.ppm")
    pages = [page_of(f"{name}.png", image=tmp_path / f"{name}.ppm") for name in ("bad", "good")]
    requests = []
    for page in pages:
        page = replace(page, document=replace(page.document, document_id=page.document.source))
        subject = Subject("page", page.document.source, page.document.document_id, (page,), 1)
        cell = Cell(page.document.source, subject, Question("q", "?"))
        requests.append(Request(page.document.source, cell, "ask", (page,), "?", 10))
    with EmbeddedEngine(settings.engine.embedded, engine_context(settings, tmp_path)) as engine:
        engine.put(requests, window_number=0)
        done = [completion for _ in requests for _, completion in engine.take()]
    assert [c.failure.code if c.failure else "ok" for c in done] == ["engine_failed", "ok"]


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
    schema = {"properties": {"title": {"type": "string"}, "key_facts": {"type": "array"}}}
    labels = "val\n100\n80\n60\nJan Feb Mar 2018"
    assert extract.fill(schema, {1: labels}, detect_language) == {"title": None, "key_facts": []}
