"""Tell what a zip or OLE2 container is, from its directory alone, broken or not."""

from __future__ import annotations

import struct
from typing import IO

_TAIL_BYTES = 16_384
_DIRECTORY_BYTES = 24_576

_OPEN_DOCUMENT = {b"text": "odt", b"spreadsheet": "ods", b"presentation": "odp", b"graphics": "odg"}
_OFFICE_FOLDERS = ((b"word/", "docx"), (b"xl/", "xlsx"), (b"ppt/", "pptx"), (b"visio/", "vsdx"))
_OLE_STREAMS = (
    ("WordDocument", "doc"), ("Workbook", "xls"), ("Book", "xls"), ("PowerPoint Document", "ppt"),
    ("VisioDocument", "vsd"), ("Quill", "pub"),
    ("__properties_version1.0", "msg"), ("EncryptedPackage", "office"),
)  # fmt: skip

_IWORK = (".pages", ".numbers", ".key")


def recognise_zip(file: IO[bytes], head: bytes, ending: str) -> str | None:
    """Return the kind of document that a zip archive is; None for any other archive."""
    kind = _declared(head)
    if kind is not None:
        return kind
    names = _names(file) or _names_on_the_way(head)
    if any(name.lower().endswith((b".fdseq", b".fpage")) for name in names):
        return "xps"
    if b"META-INF/container.xml" in names:
        return "epub"
    if b"[Content_Types].xml" in names:
        for folder, kind in _OFFICE_FOLDERS:
            if any(name.startswith(folder) for name in names):
                return kind
    if any(name.startswith((b"Index/", b"Index.zip")) for name in names) and ending in _IWORK:
        return ending.removeprefix(".")
    # Any archive may hold pictures or documents: only its ending says that it is a book, or one of files.
    return {".cbz": "cbz", ".zip": "zip"}.get(ending)


def _declared(head: bytes) -> str | None:
    """Return what the member `mimetype` says, which stands first and uncompressed where there is one."""
    if len(head) < 30 or head[30:38] != b"mimetype":
        return None
    start = 38 + int.from_bytes(head[28:30], "little")
    said = head[start : start + 80]
    if said.startswith(b"application/epub+zip"):
        return "epub"
    prefix = b"application/vnd.oasis.opendocument."
    if said.startswith(prefix):
        rest = said.removeprefix(prefix)
        return next((kind for name, kind in _OPEN_DOCUMENT.items() if rest.startswith(name)), None)
    return None


def _names(file: IO[bytes]) -> list[bytes]:
    """Return the names at the start of an archive's directory, as bytes, or none where that is broken."""
    size = file.seek(0, 2)
    tail_at = max(size - _TAIL_BYTES, 0)
    file.seek(tail_at)
    tail = file.read(_TAIL_BYTES)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        return []
    length, _ = struct.unpack_from("<II", tail, at + 12)
    # Bytes may stand before the archive, so offsets do not hold: the directory ends where this record begins.
    file.seek(max(tail_at + at - length, 0))
    return _entries(file.read(min(length, _DIRECTORY_BYTES)), b"PK\x01\x02", 46, 28)


def _names_on_the_way(head: bytes) -> list[bytes]:
    """Return the names of the members whose headers are met at the start of the file."""
    names, at = [], 0
    while (at := head.find(b"PK\x03\x04", at)) >= 0 and at + 30 <= len(head):
        length = int.from_bytes(head[at + 26 : at + 28], "little")
        names.append(head[at + 30 : at + 30 + length])
        # Not by the sizes in the header: members that were written as a stream have them behind their data.
        at += 30
    return names


def _entries(directory: bytes, mark: bytes, size: int, lengths_at: int) -> list[bytes]:
    names, at = [], 0
    while directory.startswith(mark, at) and at + size <= len(directory):
        name, extra, comment = struct.unpack_from("<HHH", directory, at + lengths_at)
        names.append(directory[at + size : at + size + name])
        at += size + name + extra + comment
    return names


def recognise_ole(file: IO[bytes], head: bytes) -> str | None:
    """Return the kind of document that an OLE2 container is, from the first names in its directory."""
    if len(head) < 512:
        return None
    # 9 or 12 by the format: the shift of a hostile file must not become a huge number.
    sector = 1 << min(int.from_bytes(head[30:32], "little"), 12)
    # Sectors are counted from behind the header, which takes the room of one.
    file.seek((int.from_bytes(head[48:52], "little") + 1) * sector)
    directory = file.read(8192)
    entries = [directory[at : at + 128] for at in range(0, len(directory), 128)]
    # The length of a name counts the zero at its end, two bytes.
    names = {entry[: max(int.from_bytes(entry[64:66], "little") - 2, 0)] for entry in entries}
    for stream, kind in _OLE_STREAMS:
        if stream.encode("utf-16-le") in names:
            return kind
    return None
