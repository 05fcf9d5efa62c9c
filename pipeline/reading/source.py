"""Find the inputs: walk, recognise by content, hash, de-duplicate, shard."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.config import ShardSettings, SourceSettings
from pipeline.errors import SettingsError
from pipeline.reading.kinds import ENDINGS, HEAD_BYTES, recognise
from pipeline.records import Document, Failure, matches

Balance = Callable[[Sequence[float], int], list[int]]
"""Gives each of some costs its shard, of so many."""


@dataclass(slots=True)
class Found:
    """The inputs as they are met, and how many other files lay beside them."""

    documents: Iterator[Document]
    sources: tuple[str, ...] = ()
    ignored: list[str] = field(default_factory=list)


def find(input_: str, settings: SourceSettings, shard: ShardSettings, balance: Balance) -> Found:
    """Find the documents of `input_` that belong to this shard, sorted by folder and name.

    `input_` is a file, a folder or a glob. Shards are balanced by the size of files, all that is known before
    a plan. Raises SettingsError when nothing is there.
    """
    root, paths = _walk(input_)
    found = Found(documents=iter(()))
    candidates = []
    for path in paths:
        source = _relative(path, root)
        if not _wanted(source, settings):
            continue
        kind = recognise(path)
        if kind is None and path.suffix.lower() not in ENDINGS:
            found.ignored.append(source)
        else:
            candidates.append((path, source, kind))
    if shard.count > 1:
        of = balance([p.stat().st_size + 1 for p, _, _ in candidates], shard.count)
        candidates = [c for c, index in zip(candidates, of, strict=True) if index == shard.index]
    found.documents = _documents(candidates)
    found.sources = tuple(source for _, source, _ in candidates)
    return found


def listed(files: Iterable[tuple[Path, str]]) -> Iterator[Document]:
    """Yield the documents of (path, source) pairs that a plan lists, as they are now."""
    return _documents((path, source, recognise(path)) for path, source in files)


def _walk(input_: str) -> tuple[Path, list[Path]]:
    """Return the folder that sources are relative to, and the files below it in order."""
    given = Path(input_)
    if given.is_file():
        return given.parent, [given]
    if given.is_dir():
        return given, sorted(_files(given), key=lambda p: (p.parent.as_posix(), p.name))
    if not glob.has_magic(input_):
        raise SettingsError(f"input={input_}: there is no such file or folder; check the path")
    fixed = []
    for part in given.parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    root = Path(*fixed)
    paths = [Path(p) for p in glob.glob(input_, recursive=True)]  # noqa: PTH207  Path.glob takes no absolute pattern
    files = {p for p in paths if p.is_file() and _inside(p, root)}
    if not files:
        raise SettingsError(
            f"input={input_}: no file matches; quote the pattern so that the shell leaves it alone"
        )
    return root, sorted(files, key=lambda p: (p.parent.as_posix(), p.name))


def _files(root: Path) -> Iterator[Path]:
    """Yield regular files, skipping hidden ones and following no link to a folder or out of `root`."""
    for folder, folders, names in os.walk(root, followlinks=False):
        folders[:] = [f for f in folders if not f.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file() and (not path.is_symlink() or _inside(path, root)):
                yield path


def _inside(path: Path, root: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())


def _relative(path: Path, root: Path) -> str:
    # Names are bytes on disk: what is not UTF-8 is escaped, so that it can be written to Parquet.
    return os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", "backslashreplace")


def _wanted(source: str, settings: SourceSettings) -> bool:
    included = not settings.include or any(matches(source, pattern) for pattern in settings.include)
    return included and not any(matches(source, pattern) for pattern in settings.exclude)


def _documents(candidates: Iterable[tuple[Path, str, str | None]]) -> Iterator[Document]:
    first: dict[str, str] = {}
    for path, source, kind in candidates:
        document = _document(path, source, kind)
        original = first.setdefault(document.document_id, source) if document.document_id else source
        yield document if original == source else replace(document, duplicate_of=original)


def _document(path: Path, source: str, kind: str | None) -> Document:
    ending = ENDINGS.get(path.suffix.lower(), path.suffix.lower().lstrip("."))
    document = Document(source=source, path=path, kind=kind or ending, bytes=0, document_id="")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            document = replace(document, document_id=digest, bytes=file.tell())
    except OSError as error:
        return replace(
            document, failure=Failure("unreadable", f"{source}: cannot be read ({error.strerror})")
        )
    if document.bytes == 0:
        failure = Failure("empty", f"{source}: the file has no bytes; fetch it again")
    elif kind is None:
        failure = _unrecognised(path, source)
    else:
        return document
    return replace(document, failure=failure)


def _unrecognised(path: Path, source: str) -> Failure:
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if b"\0" in head or not head.isascii():
        return Failure(
            "corrupt", f"{source}: its content is not that of a {path.suffix} file; fetch it again"
        )
    return Failure(
        "unsupported", f"{source}: its content is text, not a document or image; remove or convert it"
    )
