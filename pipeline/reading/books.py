"""The pages of a book of pictures (CBZ): which members of the archive they are, in the order of a reader."""

from __future__ import annotations

import functools
import io
import re
import zipfile
import zlib
from typing import IO

from pipeline.errors import Corrupt, Empty, Encrypted, TooLarge
from pipeline.reading import opening
from pipeline.reading.job import Job, first_line

_KINDS = {
    ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".gif": "gif", ".bmp": "bmp",
    ".avif": "avif", ".heic": "heic", ".heif": "heic", ".tif": "tiff", ".tiff": "tiff",
}  # fmt: skip
_MAGIC = (
    (b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"), (b"II*\0", "tiff"), (b"MM\0*", "tiff"),
    (b"BM", "bmp"),
)  # fmt: skip
_MOST_PAGES = 20_000
_MOST_DIRECTORY = 16 << 20
"""Bytes of an archive's directory: zipfile reads all of it."""
_MOST_BYTES = 256 << 20
"""Bytes of one page before it is decoded."""
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    ValueError,
    EOFError,
    KeyError,
    NotImplementedError,
    IndexError,
    OverflowError,
)


def pages(job: Job) -> list[str]:
    """Return the names of the pages. Raises Corrupt, TooLarge, or Empty where none is a picture."""
    return _opened(job, opening.changed_ns(job))[1]


def member(job: Job, number: int) -> tuple[str, io.BytesIO]:
    """Return the kind and the bytes of a page. Raises Corrupt, Encrypted or TooLarge."""
    archive, names = _opened(job, opening.changed_ns(job))
    named = f"{job.source}, page {number}"
    try:
        found = archive.getinfo(names[number - 1])
        # Said before it is read: zipfile would ask for a password with an error of no type of its own.
        if found.flag_bits & 1:
            raise Encrypted(f"{named}: is encrypted in the archive; unpack it")
        with archive.open(found) as file:
            # The size in the directory may lie: what comes out is what counts.
            content = file.read(_MOST_BYTES + 1)
    except _BROKEN as error:
        raise Corrupt(f"{named}: cannot be unpacked ({first_line(error)}); fetch it again") from None
    if len(content) > _MOST_BYTES:
        raise TooLarge(f"{named}: is over {_MOST_BYTES >> 20} MB; make the picture smaller")
    return _kind(content, found.filename), io.BytesIO(content)


def _kind(content: bytes, name: str) -> str:
    """Return what a page's content is: endings in such books often lie."""
    kind = next((kind for magic, kind in _MAGIC if content.startswith(magic)), None)
    if kind is None and content[8:12] == b"WEBP":
        kind = "webp"
    if kind is None and content[4:8] == b"ftyp":
        kind = "avif" if content[8:12] in (b"avif", b"avis") else "heic"
    return kind or _KINDS[_ending(name)]


@functools.lru_cache(maxsize=2)
def _opened(job: Job, changed_ns: int) -> tuple[zipfile.ZipFile, list[str]]:
    """Open an archive and find its pages; the last two stay open, since pages come one by one."""
    try:
        with open(job.path, "rb") as file:  # noqa: PTH123 - names of any bytes
            if _directory_bytes(file) > _MOST_DIRECTORY:
                raise TooLarge(
                    f"{job.source}: the archive's directory is over {_MOST_DIRECTORY >> 20} MB; divide it"
                )
        archive = zipfile.ZipFile(job.path)
    except _BROKEN as error:
        raise Corrupt(
            f"{job.source}: cannot be opened as cbz ({first_line(error)}); fetch it again"
        ) from None
    names = [found.filename for found in archive.infolist() if not found.is_dir()]
    found = sorted(filter(_is_page, names), key=_natural)
    if not found:
        raise Empty(f"{job.source}: has no pages, none of its {len(names)} files is a picture; look into it")
    if len(found) > _MOST_PAGES:
        raise TooLarge(f"{job.source}: has {len(found)} pages, over {_MOST_PAGES}; divide it")
    return archive, found


def _directory_bytes(file: IO[bytes]) -> int:
    """Return how long the directory says it is, from the record at the archive's end; 0 without that."""
    size = file.seek(0, 2)
    file.seek(max(size - 65_557, 0))  # the record, and the longest comment behind it
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    return int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0


def _is_page(name: str) -> bool:
    """Tell whether a member is a page: not what a Mac or a thumbnail maker has left beside it."""
    parts = name.replace("\\", "/").split("/")
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and _ending(name) in _KINDS


def _ending(name: str) -> str:
    return "." + name.rpartition(".")[2].lower()


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Return by what names sort as people count: page 2 before page 10."""
    # 18 digits at a time: int() refuses more than 4,300, and names are anybody's.
    parts = re.split(r"(\d{1,18})", name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
