"""Walk the input: name every file below it, and refuse where that is not possible."""

from __future__ import annotations

import fnmatch
import glob
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.config import SourceSettings
from pipeline.errors import SettingsError
from pipeline.objects import Found, Place
from pipeline.texts import matches

OWN_FOLDERS = frozenset({"_journal", "logs", "report", "diff", "export", "evaluation"})
"""Folders of an output that lies inside the input; the others hold tables, which are no documents."""


class Entry(NamedTuple):
    """A name below the input that is no folder of it."""

    path: Path
    source: str
    """Path relative to the input, as UTF-8."""
    bytes: int = 0
    problem: str = ""
    """Why it is not a file that may be read; empty for one that is."""
    is_folder: bool = False
    """It is a link to a folder."""
    place: Place | None = None
    """Where it is in object storage; None for a file of this machine."""
    found: Found | None = None
    """What a listing of object storage says of it."""

    @property
    def location(self) -> Path | str:
        """The path, or the URL in object storage."""
        return self.path if self.place is None else str(self.place)


def walk(input_: str, settings: SourceSettings) -> tuple[Path, list[Entry]]:
    """Return the folder that sources are relative to, and all names below it, by folder and name.

    `input_` is a file, a folder or a glob. Raises SettingsError when it is not there, or a folder cannot be
    listed.
    """
    given = Path(input_)
    walker = Walker(input_, settings)
    # A name with brackets may be that of a file: what is there comes before what a pattern means.
    if given.is_dir():
        root, paths = given, walker.below(given)
    elif os.path.lexists(given):
        root, paths = given.parent, iter([given])
    elif glob.has_magic(input_):
        root = Path(*_fixed(given.parts))
        paths = walker.matching(root, given.parts[len(root.parts) :])
    else:
        raise SettingsError(f"input={input_}: there is no such file or folder; check the path")
    named = None if given.is_dir() else given
    # Each once: links, and patterns with several `**`, may lead to one name more than once.
    entries = [
        look(path, relative(path, root), root, settings.follow_links or path == named) for path in set(paths)
    ]
    return root, sorted(entries, key=lambda entry: (entry.path.parent.as_posix(), entry.path.name))


def look(path: Path, source: str, root: Path, follow_links: bool) -> Entry:
    """Look at a name without opening it."""
    try:
        found = path.stat()
        is_folder = stat.S_ISDIR(found.st_mode)
        if path.is_symlink() and not (follow_links or _inside(path, root)):
            # Else whoever puts a link among the inputs could have any file of this user read.
            problem = "is a link that leads out of the input; source.follow_links=true reads it"
        elif stat.S_ISREG(found.st_mode):
            return Entry(path, source, found.st_size)
        else:
            problem = "is not a regular file, but a folder, pipe, socket or device; remove or exclude it"
        return Entry(path, source, problem=problem, is_folder=is_folder)
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, FileNotFoundError) and path.is_symlink():
            problem = "is a link to nothing; restore what it leads to, or remove it"
        else:
            problem = f"cannot be looked at ({reason(error)}); check the file system and the permissions"
        return Entry(path, source, problem=problem)


def relative(path: Path, root: Path) -> str:
    """Return the name of a file in tables."""
    # Names are bytes on disk: what is not UTF-8 is escaped, so that it can be written to Parquet.
    return os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", "backslashreplace")


def reason(error: Exception) -> str:
    """Say in a few words, and without a path, what went wrong."""
    said = error.strerror if isinstance(error, OSError) else str(error)
    return said or type(error).__name__


class Walker:
    """Lists folders without hidden names; with `follow_links`, it enters each once, whatever leads there."""

    def __init__(self, input_: str, settings: SourceSettings) -> None:
        self._input, self._settings = input_, settings
        self._visited: set[tuple[int, int]] = set()

    def below(self, root: Path) -> Iterator[Path]:
        """Yield what lies below a folder, and links to folders that are not entered."""
        waiting = [root]
        while waiting:
            folder = waiting.pop()
            if not self._enter(folder):
                continue
            listed = self._list(folder, root)
            is_output = any(entry.name == "_journal" for entry in listed)
            for entry in listed:
                path = Path(entry.path)
                if entry.name.startswith((".", "~$")) or (is_output and entry.name in OWN_FOLDERS):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if not self._excludes_all(relative(path, root)):
                        waiting.append(path)
                elif not _is_folder(entry):
                    yield path
                elif not _inside(path, root):  # what lies inside is met under its own name
                    if self._settings.follow_links:
                        waiting.append(path)
                    else:
                        yield path

    def matching(self, folder: Path, parts: Sequence[str], root: Path | None = None) -> Iterator[Path]:
        """Yield the names below a folder that the parts of a glob match; folders are not among them."""
        root = root or folder
        part, rest = parts[0], parts[1:]
        if part == "**":
            yield from self.matching(folder, rest or ("*",), root)
        elif not glob.has_magic(part):
            found = [folder / part] if os.path.lexists(folder / part) else []
            yield from self._onward(found, rest, root)
            return
        for entry in self._list(folder, root):
            path = Path(entry.path)
            if entry.name.startswith(".") and not part.startswith("."):
                continue
            if part == "**":
                if entry.is_dir(follow_symlinks=False) and not self._excludes_all(relative(path, root)):
                    yield from self.matching(path, parts, root)
            elif fnmatch.fnmatchcase(entry.name, part):
                yield from self._onward([path], rest, root)

    def _onward(self, paths: Iterable[Path], rest: Sequence[str], root: Path) -> Iterator[Path]:
        for path in paths:
            is_folder = path.is_dir()
            if rest and is_folder:
                yield from self.matching(path, rest, root)
            elif not rest and not is_folder:
                yield path

    def _enter(self, folder: Path) -> bool:
        """Tell whether a folder is still to be read: links can lead around in a circle."""
        if not self._settings.follow_links:
            return True
        try:
            found = folder.stat()
        except OSError:
            return True  # listing it says what is wrong
        new = (found.st_dev, found.st_ino) not in self._visited
        self._visited.add((found.st_dev, found.st_ino))
        return new

    def _list(self, folder: Path, root: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as found:
                return sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            source = relative(folder, root)
            what, or_ = "the folder", ""
            if source != ".":
                what, or_ = f"its folder {source}", f", or leave it out: source.exclude=['{source}']"
            raise SettingsError(
                f"input={self._input}: {what} cannot be listed ({reason(error)}); check the mount and the"
                f" permissions{or_}"
            ) from error

    def _excludes_all(self, source: str) -> bool:
        """Tell whether `source.exclude` names all below a folder, which then need not be readable."""
        for pattern in self._settings.exclude:
            if not glob.has_magic(pattern) and matches(source, pattern):
                return True
            # fnmatch lets `*` stand for `/` as well: what matches `folder/` so matches all below it.
            if pattern.endswith("*") and fnmatch.fnmatchcase(f"{source}/", pattern):
                return True
        return False


def _fixed(parts: Sequence[str]) -> Sequence[str]:
    """Return the parts of a path before the first that is a pattern."""
    return next((parts[:index] for index, part in enumerate(parts) if glob.has_magic(part)), parts)


def _inside(path: Path, root: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
