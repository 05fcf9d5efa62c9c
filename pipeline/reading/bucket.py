"""Inputs in object storage: list them, look into them, and bring each here for as long as it is needed."""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import hashlib
import io
import itertools
import re
import shutil
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import IO, TypeVar

from pipeline import objects, owner
from pipeline.config import SourceSettings
from pipeline.errors import StorageError
from pipeline.objects import Place
from pipeline.reading.kinds import open_file
from pipeline.reading.walk import OWN_FOLDERS, Entry, walk
from pipeline.records import Document

_HEAD_BYTES = 1 << 16
_AT_ONCE = 8
"""Objects that are looked into, or brought, at the same time: storage is far, and not short of hands."""
_AHEAD = 2 * _AT_ONCE
_JOURNAL = re.compile(r"(?:.*/)?(?=_journal/)")
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def entries(input_: str, settings: SourceSettings) -> list[Entry]:
    """Return all names below the input, by folder and name, wherever it is. Raises SettingsError."""
    if not objects.is_url(input_):
        return walk(input_, settings)[1]
    place = objects.parse(input_)
    # A key may hold the signs of a pattern: what is there comes before what a pattern means.
    if place.key and not place.key.endswith("/") and (found := objects.look(place)):
        return [_entry(Place(place.bucket, found.key), found, Path(found.key).name)]
    parts = place.key.split("/")
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), None)
    root = place if fixed is None else Place(place.bucket, "/".join(parts[:fixed]))
    listed = _below(root) if fixed is None else _matching(root, parts[fixed:])
    return sorted(listed, key=lambda entry: (entry.path.parent.as_posix(), entry.path.name))


def look(url: str, source: str) -> Entry:
    """Look at one object, as a plan names it."""
    place = objects.parse(url)
    if (found := objects.look(place)) is None:
        return Entry(Path(url), source, problem="is not there any more; restore it, or plan again")
    return _entry(place, found, source)


def open_entry(entry: Entry) -> IO[bytes]:
    """Open an input for reading a few pieces of it."""
    if entry.place is None or entry.found is None:
        return open_file(entry.path)
    return io.BufferedReader(objects.Reader(entry.place, entry.found), _HEAD_BYTES)


def _entry(place: Place, found: objects.Found, source: str) -> Entry:
    return Entry(Path(str(place)), source, found.bytes, place=place, found=found)


def _below(root: Place) -> Iterator[Entry]:
    """Yield the objects below a place that are no folder marks, not hidden, and not an output's own."""
    base = root.below("")
    named = [(each.key.removeprefix(base.key), each) for each in objects.listed(base)]
    outputs = {match[0] for name, _ in named if (match := _JOURNAL.match(name))}
    for name, found in named:
        hidden = any(part.startswith((".", "~$")) for part in name.split("/"))
        own = any(name.startswith(o) and name[len(o) :].split("/")[0] in OWN_FOLDERS for o in outputs)
        if name and not name.endswith("/") and not hidden and not own:
            yield _entry(Place(root.bucket, found.key), found, name)


def _matching(root: Place, parts: Sequence[str]) -> Iterator[Entry]:
    """Yield the objects below a place that the parts of a glob match."""
    base = root.below("")
    for found in objects.listed(base):
        name = found.key.removeprefix(base.key)
        if name and not name.endswith("/") and _fits(name.split("/"), parts):
            yield _entry(Place(root.bucket, found.key), found, name)


def _fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Tell whether a path fits a glob, part by part; `**` stands for any folders."""
    if not parts or not names:
        return not parts and not names
    if parts[0] == "**":
        rest = parts[1:] or ["*"]
        # As on a disk: `**` and `*` do not lead into names that begin with a dot.
        shown = next((i for i, name in enumerate(names) if name.startswith(".")), len(names) - 1)
        return any(_fits(names[start:], rest) for start in range(min(shown, len(names) - 1) + 1))
    if names[0].startswith(".") and not parts[0].startswith("."):
        return False
    return fnmatch.fnmatchcase(names[0], parts[0]) and _fits(names[1:], parts[1:])


# ---- copies on this machine ----


class Copies:
    """The folder that copies of objects lie in; it goes with the last of them."""

    def __init__(self, parent: str | None) -> None:
        """`parent`: where it is made; None: among the machine's temporary folders."""
        self._parent = parent
        self._folder: Path | None = None
        self._numbers = itertools.count(1)
        self._making = threading.Lock()  # several are brought at the same time

    def bring(self, entry: Entry, document: Document) -> Document:
        """Return a document with its bytes on this machine, and their hash.

        Raises StorageRefused where they cannot be had, StorageError where there is no room or no storage.
        """
        assert entry.place is not None and entry.found is not None
        digest = hashlib.sha256()
        try:
            path = self._new(entry.path.suffix)
            copy = _Copy(path, self)
            with path.open("xb") as file:
                objects.download(entry.place, entry.found, lambda piece: _take(piece, digest, file))
        except OSError as error:
            what = f"{entry.source}, {(entry.bytes >> 20) + 1} MB"
            raise StorageError(
                f"raster.scratch={self._parent or tempfile.gettempdir()}: cannot take a copy of {what}"
                f" ({error.strerror}); free space, or choose another folder"
            ) from None
        return replace(
            document, path=path, document_id=digest.hexdigest(), changed_ns=path.stat().st_mtime_ns, copy=copy
        )

    def _new(self, suffix: str) -> Path:
        with self._making:
            number = next(self._numbers)
            if self._folder is None:
                self._folder = owner.private_folder("inputs", Path(self._parent) if self._parent else None)
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            folder = self._folder
        ending = suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", suffix) else ""
        return folder / f"{number:09d}{ending}"


class _Copy:
    """Deletes a copy when nothing refers to its document any more: no more lie here than are worked on."""

    def __init__(self, path: Path, copies: Copies) -> None:
        self._copies = copies  # the folder stays as long as this does
        weakref.finalize(self, _delete, path)


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _take(piece: bytes, digest: hashlib._Hash, file: IO[bytes]) -> None:
    digest.update(piece)
    file.write(piece)


def ahead(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Yield what a function makes of each item, in order, a few at a time and a few ahead."""
    waiting: deque[Future[_Result]] = deque()
    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="docbatch-storage")
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
