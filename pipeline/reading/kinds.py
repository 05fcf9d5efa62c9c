"""Tell what kind of document a file is, by its content."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

ENDINGS = {
    ".pdf": "pdf", ".xps": "xps", ".oxps": "xps", ".epub": "epub", ".cbz": "cbz", ".svg": "svg",
    ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".tif": "tiff", ".tiff": "tiff",
    ".gif": "gif", ".bmp": "bmp",
}  # fmt: skip


_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"), (b"BM", "bmp"),
    (b"II*\x00", "tiff"), (b"MM\x00*", "tiff"), (b"II+\x00", "tiff"), (b"MM\x00+", "tiff"),
)  # fmt: skip


# An SVG's first element is <svg>, after at most a declaration, a doctype and comments.
_SVG = re.compile(
    rb"\s*(<\?xml.*?\?>\s*)?(<!--.*?-->\s*)*(<!DOCTYPE\s+svg.*?>\s*)?(<!--.*?-->\s*)*<(\w+:)?svg\b", re.S
)


HEAD_BYTES = 4096


def recognise(path: Path) -> str | None:
    """Return the kind that the file's content shows, or None when it is none of ours."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return None
    for magic, kind in _MAGIC:
        if head.startswith(magic) and (kind != "bmp" or head[6:10] == b"\0\0\0\0"):
            return kind
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head.startswith(b"PK\x03\x04"):
        return _recognise_zip(path)
    return "svg" if _SVG.match(head.removeprefix(b"\xef\xbb\xbf")) else None


def _recognise_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "mimetype" in names and archive.read("mimetype").strip() == b"application/epub+zip":
                return "epub"
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError):
        return None
    if any(name.lower().endswith((".fdseq", ".fpage")) for name in names):
        return "xps"
    # Any archive may hold pictures: only its ending says that it is a comic book.
    return "cbz" if path.suffix.lower() == ".cbz" else None
