"""Run the pipeline from Python, and read what runs have written: `pipeline.answer("pdfs/").answers`."""

from __future__ import annotations

import datetime as dt
import functools
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline import objects, store
from pipeline.command import logged_to
from pipeline.compose import composed_from
from pipeline.config import RunSettings
from pipeline.errors import Interrupted, SettingsError
from pipeline.records import Json
from pipeline.summary import Summary
from pipeline.texts import clean_text

if TYPE_CHECKING:
    import pandas as pd

    Questions = str | Path | Sequence[str] | Sequence[Mapping[str, object]] | pd.DataFrame


class Model(Protocol):
    """A pydantic model, which can say its own JSON schema."""

    @classmethod
    def model_json_schema(cls) -> dict[str, Json]: ...


@dataclass(frozen=True)
class Run:
    """What a run has written. The tables are read when they are first asked for."""

    output: Path | str
    """A folder, or a URL in object storage."""
    summary: Summary | None = None
    """The counts of the run that `answer` made; None of one that was loaded."""

    @functools.cached_property
    def answers(self) -> pd.DataFrame:
        """One row per document (or page, or folder) and question; docs/columns.md has the columns."""
        return self._frame("answers")

    @functools.cached_property
    def documents(self) -> pd.DataFrame:
        """One row per input file."""
        return self._frame("documents")

    @functools.cached_property
    def requests(self) -> pd.DataFrame:
        """One row per model request, with the raw text of its reply."""
        return self._frame("requests")

    @functools.cached_property
    def record(self) -> dict[str, Json]:
        """What run.json says: state, settings, versions, counts, dates."""
        with store.opened(str(self.output)) as folder:
            store.fetch(folder / "run.json")
            return dict(json.loads((folder / "run.json").read_text(encoding="utf-8")))

    def _frame(self, table: str) -> pd.DataFrame:
        from pipeline.tables import frames

        with store.opened(str(self.output)) as folder:
            return frames.TABLES[table](folder)


def answer(
    input: str | Path,
    *,
    task: str | None = None,
    question: str | None = None,
    questions: Questions | None = None,
    schema: Mapping[str, object] | type[Model] | str | Path | None = None,
    model: str | None = None,
    engine: str | None = None,
    output: str | Path = "output",
    settings: Mapping[str, object] | None = None,
) -> Run:
    """Answer questions about documents, and return the tables; as `python -m pipeline.run` does.

    `input` is a file, a folder or a glob. `questions` is a file, a list of texts, or rows (mappings or a
    DataFrame) with the columns of a questions file. `schema` is a JSON schema, a file of one, or a pydantic
    model. Without a `task` it is `extract` with a schema, `qa` with questions, else `describe`. `settings`
    are any others, by their names on the command line: {"engine.workers": 2}.

    Finished work is kept in `output`: the same call again asks only what is new. Failures of single documents
    are rows. Raises SettingsError for what cannot be run, other PipelineErrors when the run cannot go on, and
    KeyboardInterrupt when it was interrupted; finished answers are kept in each case.
    """
    default = "extract" if schema is not None else "qa" if question or questions is not None else None
    given: dict[str, object] = {"input": str(input), "output": str(output), "task": task or default}
    given |= {"model": model, "engine": engine, "task.question": question}
    given["task.schema"] = None if schema is None else _as_schema(schema)
    with store.opened(str(output)) as folder:
        logs = _log_folder(folder)
        given["task.questions"] = None if questions is None else _as_file(questions, logs)
        chosen = {name: value for name, value in given.items() if value is not None}
        return _run(composed_from(chosen | dict(settings or {})), logs)


def _run(settings: RunSettings, logs: Path) -> Run:
    from pipeline.run import execute

    output = settings.output if objects.is_url(settings.output) else Path(settings.output)
    with logged_to(logs):
        try:
            return Run(output, execute(settings))
        except Interrupted as signalled:
            # What notebooks and scripts expect of Ctrl-C.
            raise KeyboardInterrupt(f"{signalled}: finished work is saved; call again to continue") from None


def ask(
    question: str,
    *,
    model: str | None = None,
    engine: str | None = None,
    settings: Mapping[str, object] | None = None,
) -> str:
    """Return the reply to one question without any document; as `docbatch ask` does, nothing is stored.

    Raises SettingsError for what cannot be asked, and EngineLost when the engine gives no reply.
    """
    from pipeline.flow import single

    with tempfile.TemporaryDirectory() as folder:
        given: dict[str, object] = {"input": ".", "output": folder, "model": model, "engine": engine}
        chosen = {name: value for name, value in given.items() if value is not None}
        return single.ask(composed_from(chosen | dict(settings or {})), question)


def load(output: str | Path) -> Run:
    """Return what runs have written to an output directory. Raises OutputError where there is nothing."""
    run = Run(str(output) if objects.is_url(str(output)) else Path(output))
    _ = run.answers  # a wrong path is said here, not where the table is first used
    return run


def _log_folder(output: Path) -> Path:
    folder = output / "logs" / f"{dt.datetime.now():%Y-%m-%dT%H-%M-%S}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"output={output}: cannot be written ({error.strerror}); choose another folder"
        ) from error
    return folder


def _as_file(questions: Questions, folder: Path) -> str:
    """Return a file of the questions: those given as values are written down, beside the run's log."""
    if isinstance(questions, str | Path):
        return str(questions)
    file = folder / "questions.jsonl"
    import pandas as pd

    if not isinstance(questions, pd.DataFrame):
        rows = ({"question": row} if isinstance(row, str) else dict(row) for row in questions)
        # pandas refuses half of a surrogate pair.
        questions = pd.DataFrame(
            [{n: clean_text(v) if isinstance(v, str) else v for n, v in row.items()} for row in rows]
        )
    # convert_dtypes: a page number beside a gap is a float until then, and a gap is not always None.
    plain = questions.convert_dtypes()
    plain.to_json(file, orient="records", lines=True, force_ascii=False, date_format="iso")
    return str(file)


def _as_schema(schema: Mapping[str, object] | type[Model] | str | Path) -> object:
    if isinstance(schema, str | Path):
        return str(schema)
    return dict(schema) if isinstance(schema, Mapping) else schema.model_json_schema()
