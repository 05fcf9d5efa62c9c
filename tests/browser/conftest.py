"""A real run over real documents, its report, and a real Chromium that opens it from a file."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pymupdf
import pytest
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Browser, Page, expect, sync_playwright

from pipeline.compose import compose_report, compose_settings
from pipeline.run import execute
from pipeline.viewing import report

EVIL = "</script><img src=x onerror='window.hacked=1'>"
SHEEP = "Sheep graze on the hills behind the bay, and wool is sold in spring. "
QUESTIONS = [
    ("question_id", "document", "question", "answer", "page"),
    ("keeper", "lighthouse.pdf", "Who keeps the lighthouse of Ardmore?", "Nora Quill", "2"),
    ("height", "lighthouse.pdf", "How high is the lighthouse tower?", "99 metres", "2"),
    ("evil", "hostile*", "What does the notice say <b>about</b> scripts?", "", ""),
    ("sign", "sign.png", "Which harbour does the sign name?", "Port Salmon", "1"),
    ("broken", "torn.pdf", "What is the total?", "", ""),
    *((f"t-{n}", f"invoice-{n}.pdf", f"What is the total of invoice {n}?", f"{n}50", "1") for n in range(12)),
]


def write_pdf(path: Path, *texts: str) -> None:
    with pymupdf.open() as document:
        for text in texts:
            document.new_page().insert_textbox(pymupdf.Rect(60, 60, 535, 780), text, fontsize=12)
        document.save(path)


def make_inputs(folder: Path) -> None:
    folder.mkdir()
    write_pdf(
        folder / "lighthouse.pdf",
        "Coasts of the north. A list of buildings, their keepers and their years.",
        "Its keeper is Nora Quill, who keeps the lighthouse of Ardmore since 1998. The tower of the"
        f" lighthouse is 41 metres high.\n\n{SHEEP * 30}\n\nPelicans.",
    )  # fmt: skip
    write_pdf(
        folder / "hostile&'name.pdf", f"The notice says about scripts: {EVIL} and nothing else about scripts."
    )
    for number in range(12):
        write_pdf(
            folder / f"invoice-{number}.pdf",
            f"Invoice {number}.\n\nThe total of invoice {number} is {number}50 euros.",
        )
    (folder / "torn.pdf").write_bytes(b"%PDF-1.7 torn")
    sign = Image.new("RGB", (1800, 1200), "white")
    draw = ImageDraw.Draw(sign)
    draw.text(SIGN_AT, "Harbour of Port Salmon", "black", ImageFont.load_default(90))
    draw.text((200, 900), "Mind the step", "black", ImageFont.load_default(60))
    sign.save(folder / "sign.png")


SIGN_AT = (300, 300)


@dataclass(frozen=True)
class Made:
    """An output with a report."""

    inputs: Path
    output: Path

    @property
    def address(self) -> str:
        return (self.output / "report" / "index.html").as_uri()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Answers of the embedded engine to questions with gold answers, and their report."""
    folder = tmp_path_factory.mktemp("browser")
    make_inputs(folder / "in")
    with (folder / "questions.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(QUESTIONS)
    output = folder / "output"
    workers = ["raster.workers=2", "engine.workers=2"]
    given = [f"input={folder / 'in'}", f"output={output}", "engine=embedded", *workers]
    execute(compose_settings([*given, "task=qa", f"task.questions={folder / 'questions.csv'}"]))
    report.write(compose_report([f"output={output}", "raster.workers=2"]))
    return Made(folder / "in", output)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, (
        "these tests need Chromium: make test-browser installs it, or say where it is with CHROMIUM="
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


expect.set_options(timeout=30_000)  # a busy machine is no fault of the page

Open = Callable[..., Page]


def is_local(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:"))


@pytest.fixture
def open_page(chromium: Browser, made: Made) -> Iterator[Open]:
    """Open the report in a browser that nobody has used; fails on errors and on requests to elsewhere."""
    wrong: list[str] = []
    with ExitStack() as stack:

        def make(place: str = "", address: str = made.address, **context: object) -> Page:
            size = {"viewport": {"width": 1440, "height": 900}} | context
            page = chromium.new_context(accept_downloads=True, **size).new_page()  # type: ignore[arg-type]
            stack.callback(page.context.close)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
            page.on("request", lambda asked: None if is_local(asked.url) else wrong.append(asked.url))
            page.goto(address + place)
            return page

        yield make
    assert not wrong
