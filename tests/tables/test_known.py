"""What is known of an output after runs that were killed before they could publish."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from pipeline.config import ShardSettings, SinkSettings
from pipeline.errors import OutputError
from pipeline.records import (
    Answer,
    Cell,
    Completion,
    Document,
    DocumentRow,
    Failure,
    Outline,
    Question,
    Request,
    Subject,
)
from pipeline.tables.rows import Stamp
from pipeline.tables.sink import Tables, opened

WHOLE = ShardSettings(index=0, count=1, planned=False)
SETTINGS = SinkSettings(journal_seconds=5, journal_parts=64, checkpoint_rows=20_000)
DOCUMENT = Document("a.pdf", Path("a.pdf"), "pdf", 1, "id")
CELL = Cell("answer", Subject("document", "a.pdf", "id", (), 1), Question("q", "Q?"))
OK, NOT_ASKED = Answer(CELL, "ok", answer="said"), Answer(CELL, "not_asked")
FAILED = Answer(CELL, "error", Failure("truncated", "a.pdf, q: cut"))


def run(output: Path, settings_hash: str) -> Iterator[Tables]:
    stamp = Stamp(model="m", engine="e", task="qa", run_id="r", settings_hash=settings_hash)
    with opened(output, WHOLE, SETTINGS, stamp, {}) as tables:
        tables.wanted.add_document(DOCUMENT)
        tables.wanted.want(CELL)
        yield tables


def killed(output: Path, answer: Answer, settings_hash: str) -> None:
    """Journal an answer, as a run does that is killed before it publishes."""
    for tables in run(output, settings_hash):
        tables.sink.add_answer(answer)
        tables.sink.commit()


@pytest.mark.parametrize("last", [OK, FAILED, NOT_ASKED])
@pytest.mark.parametrize("first", [OK, FAILED, NOT_ASKED])
def test_only_the_last_of_several_rows_of_an_answer_is_known(
    tmp_path: Path, first: Answer, last: Answer
) -> None:
    killed(tmp_path, first, "old settings")
    killed(tmp_path, last, "new settings")
    for tables in run(tmp_path, "new settings"):
        assert tables.known.is_finished(CELL, retry_errors=True) == (last is OK)
        assert tables.known.failure(CELL) == last.failure
        assert tables.known.was_not_asked(CELL) == (last is NOT_ASKED)
        kept, answered, failed = tables.known.count(tables.wanted.cells())
        not_asked = tables.known.count_not_asked(tables.wanted.cells())
        assert kept + answered + failed.total() + not_asked == 1


def test_an_answer_is_not_kept_whose_last_row_is_an_error_under_other_settings(tmp_path: Path) -> None:
    killed(tmp_path, OK, "old settings")
    killed(tmp_path, FAILED, "new settings")
    for tables in run(tmp_path, "old settings"):
        # Published would be the error, the newest row: the run must not count the answer before it as kept.
        assert not tables.known.is_finished(CELL, retry_errors=True)


def test_an_error_that_keeps_a_better_answer_than_before_gets_a_new_row(tmp_path: Path) -> None:
    partial = replace(FAILED, answer="of four pages", pages_read=4)
    killed(tmp_path, partial, "s")
    for tables in run(tmp_path, "s"):
        tables.sink.add_answer(partial)  # as it was
        tables.sink.commit()
        assert tables.known.journal_rows == 1
        tables.sink.add_answer(replace(partial, answer="of five pages", pages_read=5))
        tables.sink.commit()
        tables.sink.publish(complete=True)
    assert pd.read_parquet(tmp_path / "answers")["answer"].tolist() == ["of five pages"]


def test_an_error_that_keeps_an_answer_is_derived_again_under_other_settings(tmp_path: Path) -> None:
    killed(tmp_path, replace(FAILED, answer="short"), "old settings")
    for tables in run(tmp_path, "new settings"):
        tables.sink.add_answer(replace(FAILED, answer="long"))
        tables.sink.commit()
        tables.sink.publish(complete=True)
    published = pd.read_parquet(tmp_path / "answers")
    assert published[["answer", "settings_hash"]].values.tolist() == [["long", "new settings"]]


@pytest.mark.parametrize("name", ["answers", "documents", "requests"])
@pytest.mark.parametrize("is_published", [True, False])
def test_a_damaged_file_is_named_and_what_to_do(tmp_path: Path, name: str, is_published: bool) -> None:
    request = Request("r", CELL, "ask", (), "Q?", 10)
    for tables in run(tmp_path, "s"):
        tables.sink.add_request(request, Completion("said", "stop"))
        tables.sink.add_document(DocumentRow.of(Outline(DOCUMENT)))
        tables.sink.add_answer(FAILED)
        tables.sink.commit()
        if is_published:
            tables.sink.publish(complete=True)
    (file,) = tmp_path.glob(
        f"{name}/shard-*.parquet" if is_published else f"_journal/*/part-*/{name}.parquet"
    )
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(OutputError, match=rf"{name}.*\.parquet: cannot be read \(.*\); restore it"):
        next(run(tmp_path, "s"))
