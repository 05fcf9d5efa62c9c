"""Tell what kind of document a file is, by its content: at most 64 KiB of it, whatever it holds.

Nothing here decompresses, follows an offset out of those bytes, or takes longer than a few passes over them.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from pathlib import Path
from typing import IO

from pipeline.errors import Unreadable
from pipeline.reading.archives import recognise_ole, recognise_zip

ENDINGS = {
    ".pdf": "pdf", ".xps": "xps", ".oxps": "xps", ".epub": "epub", ".cbz": "cbz", ".svg": "svg",
    ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".tif": "tiff", ".tiff": "tiff",
    ".gif": "gif", ".bmp": "bmp", ".heic": "heic", ".heif": "heic", ".avif": "avif",
}  # fmt: skip
READABLE = frozenset(ENDINGS.values())

_TO_PDF = "convert it to PDF"
_TO_PNG = "convert it to PNG or JPEG"
_UNPACK = "unpack it"
REMEDIES = {
    **dict.fromkeys("doc docx docm dot dotx odt ott rtf wpd wps pages".split(), _TO_PDF),
    **dict.fromkeys("xls xlsx xlsm xlsb ods numbers".split(), _TO_PDF),
    **dict.fromkeys("ppt pptx pptm pps ppsx odp key vsd vsdx".split(), _TO_PDF),
    **dict.fromkeys("odg pub msg djvu ps eps mobi azw3 fb2 office".split(), _TO_PDF),
    **dict.fromkeys("fodt fods fodp ott ots otp hwp hwpx".split(), _TO_PDF),
    **dict.fromkeys("eml emlx mbox mht mhtml azw chm".split(), _TO_PDF),
    **dict.fromkeys("jp2 jxl psd ppm pgm pbm tga pcx wmf emf dcm".split(), _TO_PNG),
    **dict.fromkeys("dng cr2 cr3 nef arw orf rw2 raf pef srw".split(), _TO_PNG),
    **dict.fromkeys("zip 7z rar cbr cb7 cbt tar tgz svgz".split(), _UNPACK),
}  # fmt: skip
"""Kinds of documents that are not read here, and what to do about each."""

_BY_CONTENT_ALONE = frozenset({"key", "pages", "numbers", "msg", "pub", "office"})
"""Their endings have other meanings: keys of ssh, for instance."""

RAW_PHOTOS = frozenset("dng cr2 nef arw orf rw2 pef srw".split())

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"), (b"BM", "bmp"),
    (b"II*\x00", "tiff"), (b"MM\x00*", "tiff"), (b"II+\x00", "tiff"), (b"MM\x00+", "tiff"),
    (b"{\\rtf", "rtf"), (b"8BPS\x00", "psd"), (b"AT&TFORM", "djvu"), (b"%!PS-Adobe", "ps"),
    (b"\xc5\xd0\xd3\xc6", "eps"),
    (b"\x00\x00\x00\x0cjP  ", "jp2"), (b"\xff\x4f\xff\x51", "jp2"), (b"\x00\x00\x00\x0cJXL ", "jxl"),
    (b"FUJIFILMCCD-RAW", "raf"), (b"IIRO", "orf"), (b"IIRS", "orf"), (b"IIU\x00", "rw2"),
)  # fmt: skip
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), "heic"),
    b"avif": "avif", b"avis": "avif", b"crx ": "cr3",
}  # fmt: skip

_PACKED = (
    (b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\x00", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7z"), (b"Rar!\x1a\x07", "rar"),
)  # fmt: skip

_HEADER = re.compile(rb"(?:\A|[\r\n])[ \t]*%PDF-")
_BINARY = re.compile(rb"[\0-\x08\x0e-\x1f]")

HEAD_BYTES = 16_384


def open_file(path: Path) -> IO[bytes]:
    """Open a regular file for reading. Raises Unreadable for anything else, without waiting for a pipe."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    raise Unreadable("it is a folder, pipe, socket or device; leave it out")


def recognise(path: Path) -> str | None:
    """Return the kind that the content shows: one of `READABLE` or `REMEDIES`, or None for any other file."""
    with open_file(path) as file:
        return recognise_opened(file, path.suffix.lower())


def recognise_opened(file: IO[bytes], ending: str) -> str | None:
    """Return the same of an open file, whose name has this ending."""
    head = file.read(HEAD_BYTES)
    if head.startswith(b"PK\x03\x04"):
        return recognise_zip(file, head, ending)
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return recognise_ole(file, head)
    return _recognise_head(head, ending)


def packed_with(head: bytes) -> str | None:
    """Name the program that packed a file, by its first bytes; None where none did."""
    return next((name for magic, name in _PACKED if head.startswith(magic)), None)


def by_ending(path: Path) -> str | None:
    """Return the kind of document that a file's name promises, or None."""
    ending = path.suffix.lower()
    if ending in ENDINGS:
        return ENDINGS[ending]
    kind = ending.removeprefix(".")
    return kind if kind in REMEDIES and kind not in _BY_CONTENT_ALONE else None


def _recognise_head(head: bytes, ending: str) -> str | None:
    for magic, kind in _MAGIC:
        # Two letters are little: a text may begin with BM. The reserved bytes of a bitmap are zero.
        if head.startswith(magic) and (kind != "bmp" or head[6:10] == b"\0\0\0\0"):
            return _raw_photo(head, ending) or kind if kind == "tiff" else kind
    if head[4:8] == b"ftyp" and head[8:12] in _BRANDS:
        # The general brands say only that it is an image; what it is coded as stands among the others.
        return "avif" if b"avif" in head[16 : int.from_bytes(head[:4], "big")] else _BRANDS[head[8:12]]
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if is_pdf(head, ending):
        return "pdf"
    return "svg" if is_svg(head) else None


def is_pdf(head: bytes, ending: str) -> bool:
    """Tell whether a file is a PDF, and no text that mentions the header of one."""
    if ending == ".pdf" and re.search(rb"\d \d{1,5} obj\b", head):
        return True  # readers open it without a header, too
    # Readers take a header anywhere in the first 1,024 bytes.
    if b"%PDF-" not in head[:1024]:
        return False
    return ending == ".pdf" or _HEADER.search(head[:1024]) is not None or _BINARY.search(head) is not None


_DNG_VERSION, _COLOR_FILTER, _LINEAR_RAW = 0xC612, 32803, 34892


def _raw_photo(head: bytes, ending: str) -> str | None:
    """Name a camera's raw format, which is built like TIFF but holds no picture as one sees it."""
    # Canon's mark stands between the header of TIFF and its first directory.
    if head[8:10] == b"CR":
        return "cr2"
    tags = _first_tags(head)
    # Tag 262 says how samples become colors: one sample behind each filter of a sensor is no picture yet.
    if _DNG_VERSION in tags or tags.get(262) in (_COLOR_FILTER, _LINEAR_RAW):
        return "dng"
    return ending.removeprefix(".") if ending.removeprefix(".") in RAW_PHOTOS else None


def _first_tags(head: bytes) -> dict[int, int]:
    """Return the tags of the first directory of a TIFF, as far as `head` holds it, with short values."""
    order = "<" if head.startswith(b"I") else ">"
    if len(head) < 8 or head[2:4] not in (b"*\0", b"\0*"):
        return {}
    (at,) = struct.unpack_from(f"{order}I", head, 4)
    if at + 2 > len(head):
        return {}
    (count,) = struct.unpack_from(f"{order}H", head, at)
    entries = range(at + 2, min(at + 2 + 12 * count, len(head) - 11), 12)
    found = (struct.unpack_from(f"{order}HHIH", head, entry) for entry in entries)
    return {tag: value for tag, _, _, value in found}


def is_svg(head: bytes) -> bool:
    """Tell whether the first element is <svg>, after declarations, comments and a document type."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        head = head.decode("utf-16", "replace").encode()
    at = 3 if head.startswith(b"\xef\xbb\xbf") else 0
    while True:
        at += len(head[at:]) - len(head[at:].lstrip())
        if head.startswith(b"<?", at):
            end = _after(head, b"?>", at)
        elif head.startswith(b"<!--", at):
            end = _after(head, b"-->", at + 4)
        elif head[at : at + 9].upper() == b"<!DOCTYPE":
            subset, close = head.find(b"[", at), head.find(b">", at)
            end = _after(head, b"]", subset) if 0 <= subset < close else close
            end = _after(head, b">", end) if end >= 0 else end
        else:
            return re.match(rb"<(?:[\w.-]{1,64}:)?svg[\s/>]", head[at : at + 80]) is not None
        if end < 0:
            return False
        at = end


def _after(head: bytes, mark: bytes, start: int) -> int:
    found = head.find(mark, start)
    return found + len(mark) if found >= 0 else -1
