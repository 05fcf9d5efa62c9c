from __future__ import annotations

import os
from pathlib import Path

import pymupdf
import pytest
from conftest import SAMPLES
from PIL import Image

from pipeline.config import ShardSettings, SourceSettings
from pipeline.errors import SettingsError
from pipeline.reading import source
from pipeline.records import Document
from pipeline.sharding.balance import balance

EVERYTHING = SourceSettings(include=[], exclude=[])
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
    inside.mkdir(), outside.mkdir()
    Image.new("L", (8, 8)).save(inside / "a.png")
    Image.new("L", (9, 9)).save(outside / "secret.png")
    (inside / "loop").symlink_to(inside)
    (inside / "gone.png").symlink_to(inside / "nothing.png")
    (inside / "leak.png").symlink_to(outside / "secret.png")
    (inside / "also-a.png").symlink_to(inside / "a.png")
    (inside / ".hidden.png").write_bytes((inside / "a.png").read_bytes())
    assert [(d.source, d.duplicate_of) for d in find(inside)] == [("a.png", None), ("also-a.png", "a.png")]


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


def test_include_and_exclude_choose_by_path() -> None:
    only = SourceSettings(include=["*.pdf"], exclude=["*form*"])
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
