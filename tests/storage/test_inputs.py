"""Inputs in object storage are found as those of a disk are, and lie here only while they are worked on."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from faulty_proxy import BUSY, DENIED, PASS, Proxy

from pipeline import objects
from pipeline.config import ShardSettings, SourceSettings
from pipeline.errors import SettingsError, StorageError
from pipeline.objects import Place
from pipeline.reading import bucket as stored
from pipeline.reading import source
from pipeline.records import Document

EVERYTHING = SourceSettings(include=[], exclude=[], follow_links=False)
WHOLE = ShardSettings(index=0, count=1, planned=False)


def balance(costs: Sequence[float], count: int) -> list[int]:
    return [index % count for index in range(len(costs))]


def find(input_: str, scratch: Path | None = None) -> source.Found:
    return source.find(input_, EVERYTHING, WHOLE, balance, str(scratch) if scratch else None)


def upload(folder: Path, to: Place) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            objects.put(to.below(file.relative_to(folder).as_posix()), file.read_bytes())


@pytest.fixture
def folder(make_pdf: Callable[..., Path], tmp_path: Path) -> Path:
    for name in ("a.pdf", "b c.pdf", "sub/d.pdf", "sub/deep/é.pdf", ".hidden/e.pdf", "sub/~$f.pdf"):
        make_pdf(f"in/{name}", f"This is {name}.")
    make_pdf("in/run/_journal/x/g.pdf", "an output")
    make_pdf("in/run/report/h.pdf", "an output")
    make_pdf("in/copy.pdf", "x")
    given = tmp_path / "in"
    (given / "copy.pdf").write_bytes((given / "a.pdf").read_bytes())
    (given / "note.txt").write_text("no document")
    (given / "broken.pdf").write_bytes(b"\x00\x01 no pdf")
    (given / "empty.pdf").write_bytes(b"")
    (given / "noending").write_bytes((given / "a.pdf").read_bytes())
    (given / "book.docx").write_bytes(b"PK\x03\x04 no book")
    return given


def told(found: source.Found) -> list[tuple[object, ...]]:
    documents = list(found.documents)
    return [
        (d.source, d.kind, d.bytes, d.document_id, d.duplicate_of, d.failure and d.failure.code)
        for d in documents
    ]


@pytest.mark.parametrize("pattern", ["", "/", "/*.pdf", "/**/*.pdf", "/sub", "/sub/*/*.pdf", "/a.pdf", "/**"])
def test_the_same_inputs_are_found_as_on_a_disk(bucket: Place, folder: Path, pattern: str) -> None:
    upload(folder, bucket.below("in"))
    here, there = find(f"{folder}{pattern}"), find(f"{bucket.below('in')}{pattern}")
    assert told(here) == told(there)
    assert here.ignored == there.ignored and here.all_sources == there.all_sources


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nothing/", "nothing is there to read"),
        ("in/*.doc", "no file matches"),
        ("in/note.txt", "this kind of file is not read here"),
    ],
)
def test_an_input_that_is_not_there_is_said(bucket: Place, folder: Path, url: str, says: str) -> None:
    upload(folder, bucket.below("in"))
    with pytest.raises(SettingsError, match=says):
        find(str(bucket.below(url)))


def test_a_copy_lies_here_only_while_its_document_is_worked_on(
    bucket: Place, make_pdf: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_pdf("x.pdf", "x").read_bytes()
    for number in range(60):
        objects.put(bucket.below(f"in/{number:02}.pdf"), data + b"%" * number)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    most, seen, last = 0, 0, None
    found = find(str(bucket.below("in/")), scratch)
    for last in found.documents:
        assert last.path.read_bytes().startswith(b"%PDF")
        most, seen = max(most, len(list(scratch.glob("*/*.pdf")))), seen + 1
    assert seen == 60 and most <= 2 * stored._AHEAD
    del found, last
    gc.collect()
    assert not list(scratch.iterdir())


def failures(documents: Sequence[Document]) -> dict[str, str]:
    return {d.source: d.failure.message for d in documents if d.failure}


def test_an_object_that_may_not_be_read_or_has_changed_costs_its_own_row(
    bucket: Place, make_pdf: Callable[..., Path], proxy: Proxy
) -> None:
    data = make_pdf("x.pdf", "x").read_bytes()
    for name in ("denied", "changed", "gone", "good"):
        objects.put(bucket.below(f"in/{name}.pdf"), data)
    proxy.fault = lambda asked: DENIED if "/in/denied" in asked.path and asked.method == "GET" else PASS
    found = find(str(bucket.below("in")))
    objects.put(bucket.below("in/changed.pdf"), data + b"%")
    objects.delete(bucket.below("in/gone.pdf"))
    assert failures(list(found.documents)) == {
        "denied.pdf": "denied.pdf: may not be read with these credentials; check the credentials and what"
        " they are allowed to do",
        "changed.pdf": "changed.pdf: has changed; run again",
        "gone.pdf": "gone.pdf: is not there; check the name",
    }


def test_a_storage_that_goes_away_ends_the_run_and_makes_no_rows_of_errors(
    bucket: Place, make_pdf: Callable[..., Path], proxy: Proxy
) -> None:
    objects.put(bucket.below("in/a.pdf"), make_pdf("x.pdf", "x").read_bytes())
    found = find(str(bucket.below("in")))
    proxy.fault = lambda asked: BUSY
    with pytest.raises(StorageError, match="503 SlowDown"):
        list(found.documents)


def test_a_folder_without_room_is_no_fault_of_the_document(
    bucket: Place, make_pdf: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.put(bucket.below("in/a.pdf"), make_pdf("x.pdf", "x").read_bytes())

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stored, "_take", full)
    with pytest.raises(StorageError, match=r"cannot take a copy of a.pdf, 1 MB \(No space left"):
        list(find(str(bucket.below("in/a.pdf"))).documents)


def test_copies_that_come_at_the_same_time_have_names_of_their_own(
    bucket: Place, make_pdf: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_pdf("x.pdf", "x").read_bytes()
    for number in range(16):
        objects.put(bucket.below(f"in/{number:02}.pdf"), data + b"%" * number)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns in the middle of everything
    try:
        documents = list(find(str(bucket.below("in/"))).documents)
    finally:
        sys.setswitchinterval(before)
    assert len({document.path for document in documents}) == len({d.document_id for d in documents}) == 16
