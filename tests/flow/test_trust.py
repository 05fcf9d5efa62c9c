"""What an engine may say, or do, without hurting any answer but its own: played through whole runs."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pymupdf
import pytest
import scripted

from pipeline.asking.tokens import TokenCounter
from pipeline.config import RunSettings
from pipeline.errors import EngineLost, SettingsError
from pipeline.flow.progress import describe
from pipeline.flow.session import Session
from pipeline.records import Request
from pipeline.run import execute, plan
from pipeline.workers import Task

GOOD = '{"answer": "fine", "pages": [1], "quote": "Some words on this page."}'
SCHEMA = (
    "task.schema={type: object, properties: {number: {type: integer}, share: {type: number}, "
    "sums: {type: array, items: {type: [number, 'null']}}, name: {type: string}}}"
)
HOSTILE = {
    "an integer over int64": '{"number": 9223372036854775808, "share": null, "sums": null, "name": null}',
    "a number of 400 digits": '{"number": null, "share": ' + "9" * 400 + ', "sums": null, "name": null}',
    "an integer of 5000 digits": '{"number": ' + "9" * 5000 + ', "share": null, "sums": null, "name": null}',
    "a number without end": '{"number": null, "share": 1e999, "sums": null, "name": null}',
    "not a number": '{"number": null, "share": NaN, "sums": null, "name": null}',
    "deep nesting": "[" * 100_000,
    "deep objects": '{"name":' * 50_000,
    "a text in a list of numbers": '{"number": null, "share": null, "sums": [1, "x"], "name": null}',
    "no JSON": "I cannot answer that.",
    "nothing": "",
    "half a character": "\ud800",
    "another shape": '["number", 1]',
    "true for a number": '{"number": true, "share": null, "sums": null, "name": null}',
}


@pytest.fixture
def three(make_pdf: Callable[..., Path]) -> Path:
    for name in "abc":
        make_pdf(f"in/{name}.pdf", f"Some words on this page. {name}")
    return make_pdf("in/a.pdf", "Some words on this page. a").parent


def answers(settings: RunSettings) -> pd.DataFrame:
    return pd.read_parquet(Path(settings.output) / "answers").set_index("source")


def run_json(settings: RunSettings) -> dict[str, object]:
    return dict(json.loads((Path(settings.output) / "run.json").read_text()))


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_a_hostile_reply_costs_its_own_row(
    compose: Callable[..., RunSettings], three: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    good = (
        '{"answer": {"number": 7, "share": 0.5, "sums": [1, null], "name": "x"}, "pages": [1], "quote": null}'
    )

    def reply(request: Request) -> scripted.Play:
        inner = HOSTILE[kind]
        hostile = f'{{"answer": {inner}, "pages": [1], "quote": null}}' if inner.startswith("{") else inner
        return scripted.says(hostile if request.cell.subject.source == "b.pdf" else good)

    scripted.install(monkeypatch, reply)
    settings = compose(f"input={three}", "engine=vllm", "task=extract", SCHEMA, "engine.repair_attempts=0")
    execute(settings)
    table = answers(settings)
    assert table["status"].to_dict() == {"a.pdf": "ok", "b.pdf": "error", "c.pdf": "ok"}
    assert table["error_code"]["b.pdf"] == "schema_invalid"
    assert table["needs_review"]["b.pdf"]
    assert table["field_number"].dropna().tolist() == [7, 7]
    assert run_json(settings)["state"] == "complete"
    again = execute(settings)  # the next run asks for that row alone
    assert (again.requests, again.reused) == (1, 2)


def test_an_answer_made_without_a_page_is_asked_again_when_the_page_can_be_read(
    compose: Callable[..., RunSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    with pymupdf.open() as document:
        for text in ("First page.", "Second page.", "Third page."):
            document.new_page().insert_text((72, 72), text)
        lines = b" ".join(
            b"%d 0 m %d 842 l %d 400 l S" % (n % 595, (7 * n) % 595, n % 300)
            for n in range(10_000)  # seconds of work
        )
        document.update_stream(document[1].get_contents()[0], b"40 w " + lines)
        document.save(tmp_path / "in" / "a.pdf", deflate=True)
    given = [f"input={tmp_path / 'in'}", "engine=vllm", "task=qa", "task.question=Which?"]
    engine = scripted.install(monkeypatch, lambda request: scripted.says(GOOD))
    execute(first := compose(*given, "raster.page_timeout_s=1.5"))
    (row,) = answers(first).to_dict("records")
    assert (row["error_code"], row["pages_read"]) == ("render_timeout", 2)
    assert [page.number for page in engine.asked[0].pages] == [1, 3]
    engine = scripted.install(monkeypatch, lambda request: scripted.says(GOOD))
    execute(second := compose(*given, "raster.page_timeout_s=600"))
    assert [page.number for page in engine.asked[0].pages] == [1, 2, 3]
    (row,) = answers(second).to_dict("records")
    assert (row["status"], row["pages_read"]) == ("ok", 3)


def test_a_file_renamed_in_a_folder_is_asked_about_under_its_new_name(
    compose: Callable[..., RunSettings], three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [f"input={three}", "engine=vllm", "task=qa", "task.scope=folder", "task.question=Which?"]
    scripted.install(monkeypatch, lambda request: scripted.says(GOOD))
    execute(compose(*given))
    (three / "b.pdf").rename(three / "bb.pdf")
    engine = scripted.install(monkeypatch, lambda request: scripted.says(GOOD))
    execute(compose(*given))
    assert any("bb.pdf" in page.label for request in engine.asked for page in request.pages)


def test_an_engine_that_is_lost_keeps_every_answer_before(
    compose: Callable[..., RunSettings], three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [f"input={three}", "engine=vllm", "task=qa", "task.question=Which?"]

    def dies(request: Request) -> scripted.Play:
        lost = EngineLost("the engine is gone")
        return lost if request.cell.subject.source == "b.pdf" else scripted.says(GOOD)

    scripted.install(monkeypatch, dies)
    settings = compose(*given)
    with pytest.raises(EngineLost):
        execute(settings)
    assert list(answers(settings).index) == ["a.pdf"]
    assert run_json(settings)["state"] == "failed"
    engine = scripted.install(monkeypatch, lambda request: scripted.says(GOOD))
    summary = execute(settings)
    assert sorted(request.cell.subject.source for request in engine.asked) == ["b.pdf", "c.pdf"]
    assert (summary.answered, summary.reused) == (2, 1)


def test_an_error_is_asked_again_and_its_reply_is_not_taken_for_the_new_one(
    compose: Callable[..., RunSettings], three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [f"input={three}", "engine=vllm", "task=qa", "task.question=Which?"]
    scripted.install(monkeypatch, lambda request: scripted.says("never JSON"))
    execute(compose(*given))
    engine = scripted.install(monkeypatch, lambda request: scripted.says(GOOD))
    summary = execute(settings := compose(*given))
    assert len(engine.asked) == 3
    assert summary.answered == 3
    assert set(answers(settings)["answer"]) == {"fine"}


def test_overlapping_patterns_give_a_document_each_question_once(
    compose: Callable[..., RunSettings], three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "q.csv"
    file.write_text("question_id,question,document\nq,General?,\nq,Glob?,*.pdf\nq,Exact?,b.pdf\n")
    scripted.install(monkeypatch, lambda request: scripted.says(GOOD))
    execute(settings := compose(f"input={three}", "engine=vllm", "task=qa", f"task.questions={file}"))
    assert answers(settings)["question"].to_dict() == {"a.pdf": "Glob?", "b.pdf": "Exact?", "c.pdf": "Glob?"}


def test_two_names_of_the_same_bytes_do_not_delete_each_others_pages(
    compose: Callable[..., RunSettings], three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (three / "copy.pdf").write_bytes((three / "a.pdf").read_bytes())
    file = tmp_path / "q.csv"
    file.write_text("question_id,question,document\none,One?,a.pdf\ntwo,Two?,copy.pdf\n")
    missing: list[str] = []

    def reply(request: Request) -> scripted.Play:
        missing.extend(str(page.image) for page in request.pages if not page.image or not page.image.exists())
        return scripted.says(GOOD)

    scripted.install(monkeypatch, reply, windows_ahead=1)
    given = [f"input={three}", "engine=vllm", "task=qa", f"task.questions={file}", "pack.window_tokens=4000"]
    execute(settings := compose(*given))
    assert not missing
    assert answers(settings)["question_id"].to_dict() == {"a.pdf": "one", "copy.pdf": "two"}


def test_questions_about_no_input_are_named_and_refused_when_none_is_left(
    compose: Callable[..., RunSettings], three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "q.csv"
    file.write_text("question_id,question,document\none,One?,a.pdf\ntwo,Two?,nowhere/a.pdf\n")
    given = [f"input={three}", "engine=vllm", "task=qa", f"task.questions={file}"]
    scripted.install(monkeypatch, lambda request: scripted.says(GOOD))
    summary = execute(settings := compose(*given))
    assert summary.questions_unmatched == ["nowhere/a.pdf"]
    assert "nowhere/a.pdf" in describe(summary, settings.output)
    assert "1 document patterns match no input" in plan(settings)
    before = answers(settings)
    file.write_text("question_id,question,document\ntwo,Two?,nowhere/a.pdf\n")
    with pytest.raises(SettingsError, match=r"1 of 1 questions name documents .*nowhere/a\.pdf"):
        execute(compose(*given))
    pd.testing.assert_frame_equal(before, answers(settings))


def test_an_input_that_is_gone_leaves_the_tables_as_they_are(
    compose: Callable[..., RunSettings], three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [f"input={three}", "engine=vllm", "task=qa", "task.question=Which?"]
    scripted.install(monkeypatch, lambda request: scripted.says(GOOD))
    execute(settings := compose(*given))
    before = answers(settings)
    for file in three.iterdir():
        file.unlink()
    with pytest.raises(SettingsError, match="input="):
        execute(compose(*given))
    pd.testing.assert_frame_equal(before, answers(settings))


def test_the_summary_says_what_was_kept_and_what_left(
    compose: Callable[..., RunSettings], three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [f"input={three}", "engine=vllm", "task=qa"]
    scripted.install(monkeypatch, lambda request: scripted.says(GOOD))
    (three / "copy.pdf").write_bytes((three / "a.pdf").read_bytes())
    first = execute(settings := compose(*given, "task.question=Which?"))
    assert (first.documents, first.cells, first.answered, first.reused) == (3, 4, 4, 0)
    (three / "c.pdf").unlink()
    second = execute(settings)
    assert (second.documents, second.cells, second.answered, second.reused) == (0, 3, 0, 3)
    assert second.rows_left == {"of files that are not among the inputs": 1}
    assert "1 rows of files that are not among the inputs" in describe(second, settings.output)
    third = execute(compose(*given, "task.question=Another?"))
    assert (third.answered, third.reused) == (3, 0)
    assert "none of the" in describe(third, settings.output)
    other = execute(compose(f"input={three}", "engine=vllm", "task=describe"))
    assert (other.cells, other.earlier) == (3, 0)
    assert "none of the" not in describe(other, settings.output)  # those are of another task


def test_replies_may_come_in_any_order(
    compose: Callable[..., RunSettings], make_pdf: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_pdf("in/long.pdf", *(f"Page {n} of the long one." for n in range(1, 65))).parent
    make_pdf("in/short.pdf", "Some words on this page.")

    def reply(request: Request) -> scripted.Play:
        text = GOOD if request.kind == "ask" else '{"answer": "merged", "pages": [1], "quote": null}'
        return scripted.Late(scripted.says(text), calls=3 - request.position)

    engine = scripted.install(monkeypatch, reply, windows_ahead=1, last_first=True)
    execute(settings := compose(f"input={folder}", "engine=vllm", "task=qa", "task.question=Which?"))
    table = answers(settings)
    assert table["answer"].to_dict() == {"long.pdf": "merged", "short.pdf": "fine"}
    assert table["pages_read"].to_dict() == {"long.pdf": 64, "short.pdf": 1}
    assert sum(request.kind == "merge" for request in engine.asked) == 1


@pytest.mark.parametrize("room, most", [(100_000, 100_000), (20_000, 2 * 20_000)])
def test_an_engine_has_all_that_its_cache_holds_before_the_first_reply(
    compose: Callable[..., RunSettings],
    make_pdf: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    room: int,
    most: int,
) -> None:
    """The first windows are small, and a reply of one comes late: reading must not stop for it."""
    for number in range(20):
        folder = make_pdf(f"in/{number:02}.pdf", f"Some words on this page. {number}").parent
    in_hand: list[int] = []

    def reply(request: Request) -> scripted.Play:
        in_hand.append(sum(each.prompt_tokens for each in engine.asked[len(in_hand) :]))
        return scripted.says(GOOD)

    engine = scripted.install(monkeypatch, reply, windows_ahead=1, window_tokens=room)
    given = [f"input={folder}", "engine=vllm", "task=qa", "task.question=Which?", "pack.window_tokens=100000"]
    execute(compose(*given))
    everything = sum(request.prompt_tokens for request in engine.asked)
    assert in_hand[0] >= min(room, everything)
    assert max(in_hand) <= most
    assert len(in_hand) == 20


def test_parts_that_say_the_same_in_two_groups_are_merged_group_by_group(
    compose: Callable[..., RunSettings], make_pdf: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def reply(request: Request) -> scripted.Play:
        # Long enough that not all of them fit one request: two groups of parts have the very same words.
        text = "no " * 1200 if request.kind == "ask" else "nowhere"
        return scripted.says(json.dumps({"answer": text, "pages": [], "quote": None}))

    folder = make_pdf("in/a.pdf", *(f"Page {number}." for number in range(4))).parent
    engine = scripted.install(monkeypatch, reply)
    settings = compose(
        f"input={folder}", "engine=vllm", "task=qa", "task.question=Where?", "pack.max_images=1",
        "model.context_tokens=4500", "task.max_output_tokens=400",
    )  # fmt: skip
    execute(settings)
    assert [request.kind for request in engine.asked].count("merge") == 3
    assert answers(settings)["answer"].tolist() == ["nowhere"]
    requests = pd.read_parquet(Path(settings.output) / "requests")
    assert requests["request_id"].is_unique
    assert len(requests) == 7


@pytest.mark.parametrize("scope", ["document", "page", "folder"])
def test_the_rows_of_files_that_cannot_be_read_say_each_why(
    compose: Callable[..., RunSettings], three: Path, monkeypatch: pytest.MonkeyPatch, scope: str
) -> None:
    for name in ("one/x.pdf", "two/y.pdf"):
        (three / name).parent.mkdir()
        (three / name).symlink_to(three / "nowhere")
    scripted.install(monkeypatch, lambda request: scripted.says(GOOD))
    task = ["task=qa", "task.question=What?", f"task.scope={scope}"]
    settings = compose(f"input={three}", "engine=vllm", *task)
    execute(settings)
    failed = answers(settings).query("status == 'error'")
    assert len(failed) == failed["answer_id"].nunique() == 2
    for source, error in failed["error"].items():
        assert str(error).startswith(f"{source}")


def test_a_run_leaves_nothing_in_memory_when_it_ends(
    compose: Callable[..., RunSettings], three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.install(monkeypatch, lambda _: scripted.says(GOOD))
    (three / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing else")
    (three / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing else")
    gc.collect()
    gc.disable()  # freed at once: Python collects circles late, for it sees nothing of the vocabulary's size
    try:
        execute(compose(f"input={three}", "engine=vllm", "task=qa", "task.question=Which?"))
        assert not [each for each in gc.get_objects() if isinstance(each, Session | TokenCounter | Task)]
    finally:
        gc.enable()
