"""Find the password of a document, among as many as there are documents."""

from __future__ import annotations

import csv
import glob
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.texts import matches


class Passwords:
    """Passwords by pattern, the first that names a document counts; `default` for all others."""

    def __init__(self, listed: Sequence[tuple[str, str]], default: str | None) -> None:
        self._default = default
        self._globs: list[tuple[int, str, str]] = []
        # By name: trying every pattern on every document takes hours where each has a password of its own.
        self._named: dict[str, tuple[int, str]] = {}
        self._folders: dict[str, tuple[int, str]] = {}
        for number, (pattern, secret) in enumerate(listed):
            if not pattern or glob.has_magic(pattern):
                self._globs.append((number, pattern, secret))
            # With its slash: a password for a folder is none for a file of that name.
            self._named.setdefault(_plain(pattern), (number, secret))
            self._folders.setdefault(_plain(pattern).rstrip("/"), (number, secret))

    def of(self, source: str) -> str | None:
        """Return the password of a source."""
        name = unicodedata.normalize("NFC", source)
        found = [self._named[name]] if name in self._named else []
        found += [self._folders[folder] for folder in _folders(name) if folder in self._folders]
        found += [(number, secret) for number, pattern, secret in self._globs if matches(source, pattern)]
        # By the place in the list: the first that names a document counts, whatever kind of pattern it is.
        return min(found)[1] if found else self._default


def read(path: str | None, default: str | None) -> Passwords:
    """Read a CSV file of patterns and passwords. Raises SettingsError when it is none."""
    if path is None:
        return Passwords([], default)
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            listed = [(row["document"], row["password"], reader.line_num) for row in reader]
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(
            f"raster.passwords={path}: needs the columns document and password ({error})"
        ) from error
    for document, password, line in listed:
        if document is None or password is None:  # a line that ends early
            raise SettingsError(f"raster.passwords={path}: line {line} lacks a document or its password")
    return Passwords([(document, password) for document, password, _ in listed], default)


def _plain(pattern: str) -> str:
    return unicodedata.normalize("NFC", pattern).removeprefix("./")


def _folders(name: str) -> Iterator[str]:
    yield from (name[:at] for at, character in enumerate(name) if character == "/")
