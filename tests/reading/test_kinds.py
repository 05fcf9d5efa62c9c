from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest

from pipeline.reading import kinds

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'


def kind(tmp_path: Path, content: bytes, name: str = "file") -> str | None:
    (tmp_path / name).write_bytes(content)
    return kinds.recognise(tmp_path / name)


def archive(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return out.getvalue()


@pytest.mark.parametrize(
    "before",
    [
        b"", b"\xef\xbb\xbf", b" \r\n", b'<?xml version="1.0"?>\n', b"<!-- a -- > b -->" * 40,
        b'<?xml version="1.0"?><?xml-stylesheet href="a"?><!DOCTYPE svg PUBLIC "-//W3C//SVG//EN" "x">',
        b'<!DOCTYPE svg [ <!ENTITY a "b>"> ]>\n<!--x-->',
    ],
)  # fmt: skip
def test_an_svg_is_told_by_its_first_element(tmp_path: Path, before: bytes) -> None:
    assert kind(tmp_path, before + SVG) == "svg"
    assert kind(tmp_path, before + SVG.replace(b"svg", b"s:svg", 1)) == "svg"
    assert kind(tmp_path, before + b"<html>" + SVG) is None


def test_a_long_text_of_comments_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The pattern of before took time that doubled with each comment: these would outlast the machine.
    assert kind(tmp_path, b"<!---->" * 2000 + b"<p>") is None
    assert kind(tmp_path, b"<!--" * 4000) is None
    assert kind(tmp_path, b"<" * 100_000) is None


@pytest.mark.parametrize("size", [10**5, 10**7])
def test_at_most_64_kib_of_a_file_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    read: list[int] = []
    real = kinds.open_file

    def counted(path: Path) -> object:
        file = real(path)
        whole = file.read

        class Counting:
            def __enter__(self) -> Counting:
                return self

            def __exit__(self, *error: object) -> None:
                file.close()

            def seek(self, *where: int) -> int:
                return file.seek(*where)

            def read(self, amount: int) -> bytes:
                data = whole(amount)
                read.append(len(data))
                return data

        return Counting()

    monkeypatch.setattr(kinds, "open_file", counted)
    many = archive(**{f"{n:0100}": b"" for n in range(size // 250)})
    for content in (b"<!--" + bytes(size), many, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(size)):
        read.clear()
        kind(tmp_path, content)
        assert 0 < sum(read) <= 65_536


def test_a_member_of_an_archive_is_never_unpacked(tmp_path: Path) -> None:
    bomb = archive(mimetype=b"application/epub+zip" + bytes(50_000_000), a=b"")
    assert kind(tmp_path, bomb) is None
    assert kind(tmp_path, bomb, "a.zip") == "zip"


def test_an_archive_with_a_bad_name_or_directory_is_still_an_archive(tmp_path: Path) -> None:
    local = b"PK\3\4" + struct.pack("<5H3I2H", 20, 0x800, 0, 0, 0, 0, 0, 0, 2, 0) + b"\xff\xfe"
    entry = b"PK\1\2" + struct.pack("<6H3I5H2I", 20, 20, 0x800, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0)
    for length in (48, 0, 0xFFFFFFFF):
        end = b"PK\5\6" + struct.pack("<4H2IH", 0, 0, 1, 1, length, 32, 0)
        assert kind(tmp_path, local + entry + b"\xff\xfe" + end, "letters.zip") == "zip"
        assert kind(tmp_path, local + entry + b"\xff\xfe" + end) is None
    assert kind(tmp_path, b"PK\3\4", "cut.zip") == "zip"


def test_books_are_told_with_and_without_a_leading_mimetype(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("mimetype", "application/epub+zip")
    assert kind(tmp_path, out.getvalue()) == "epub"
    assert kind(tmp_path, archive(**{"META-INF/container.xml": b"x"})) == "epub"
    assert kind(tmp_path, archive(**{"[Content_Types].xml": b"x", "FixedDocSeq.fdseq": b"x"})) == "xps"


def test_a_text_that_mentions_a_pdf_header_is_no_pdf(tmp_path: Path) -> None:
    assert kind(tmp_path, '"%%EOF"\n"%PDF-1.7"\né'.encode()) is None
    assert kind(tmp_path, b"%PDF-1.7\n") == "pdf"
    assert kind(tmp_path, b"From: a printer\r\n%PDF-1.7\n") == "pdf"
    assert kind(tmp_path, b"\0\0junk%PDF-1.7\n") == "pdf"
    assert kind(tmp_path, b"%\xe2\xe3\n1 0 obj\n<<>>", "a.pdf") == "pdf"


def test_an_office_file_of_the_old_kind_is_told_by_its_streams(tmp_path: Path) -> None:
    head = bytearray(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504))
    head[30:32] = (9).to_bytes(2, "little")
    for stream, expected in (("WordDocument", "doc"), ("Workbook", "xls"), ("Thumbnail", None)):
        name = stream.encode("utf-16-le") + b"\0\0"
        entry = name.ljust(64, b"\0") + len(name).to_bytes(2, "little") + bytes(62)
        assert kind(tmp_path, bytes(head) + bytes(128) + entry) == expected
    head[48:52] = b"\xff\xff\xff\xff"
    assert kind(tmp_path, bytes(head)) is None
