"""Tell an e-book whose chapters are encrypted: MuPDF would draw a page that says they are not there."""

from __future__ import annotations

import re
import zipfile
import zlib

from pipeline.errors import Encrypted
from pipeline.reading.job import Job

_LIST = "META-INF/encryption.xml"
_MOST_BYTES = 4 << 20
_CHAPTER = re.compile(r"URI\s*=\s*[\"'][^\"']{1,1000}\.x?html?[\"']", re.IGNORECASE)


def refuse_encrypted(job: Job) -> None:
    """Raise Encrypted for a book with encrypted chapters; fonts alone are in many that anyone can read."""
    try:
        with zipfile.ZipFile(job.path) as archive, archive.open(_LIST) as listed:
            text = listed.read(_MOST_BYTES).decode("utf-8", "replace")
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, KeyError, EOFError, RuntimeError):
        return  # a book without such a list, or one that MuPDF has more to say of
    if _CHAPTER.search(text):
        raise Encrypted(
            f"{job.source}: its chapters are encrypted (DRM), no password opens them; get it without"
        )
