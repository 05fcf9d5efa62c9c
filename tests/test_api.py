"""The package from Python: in scripts, threads and other Hydra apps, with questions and schemas as values."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import nbclient
import nbformat
import pandas as pd
import pydantic
import pytest

import pipeline
from pipeline.api import _as_file
from pipeline.errors import OutputError, SettingsError

FEW = {"raster.workers": 1, "engine.workers": 1}


class Invoice(pydantic.BaseModel):
    supplier: str
    total: float | None = None


@pytest.fixture
def invoices(make_pdf: Callable[..., Path]) -> Path:
    make_pdf("in/a.pdf", "Supplier: Nordwind Ltd\nTotal: 12.50\nThe parcel left the harbour on Monday.")
    return make_pdf("in/b.pdf", "Supplier: Ostsee Ltd\nTotal: 40.25\nThe crate is in the yard.").parent


def test_questions_as_texts_rows_or_a_frame_give_the_same_answers(invoices: Path, tmp_path: Path) -> None:
    rows = [
        {"question_id": "q1", "question": "When did the parcel leave?", "document": "a.pdf", "page": 1},
        {"question_id": "q2", "question": "Where is the crate?", "document": None, "page": float("nan")},
    ]
    run = pipeline.answer(invoices, questions=rows, engine="embedded", output=tmp_path / "rows", settings=FEW)
    found = run.answers
    assert found[["source", "question_id"]].values.tolist() == [
        ["a.pdf", "q1"], ["a.pdf", "q2"], ["b.pdf", "q2"],
    ]  # fmt: skip
    assert "Monday" in found["answer"][0] and "yard" in found["answer"][2]
    assert found["gold_page"][0] == "1"
    assert str(found["pages_total"].dtype) == "Int32" and str(found["needs_review"].dtype) == "boolean"
    frame = pd.DataFrame(rows)
    again = pipeline.answer(
        invoices, questions=frame, engine="embedded", output=tmp_path / "rows", settings=FEW
    )
    assert again.summary is not None and again.summary.reused == 3
    pd.testing.assert_frame_equal(again.answers, found)
    texts = pipeline.answer(
        invoices,
        questions=["What does ${total} cost?"],
        engine="embedded",
        output=tmp_path / "texts",
        settings=FEW,
    )
    assert set(texts.answers["question"]) == {"What does ${total} cost?"}


def test_a_pydantic_model_is_a_schema_with_typed_columns(invoices: Path, tmp_path: Path) -> None:
    run = pipeline.answer(invoices, schema=Invoice, engine="embedded", output=tmp_path / "out", settings=FEW)
    assert run.answers.set_index("source")["field_total"].to_dict() == {"a.pdf": 12.5, "b.pdf": 40.25}
    loaded = pipeline.load(tmp_path / "out")
    pd.testing.assert_frame_equal(loaded.answers, run.answers)
    assert loaded.record["state"] == "complete"
    assert loaded.documents["status"].tolist() == ["ok", "ok"]


def test_mistakes_are_errors_that_say_what_to_do(invoices: Path, tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"engine\.wokers: there is no such setting; did you mean engine\.workers"
    ):
        pipeline.answer(invoices, output=tmp_path / "out", settings={"engine.wokers": 2})
    with pytest.raises(SettingsError, match=r"task=qas: is unknown; there are .*describe"):
        pipeline.answer(invoices, task="qas", output=tmp_path / "out")
    with pytest.raises(OutputError, match="has no published answers"):
        pipeline.load(tmp_path / "elsewhere")


def test_threads_answer_side_by_side(invoices: Path, tmp_path: Path) -> None:
    runs: dict[int, pipeline.Run] = {}

    def work(number: int) -> None:
        runs[number] = pipeline.answer(
            invoices,
            question=f"Where is crate {number}?",
            task="qa",
            engine="embedded",
            output=tmp_path / f"out-{number}",
            settings=FEW,
        )

    threads = [threading.Thread(target=work, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: set(run.answers["question"]) for n, run in runs.items()} == {
        0: {"Where is crate 0?"}, 1: {"Where is crate 1?"},
    }  # fmt: skip


SCRIPT = """
import hydra
from omegaconf import DictConfig
import pipeline
from pipeline.api import _as_file

@hydra.main(version_base="1.2", config_path=None)
def app(config: DictConfig) -> None:
    run = pipeline.answer({input!r}, question="Where is the crate?", engine="embedded",
                          output={output!r}, settings={{"raster.workers": 1, "engine.workers": 1}})
    print("rows", len(run.answers), hydra.core.hydra_config.HydraConfig.get().job.name)

app()
"""


def test_a_script_without_a_guard_that_is_itself_a_hydra_app(invoices: Path, tmp_path: Path) -> None:
    script = tmp_path / "own_app.py"
    script.write_text(textwrap.dedent(SCRIPT.format(input=str(invoices), output=str(tmp_path / "out"))))
    ended = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "rows 2 own_app"  # above it: what that app does with logs


def test_the_notebook_runs_from_the_first_cell_to_the_last(tmp_path: Path) -> None:
    project = Path(__file__).parents[1]
    # A copy, so that what it writes lies in the test's own folder.
    (tmp_path / "docs").mkdir()
    (tmp_path / "data").symlink_to(project / "data")
    notebook = nbformat.read(  # type: ignore[no-untyped-call]
        project / "docs" / "first-ten-minutes.ipynb", as_version=4
    )
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path / "docs")}}
    )
    ended = client.execute()
    tables = [output for cell in ended.cells for output in cell.get("outputs", ()) if "data" in output]
    assert len(tables) >= 8
    assert "r6-user-password.pdf" in str(tables[1])


def test_questions_with_half_a_character_are_asked_without_it(tmp_path: Path) -> None:
    file = _as_file([{"question": "What\ud800?", "page": 1}], tmp_path)
    assert json.loads(Path(file).read_text(encoding="utf-8")) == {"question": "What\ufffd?", "page": 1}
