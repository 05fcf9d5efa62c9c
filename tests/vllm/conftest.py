"""Real vLLM on the CPU with a tiny Pixtral: settings, engines and the pages to show them."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import hydra
import pymupdf
import pytest
import tiny
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))
from check import FOLDER, READER

from pipeline.asking import prompt, schema, tokens
from pipeline.compose import CONF, to_settings
from pipeline.config import RunSettings
from pipeline.engines.base import EngineContext
from pipeline.engines.vllm.engine import VllmEngine
from pipeline.reading import language
from pipeline.records import Cell, Completion, Document, Page, Question, Request, Subject

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "engines"))  # the contract that every engine passes
# In every process that vLLM starts: the shim for torchvision, and this folder's scheduler.
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE / "shim"), str(HERE), os.environ.get("PYTHONPATH", "")])
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
# And in this one, where the system's own sitecustomize may have come first. SHIM keeps what it declares.
SHIM = runpy.run_path(str(HERE / "shim" / "sitecustomize.py"))

TINY = [
    "engine=vllm",
    "raster.workers=1",
    "engine.eager=true",
    "engine.max_batched_tokens=8192",
    "+engine.args.load_format=dummy",
    "task.max_output_tokens=48",
]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def settings_for(model: Path) -> Callable[..., RunSettings]:
    """Compose settings for the tiny model as the command line composes them."""

    return lambda output, *overrides: composed(output, f"model.path={model}", *TINY, *overrides)


def composed(output: Path, *overrides: str) -> RunSettings:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return to_settings(hydra.compose("config", overrides=[f"output={output}", *overrides]))


@pytest.fixture(scope="session")
def reader_for() -> Callable[..., RunSettings]:
    """Compose settings for the model that reads, from FOLDER/in to FOLDER/output."""

    def make(folder: Path, *overrides: str) -> RunSettings:
        questions = f"task.questions={folder / 'in' / 'questions.csv'}"
        return composed(folder / "output", f"input={folder / 'in'}", *READER, questions, *overrides)

    return make


class Bench(SimpleNamespace):
    """An open engine with what it takes to put requests to it."""

    engine: VllmEngine
    settings: RunSettings
    context: EngineContext
    counter: tokens.TokenCounter
    scratch: Path

    def page(self, number: int, width_px: int, height_px: int, name: str = "a.pdf", total: int = 9) -> Page:
        """Draw a page of noise that is like no other."""
        file = self.scratch / f"{name}-{number}-{width_px}x{height_px}.ppm"
        if not file.exists():
            Image.effect_noise((width_px, height_px), 40 + number).convert("RGB").save(file)
        document = Document(name, Path(name), "pdf", 1, name)
        return Page(document, number, total, width_px, height_px, number, image=file)

    def drawn(self, file: Path) -> list[Page]:
        """Draw the pages of a PDF, a pixel for each of its points."""
        with pymupdf.open(file) as pdf:
            document = Document(file.name, file, "pdf", 1, file.name)
            pages = []
            for number, page in enumerate(pdf, 1):
                image, pixels = self.scratch / f"{file.name}-{number}.ppm", page.get_pixmap()
                pixels.save(image)
                pages.append(
                    Page(document, number, len(pdf), pixels.width, pixels.height, number, image=image)
                )
            return pages

    def request(self, name: str, pages: list[Page], question: str, scope: str = "document") -> Request:
        """Write a request and count its tokens as the pipeline does."""
        pages = [replace(page, label=prompt.label(page, scope)) for page in pages]
        subject = Subject(scope, "a.pdf", "id", tuple(pages), len(pages))
        asked = Question(name, question)
        text = prompt.ask(asked, self.settings.task, schema.envelope(self.settings.task))
        counted = self.count(pages, text)
        return Request(name, Cell(name, subject, asked), "ask", tuple(pages), text, counted)

    def count(self, pages: Sequence[Page], text: str) -> int:
        """Count the tokens of a request."""
        return self.counter.request(pages, text)

    def answer(self, *requests: Request, window_number: int = 0) -> dict[str, Completion]:
        """Put requests and wait for all of them."""
        self.engine.put(requests, window_number)
        done: dict[str, Completion] = {}
        while len(done) < len(requests):
            done |= {request.request_id: completion for request, completion in self.engine.take()}
        return done


def new_bench(folder: Path, settings: RunSettings, system: str, **changes: object) -> Bench:
    folder.mkdir(parents=True, exist_ok=True)
    counter = tokens.TokenCounter(settings.model, system)
    context = EngineContext(
        model=settings.model,
        envelope=schema.envelope(settings.task),
        system_prompt=system,
        max_output_tokens=settings.task.max_output_tokens,
        scratch=folder,
        log=folder / "engine-{}.log",
        adapt_tokenizer=tokens.skip_pixels,
        detect_language=language.detect_language,
        count_tokens=counter.request,
    )
    context = replace(context, **changes)  # type: ignore[arg-type]
    return Bench(
        engine=VllmEngine(settings.engine.vllm, context),
        settings=settings,
        context=context,
        counter=counter,
        scratch=folder,
    )


@pytest.fixture(scope="session")
def open_bench(settings_for: Callable[..., RunSettings]) -> Callable[..., Bench]:
    return lambda folder, *overrides: new_bench(
        folder, settings_for(folder / "output", "input=.", *overrides), "You read documents."
    )


@pytest.fixture(scope="session")
def open_reader_bench() -> Callable[..., Bench]:
    """Open a bench with the model that reads; what is named is changed in its EngineContext."""
    system = (FOLDER / "SYSTEM_PROMPT.txt").read_text().strip()
    return lambda folder, **changes: new_bench(
        folder,
        composed(folder / "output", "input=.", *READER, "task.question=What is it?"),
        system,
        **changes,
    )


@pytest.fixture(scope="module")
def bench(open_bench: Callable[..., Bench], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One engine for all tests of a module that leave it as it was."""
    made = open_bench(tmp_path_factory.mktemp("bench"), "task=transcribe")
    with made.engine:
        yield made


@pytest.fixture
def make_pdf(tmp_path: Path) -> Callable[..., Path]:
    """Write a PDF with one page per text."""

    def make(name: str, *texts: str) -> Path:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with pymupdf.open() as document:
            for text in texts:
                document.new_page(width=200, height=150).insert_text((20, 40), text, fontsize=9)
            document.save(path)
        return path

    return make
