"""What is done with texts everywhere: identify them, match names, and keep them fit to be written."""

from __future__ import annotations

import fnmatch
import hashlib
import re
import unicodedata


def fingerprint(*parts: object) -> str:
    """Return 32 hex digits of SHA-256 over `parts`, each delimited by its length."""
    digest = hashlib.sha256()
    for part in parts:
        # File names may hold bytes that are no UTF-8.
        data = str(part).encode("utf-8", "surrogateescape")
        # With its length: else ("ab", "c") and ("a", "bc") would be the same.
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()[:32]


def matches(source: str, pattern: str) -> bool:
    """Tell whether `pattern`, a path, a folder or a glob relative to the input, names `source`."""
    if not pattern:
        return True
    # macOS stores file names decomposed, people type them composed.
    name, wanted = (
        unicodedata.normalize("NFC", source),
        unicodedata.normalize("NFC", pattern).removeprefix("./"),
    )
    return name == wanted or name.startswith(wanted.rstrip("/") + "/") or fnmatch.fnmatchcase(name, wanted)


_QUOTED_PATH = re.compile(r"""(['"])/[^'"\n]*/([^'"\n/]*)\1""")
_ABSOLUTE_PATH = re.compile(r"""(?<![^\s(=:'"])/(?:[^\s'"/]+/)+""")


def without_folders(text: str) -> str:
    """Leave of each absolute path in a text the last name."""
    return _ABSOLUTE_PATH.sub("", _QUOTED_PATH.sub(r"\1\2\1", text))


def one_line(text: str) -> str:
    """Return a text fit for a terminal or a list: line breaks, and whatever else does not print, escaped."""
    # File names may hold any byte: a line break would make two messages of one, ESC would move the cursor.
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def clean_text(text: str) -> str:
    """Replace halves of surrogate pairs, which neither UTF-8 nor Parquet can hold, by U+FFFD."""
    # Through UTF-16, so that two halves which belong together become their character.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
