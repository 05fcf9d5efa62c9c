from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import socket
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pymupdf
import pytest
from conftest import SAMPLES
from PIL import Image

from pipeline.config import ShardSettings, SourceSettings
from pipeline.errors import SettingsError
from pipeline.reading import kinds, source
from pipeline.records import Document
from pipeline.sharding.balance import balance

EVERYTHING = SourceSettings(include=[], exclude=[], follow_links=False)
WHOLE = ShardSettings(index=0, count=1, planned=False)


def find(
    folder: Path | str, shard: ShardSettings = WHOLE, settings: SourceSettings = EVERYTHING
) -> list[Document]:
    return list(source.find(str(folder), settings, shard, balance).documents)


def test_every_format_is_recognised_by_its_content_whatever_its_name(tmp_path: Path) -> None:
    picture = Image.new("RGB", (20, 10), "red")
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"):
        picture.save(tmp_path / f"is-{kind.lower()}", format=kind)
    (tmp_path / "is-svg").write_text(
        '<?xml version="1.0"?>\n<!-- a chart -->\n<svg xmlns="http://www.w3.org/2000/svg"/>'
    )
    with pymupdf.open() as document:
        document.new_page()
        document.save(tmp_path / "is-pdf")
    found = {d.source: d.kind for d in find(tmp_path)}
    assert found == {name: name.removeprefix("is-") for name in sorted(found)}
    assert len(found) == 8


def test_a_packed_file_under_a_documents_name_is_to_be_unpacked_and_others_are_ignored(
    tmp_path: Path,
) -> None:
    packed = {"gzip": gzip.compress(b"x"), "bzip2": bz2.compress(b"x"), "xz": lzma.compress(b"x")}
    for program, content in packed.items():
        (tmp_path / f"{program}.pdf").write_bytes(content)
        (tmp_path / f"{program}.log").write_bytes(content)
    failures = {d.source: d.failure for d in find(tmp_path)}
    assert sorted(failures) == ["bzip2.pdf", "gzip.pdf", "xz.pdf"]
    for program in packed:
        failure = failures[f"{program}.pdf"]
        assert failure is not None and failure.code == "unsupported"
        assert f"packed with {program}; unpack it" in failure.message


def test_an_ending_makes_an_input_even_when_the_content_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "zero.pdf").touch()
    (tmp_path / "noise.pdf").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "page.jpg").write_text("<html><body>gone</body></html>")
    Image.new("L", (8, 8)).save(tmp_path / "chart.pdf", format="PNG")
    codes = {d.source: d.failure.code if d.failure else d.kind for d in find(tmp_path)}
    assert codes == {
        "chart.pdf": "png",
        "noise.pdf": "corrupt",
        "page.jpg": "unsupported",
        "zero.pdf": "empty",
    }


def test_other_files_are_ignored_and_counted(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "table.csv").write_text("a,b")
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    found = source.find(str(tmp_path), EVERYTHING, WHOLE, balance)
    assert [d.source for d in found.documents] == ["a.png"]
    assert sorted(found.ignored) == ["notes.txt", "table.csv"]


@pytest.mark.parametrize(
    "name",
    [
        "two\nlines.png",
        "a\ttab.png",
        "-rf.png",
        "a,b=c (1).png",
        "$HOME;`x`.png",
        "été 日本.png",
        "[1]*?.png",
    ],
)
def test_odd_names_are_found_once(tmp_path: Path, name: str) -> None:
    Image.new("L", (8, 8)).save(tmp_path / name)
    assert [d.source for d in find(tmp_path)] == [name]


def test_a_name_that_is_not_utf8_is_escaped_and_still_opens(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.png"
    Image.new("L", (8, 8)).save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(os.fsdecode(raw))
    (document,) = find(tmp_path)
    assert document.source == "caf\\xe9.png"
    assert document.path.read_bytes().startswith(b"\x89PNG")


def test_links_are_followed_only_to_files_inside_the_input(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    Image.new("L", (8, 8)).save(inside / "a.png")
    Image.new("L", (9, 9)).save(outside / "secret.png")
    (inside / "loop").symlink_to(inside)
    (inside / "also-a.png").symlink_to(inside / "a.png")
    (inside / ".hidden.png").write_bytes((inside / "a.png").read_bytes())
    assert [(d.source, d.duplicate_of) for d in find(inside)] == [("a.png", None), ("also-a.png", "a.png")]


def test_a_link_that_cannot_be_followed_has_a_row_that_says_why(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    Image.new("L", (8, 8)).save(inside / "a.png")
    Image.new("L", (9, 9)).save(outside / "secret.png")
    (inside / "gone.png").symlink_to(inside / "nothing.png")
    (inside / "itself.pdf").symlink_to(inside / "itself.pdf")
    (inside / "leak.png").symlink_to(outside / "secret.png")
    (inside / "shelf.2024").symlink_to(outside)
    rows = {d.source: d for d in find(inside)}
    assert rows.pop("a.png").failure is None
    assert sorted(rows) == ["gone.png", "itself.pdf", "leak.png", "shelf.2024"]
    assert all(d.failure and d.failure.code == "unreadable" and not d.document_id for d in rows.values())
    for name in ("leak.png", "shelf.2024"):
        assert "source.follow_links=true" in rows[name].failure.message  # type: ignore[union-attr]


def test_links_are_followed_out_on_request_and_never_in_a_circle(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    Image.new("L", (8, 8)).save(inside / "a.png")
    Image.new("L", (9, 9)).save(outside / "b.png")
    (inside / "link.png").symlink_to(outside / "b.png")
    (inside / "shelf").symlink_to(outside)
    (inside / "up").symlink_to(tmp_path)
    (outside / "back").symlink_to(inside)
    (outside / "round").symlink_to(outside)
    found = find(inside, settings=replace(EVERYTHING, follow_links=True))
    assert sorted(d.document_id for d in found) == sorted(d.document_id for d in found if d.failure is None)
    names = [d.source for d in found]
    assert names[:2] == ["a.png", "link.png"] and len(names) == 3  # the shelf is read once


def test_a_file_and_a_glob_are_inputs_too(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "x" / "a.png")
    Image.new("L", (9, 8)).save(tmp_path / "x" / "b.png")
    assert [d.source for d in find(tmp_path / "x" / "a.png")] == ["a.png"]
    assert [d.source for d in find(f"{tmp_path}/*/b*.png")] == ["x/b.png"]
    with pytest.raises(SettingsError, match="no such file or folder"):
        find(tmp_path / "missing")
    with pytest.raises(SettingsError, match="no file matches"):
        find(f"{tmp_path}/*.xyz")


def test_an_input_without_a_document_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(SettingsError, match="nothing is there to read"):
        source.find(str(tmp_path / "in"), EVERYTHING, WHOLE, balance)
    (tmp_path / "in" / ".hidden.pdf").write_bytes(b"%PDF-1.4")
    with pytest.raises(SettingsError, match="nothing is there to read"):
        source.find(str(tmp_path / "in"), EVERYTHING, WHOLE, balance)
    for name in ("a.txt", "b.txt", "c.csv", "README"):
        (tmp_path / "in" / name).write_text("hello")
    with pytest.raises(SettingsError, match=r"4 files is a document \(2 \.txt, .*1 without ending"):
        source.find(str(tmp_path / "in"), EVERYTHING, ShardSettings(index=1, count=2, planned=False), balance)
    with pytest.raises(SettingsError, match="is a document"):
        source.find(f"{tmp_path}/in/*.txt", EVERYTHING, WHOLE, balance)


@pytest.mark.parametrize("which", ["include", "exclude"])
def test_patterns_that_leave_nothing_are_refused(tmp_path: Path, which: str) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    given: dict[str, Any] = {which: ["*.pdf"] if which == "include" else ["*"]}
    settings = replace(EVERYTHING, **given)
    with pytest.raises(SettingsError, match="leave out all of its 1 files"):
        source.find(str(tmp_path), settings, WHOLE, balance)


def test_a_folder_of_links_that_all_lead_nowhere_is_refused(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    Image.new("L", (8, 8)).save(outside / "a.png")
    (inside / "a.png").symlink_to(outside / "a.png")
    (inside / "shelf").symlink_to(outside)
    with pytest.raises(SettingsError, match=r"none of its 2 documents can be read.*follow_links=true"):
        source.find(str(inside), EVERYTHING, WHOLE, balance)
    (outside / "a.png").unlink()  # as when what the links lead to is not mounted
    (inside / "shelf").unlink()
    with pytest.raises(SettingsError, match="link to nothing"):
        source.find(str(inside), EVERYTHING, WHOLE, balance)


def refuse(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make listing one folder fail: a test may run as root, whom permissions do not stop."""
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path) == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


@pytest.mark.parametrize("pattern", ["{}", "{}/*/*.png", "{}/**/*.png"])
def test_a_folder_that_cannot_be_listed_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    for name in ("good", "shut"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "a.png")
    refuse(monkeypatch, tmp_path / "shut")
    with pytest.raises(SettingsError, match=r"its folder shut cannot be listed \(Permission denied\)"):
        source.find(pattern.format(tmp_path), EVERYTHING, WHOLE, balance)
    for exclude in ("shut", "shut/*"):
        if pattern != "{}/*/*.png":
            assert [d.source for d in find(tmp_path, settings=replace(EVERYTHING, exclude=[exclude]))] == [
                "good/a.png"
            ]


def test_an_input_folder_that_is_lost_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, tmp_path)
    with pytest.raises(SettingsError, match="the folder cannot be listed"):
        source.find(str(tmp_path), EVERYTHING, WHOLE, balance)


@pytest.mark.parametrize("name", ["report.docx", "notes.txt", "letters.zip", "pipe.pdf"])
def test_a_named_file_that_is_not_read_here_is_one_clear_line(tmp_path: Path, name: str) -> None:
    if name == "pipe.pdf":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).write_text("hello")
    with pytest.raises(SettingsError, match=r"not read here|can be read") as refused:
        source.find(str(tmp_path / name), EVERYTHING, WHOLE, balance)
    assert "\n" not in str(refused.value)


def test_a_shard_without_documents_is_no_error_and_knows_the_names_of_all(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.txt").touch()
    shards = [
        source.find(str(tmp_path), EVERYTHING, ShardSettings(index=i, count=3, planned=False), balance)
        for i in range(3)
    ]
    assert sorted(shard.sources for shard in shards) == [(), (), ("a.png",)]
    assert {shard.all_sources for shard in shards} == {("a.png",)}
    assert shards[0].ignored_by_ending == {".txt": 1}


def office(path: Path, *names: str, mimetype: str = "") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("mimetype",) * bool(mimetype) + names:
            archive.writestr(name, mimetype if name == "mimetype" else "x")


def test_documents_of_formats_that_are_not_read_have_rows_that_say_what_to_do(tmp_path: Path) -> None:
    office(tmp_path / "letter", "[Content_Types].xml", "word/document.xml")
    office(tmp_path / "sheet.xlsx", "[Content_Types].xml", "xl/workbook.xml")
    office(tmp_path / "talk.odp", mimetype="application/vnd.oasis.opendocument.presentation")
    office(tmp_path / "package.jar", "META-INF/MANIFEST.MF")
    office(tmp_path / "bundle.zip", "a.pdf")
    (tmp_path / "old.doc").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    (tmp_path / "memo").write_bytes(b"{\\rtf1 hello}")
    (tmp_path / "photo").write_bytes(b"\0\0\0\x0cjP  \r\n\x87\n")
    (tmp_path / "shot.dng").write_bytes(b"II*\0\x08\0\0\0")
    (tmp_path / "mail.eml").write_text("From: a@b.c\n\nPlease pay 42 EUR.")
    (tmp_path / "flat.fodt").write_text('<?xml version="1.0"?><office:document/>')
    (tmp_path / "logo.svgz").write_bytes(gzip.compress(b"<svg/>"))
    (tmp_path / "id.key").write_text("a key of ssh")
    (tmp_path / "~$letter.docx").write_bytes(bytes(162))
    found = source.find(str(tmp_path), EVERYTHING, WHOLE, balance)
    rows = {d.source: d for d in found.documents}
    assert {name: row.kind for name, row in rows.items()} == {
        "bundle.zip": "zip", "flat.fodt": "fodt", "letter": "docx", "logo.svgz": "svgz", "mail.eml": "eml",
        "memo": "rtf", "old.doc": "doc", "photo": "jp2", "sheet.xlsx": "xlsx", "shot.dng": "dng",
        "talk.odp": "odp",
    }  # fmt: skip
    assert all(row.failure and row.failure.code == "unsupported" for row in rows.values())
    assert "convert it to PDF" in rows["letter"].failure.message  # type: ignore[union-attr]
    assert "convert it to PNG" in rows["photo"].failure.message  # type: ignore[union-attr]
    assert sorted(found.ignored) == ["id.key", "package.jar"]


def test_pipes_sockets_and_devices_are_never_opened(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.pdf")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.pdf"))
        (tmp_path / "null.png").symlink_to("/dev/null")
        rows = {d.source: d.failure.code if d.failure else "ok" for d in find(tmp_path)}
    assert rows == {"a.png": "ok", "null.png": "unreadable", "pipe.pdf": "unreadable", "s.pdf": "unreadable"}


def test_a_file_that_vanishes_or_becomes_a_pipe_costs_its_own_row(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        Image.new("L", (8, ord(name))).save(tmp_path / f"{name}.png")
    found = source.find(str(tmp_path), EVERYTHING, WHOLE, balance)
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.png").unlink()
    os.mkfifo(tmp_path / "b.png")
    codes = [d.failure.code if d.failure else "ok" for d in found.documents]
    assert codes == ["unreadable", "unreadable", "ok"]


def test_what_a_file_raises_while_it_is_looked_at_costs_its_own_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bad.png", "good.png"):
        Image.new("L", (8, len(name))).save(tmp_path / name)
    real = kinds.recognise

    def recognise(path: Path) -> str | None:
        if path.name == "bad.png":
            raise RecursionError("too deep")
        return real(path)

    monkeypatch.setattr(source, "recognise", recognise)
    rows = {d.source: d.failure.code if d.failure else "ok" for d in find(tmp_path)}
    assert rows == {"bad.png": "unreadable", "good.png": "ok"}


def test_an_output_inside_the_input_is_not_read(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    for name in ("_journal", "logs", "answers"):
        (tmp_path / "out" / name).mkdir(parents=True)
    Image.new("L", (9, 8)).save(tmp_path / "out" / "logs" / "plot.png")
    Image.new("L", (9, 9)).save(tmp_path / "out" / "mine.png")
    (tmp_path / "out" / "answers" / "shard-0000-of-0001.parquet").write_bytes(b"PAR1")
    assert [d.source for d in find(tmp_path)] == ["a.png", "out/mine.png"]


def test_include_and_exclude_choose_by_path() -> None:
    only = SourceSettings(include=["*.pdf"], exclude=["*form*"], follow_links=False)
    sources = [d.source for d in find(SAMPLES, settings=only)]
    assert "project-history.en.pdf" in sources
    assert "libreoffice-form.pdf" not in sources
    assert all(name.endswith(".pdf") for name in sources)


def test_shards_share_all_inputs_evenly_and_none_twice(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}.pdf").write_bytes(
            b"%PDF-1.4" + bytes(1000 * (number % 7)) + bytes([number])
        )
    shards = [find(tmp_path, ShardSettings(index=i, count=4, planned=False)) for i in range(4)]
    names = [d.source for shard in shards for d in shard]
    assert sorted(names) == sorted(d.source for d in find(tmp_path))
    loads = [sum(d.bytes for d in shard) for shard in shards]
    assert max(loads) <= 1.1 * min(loads)
