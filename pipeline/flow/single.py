"""Ask an engine one question without any document: only the system prompt and the text."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.asking import prompt, tokens
from pipeline.config import RunSettings
from pipeline.engines import choose
from pipeline.engines.base import EngineContext
from pipeline.errors import EngineLost, SettingsError
from pipeline.reading import language
from pipeline.records import Cell, Question, Request, Subject

log = logging.getLogger("pipeline")


def ask(settings: RunSettings, question: str) -> str:
    """Return the reply to a question; nothing is stored. Raises EngineLost when the engine gives none.

    The system prompt is the model's own, with its name, today's date and yesterday's filled in.
    """
    name, reason = choose.choose(settings.engine, settings.model)
    log.info("engine=%s: %s", name, reason)
    if name == "embedded":
        raise SettingsError(
            f"engine=embedded: reads documents and writes nothing of its own ({reason}); set"
            " engine=server or engine=vllm"
        )
    served = choose.served(name, settings.engine, None)
    template = prompt.system_prompt_template(settings.model)
    # Today's: nothing is stored that a later run would have to find under the same prompt.
    system_prompt = prompt.fill_system_prompt(template, settings.model.name, dt.date.today())
    counter = tokens.TokenCounter(settings.model, system_prompt)
    with _folder() as folder:
        context = EngineContext(
            model=settings.model,
            envelope=None,
            system_prompt=system_prompt,
            max_output_tokens=settings.task.max_output_tokens,
            scratch=folder,
            log=folder / "engine-{}.log",
            adapt_tokenizer=tokens.skip_pixels,
            detect_language=language.detect_language,
            count_tokens=counter.request,
            served=served,
        )
        with choose.build(name, settings.engine, context) as engine:
            # A merge is a request without images, as is a question without a document.
            engine.put([_request(question, counter.merge(question))], 0)
            ((_, said),) = engine.take()
        if said.failure is not None:
            raise EngineLost(said.failure.message)
    if said.finish_reason == "length":
        log.warning(
            "the reply is cut after %d tokens; raise task.max_output_tokens", settings.task.max_output_tokens
        )
    return said.text


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder for the engine's files, and remove it unless the engine is lost: the log says why."""
    folder = Path(tempfile.mkdtemp(prefix="docbatch-ask-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            yield folder
        except EngineLost:
            if any(folder.glob("*.log")):  # a server's is not here
                stack.pop_all()
            raise


def _request(question: str, prompt_tokens: int) -> Request:
    subject = Subject("document", "no document", "", (), 0)
    cell = Cell("question", subject, Question("question", question))
    return Request("question", cell, "ask", (), question, prompt_tokens)
