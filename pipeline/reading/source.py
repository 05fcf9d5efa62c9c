"""Find the inputs: walk, recognise by content, hash, de-duplicate, shard."""

from __future__ import annotations

import functools
import glob
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, groupby
from pathlib import Path
from typing import NamedTuple

from pipeline import objects
from pipeline.config import ShardSettings, SourceSettings
from pipeline.errors import SettingsError, StorageError, StorageRefused
from pipeline.reading import bucket
from pipeline.reading.kinds import (
    HEAD_BYTES,
    READABLE,
    REMEDIES,
    by_ending,
    open_file,
    packed_with,
    recognise,
    recognise_opened,
)
from pipeline.reading.walk import Entry, look, reason
from pipeline.records import Document, Failure
from pipeline.texts import matches

log = logging.getLogger("pipeline")

Balance = Callable[[Sequence[float], int], list[int]]
"""Gives each of some costs its shard, of so many."""


@dataclass(slots=True)
class Found:
    """The inputs as they are met, and what lay beside them."""

    documents: Iterator[Document]
    sources: tuple[str, ...] = ()
    """The names of all inputs of this shard, known before they are read."""
    all_sources: tuple[str, ...] = ()
    """Those of all shards."""
    ignored: list[str] = field(default_factory=list)
    """Other files, which are no documents."""

    @property
    def ignored_by_ending(self) -> dict[str, int]:
        """Count the ignored files by ending, the most frequent first."""
        return dict(Counter(Path(source).suffix.lower() for source in self.ignored).most_common())


class _Candidate(NamedTuple):
    """A file that counts as an input, as far as it is known before it is read through."""

    entry: Entry
    kind: str
    failure: Failure | None = None


def find(
    input_: str,
    settings: SourceSettings,
    shard: ShardSettings,
    balance: Balance,
    scratch: str | None = None,
) -> Found:
    """Find the documents of `input_` that belong to this shard, sorted by folder and name.

    `input_` is a file, a folder or a glob, or a URL of such in object storage, of which copies come to
    `scratch` while they are worked on. Shards are balanced by the size of files, all that is known before
    a plan. Raises SettingsError when there is nothing to read.
    """
    entries = bucket.entries(input_, settings)
    wanted = [entry for entry in entries if _is_wanted(entry.source, settings)]
    _name_idle_patterns(entries, settings)
    met = list(zip(wanted, _met(wanted), strict=True))
    candidates = [candidate for _, candidate in met if candidate]
    found = Found(iter(()), ignored=[entry.source for entry, candidate in met if candidate is None])
    found.all_sources = tuple(candidate.entry.source for candidate in candidates)
    _refuse_absence(input_, entries, wanted, candidates, found)
    if shard.count > 1:
        # Plus one: empty files are rows as well, and would all go to one shard.
        of = balance([candidate.entry.bytes + 1 for candidate in candidates], shard.count)
        candidates = [c for c, index in zip(candidates, of, strict=True) if index == shard.index]
    found.sources = tuple(candidate.entry.source for candidate in candidates)
    found.documents = _documents(candidates, scratch)
    return found


def listed(
    files: Iterable[tuple[Path | str, str]], settings: SourceSettings, scratch: str | None = None
) -> Iterator[Document]:
    """Yield the documents of (path or URL, source) pairs that a plan lists, as they are now."""
    seen = functools.partial(_listed, settings=settings)
    runs = groupby(files, lambda each: isinstance(each[0], str))
    found = (bucket.ahead(seen, each) if are_far else map(seen, each) for are_far, each in runs)
    return _documents(chain.from_iterable(found), scratch)


def _listed(given: tuple[Path | str, str], settings: SourceSettings) -> _Candidate:
    entry = _look(*given, settings)
    return _meet(entry) or _Candidate(entry, "", _unrecognised(entry))


def location(written: bytes) -> Path | str:
    """Return the path or URL that a plan has written."""
    text = os.fsdecode(written)
    return text if objects.is_url(text) else Path(text)


def _look(location: Path | str, source: str, settings: SourceSettings) -> Entry:
    if isinstance(location, str):
        return bucket.look(location, source)
    return look(location, source, _root(location, source), settings.follow_links)


def _met(entries: Sequence[Entry]) -> Iterator[_Candidate | None]:
    """Yield what each file is; in object storage several are looked into at the same time."""
    are_far = bool(entries) and entries[0].place is not None
    return bucket.ahead(_meet, entries) if are_far else map(_meet, entries)


def _root(path: Path, source: str) -> Path:
    return path.parents[source.count("/")]


def _is_wanted(source: str, settings: SourceSettings) -> bool:
    included = not settings.include or any(matches(source, pattern) for pattern in settings.include)
    return included and not any(matches(source, pattern) for pattern in settings.exclude)


def _name_idle_patterns(entries: Sequence[Entry], settings: SourceSettings) -> None:
    for pattern in settings.include:
        if not any(matches(entry.source, pattern) for entry in entries):
            log.warning("source.include: the pattern %s matches no file", pattern)


# ---- what a file is, before it is read through ----


def _meet(entry: Entry) -> _Candidate | None:
    """Tell whether a file is an input: by its ending, its content, or because neither can be known."""
    promised = by_ending(entry.path)
    if entry.problem:
        kind, problem = None, entry.problem
    else:
        try:
            kind, problem = _recognise(entry), ""
        except StorageRefused as error:
            kind, problem = None, _refused(error)
        except StorageError:  # is about all of them
            raise
        except Exception as error:  # hostile files and file systems: what one raises costs its own row
            kind, problem = None, f"cannot be read ({reason(error)}); check the file and its permissions"
    if problem:
        # Behind these there may be documents: passed over, their absence would not be noticed.
        hidden = entry.is_folder or not entry.path.suffix
        failure = Failure("unreadable", f"{entry.source}: {problem}")
        return _Candidate(entry, promised or "", failure) if promised or hidden else None
    if (kind or promised) in REMEDIES:
        kind = str(kind or promised)
        return _Candidate(entry, kind, Failure("unsupported", f"{entry.source}: {_not_read(kind)}"))
    if kind:
        return _Candidate(entry, kind)
    return _Candidate(entry, promised, _unrecognised(entry)) if promised else None


def _recognise(entry: Entry) -> str | None:
    if entry.place is None:
        return recognise(entry.path)
    with bucket.open_entry(entry) as file:
        return recognise_opened(file, entry.path.suffix.lower())


def _refused(error: StorageRefused) -> str:
    """Say what storage says, without the URL: tables name inputs by their sources."""
    return str(error).partition(": ")[2] if str(error).startswith("s3://") else str(error)


def _not_read(kind: str) -> str:
    return f"files of the kind {kind} are not read here; {REMEDIES[kind]}"


def _unrecognised(entry: Entry) -> Failure:
    try:
        with bucket.open_entry(entry) as file:
            head = file.read(HEAD_BYTES)
    except StorageRefused as error:
        return Failure("unreadable", f"{entry.source}: {_refused(error)}")
    except StorageError:
        raise
    except Exception as error:
        return Failure("unreadable", f"{entry.source}: cannot be read ({reason(error)}); check it")
    ending = entry.path.suffix
    if packer := packed_with(head):  # a server may send any file so, and whoever fetched it may not unpack it
        why = f"is no {ending} file, but something packed with {packer}; unpack it"
        return Failure("unsupported", f"{entry.source}: {why}")
    # Text is another file than the name says, such as a server's error page, and not a damaged one.
    if b"\0" in head or not head.isascii():
        why = f"its content is not that of a {ending} file; fetch it again"
        return Failure("corrupt", f"{entry.source}: {why}")
    why = "its content is text, not a document or image; remove or convert it"
    return Failure("unsupported", f"{entry.source}: {why}")


def _refuse_absence(
    input_: str,
    entries: Sequence[Entry],
    wanted: Sequence[Entry],
    candidates: Sequence[_Candidate],
    found: Found,
) -> None:
    """Raise SettingsError where there is nothing to read, which must not pass for a finished run."""
    named = len(entries) == 1 and entries[0].path == Path(input_)
    if not entries and glob.has_magic(input_):
        say = "no file matches; quote the pattern so that the shell leaves it alone"
    elif not entries:
        say = "nothing is there to read, only hidden files or none; check the path, the pattern and the mount"
    elif not wanted:
        say = f"source.include and source.exclude leave out all of its {len(entries)} files; correct them"
    elif not candidates and named:
        say = f"this kind of file is not read here; give {_kinds()}"
    elif not candidates:
        counts = ", ".join(
            f"{n} {ending or 'without ending'}" for ending, n in found.ignored_by_ending.items()
        )
        say = f"none of its {len(found.ignored)} files is a document ({counts}); give {_kinds()}"
    elif named and candidates[0].kind in REMEDIES:
        say = _not_read(candidates[0].kind)
    elif all(c.failure is not None and c.failure.code == "unreadable" for c in candidates):
        first = candidates[0].failure
        say = f"none of its {len(candidates)} documents can be read: {first.message if first else ''}"
    else:
        return
    raise SettingsError(f"input={input_}: {say}")


def _kinds() -> str:
    return ", ".join(sorted(READABLE)).upper().replace(", XPS", " or XPS")


# ---- documents ----


def _documents(candidates: Iterable[_Candidate], scratch: str | None) -> Iterator[Document]:
    first: dict[str, str] = {}
    for document in _hashed(candidates, scratch):
        source = document.source
        # Files that could not be read have no id, and are no duplicates of each other.
        original = first.setdefault(document.document_id, source) if document.document_id else source
        yield document if original == source else replace(document, duplicate_of=original)


def _hashed(candidates: Iterable[_Candidate], scratch: str | None) -> Iterator[Document]:
    """Yield each candidate read through; of those in object storage a few are on their way here together."""
    copies = bucket.Copies(scratch)
    for are_far, some in groupby(candidates, lambda candidate: candidate.entry.place is not None):
        if are_far:
            yield from bucket.ahead(functools.partial(_brought, copies=copies), some)
        else:
            yield from map(_document, some)


def _brought(candidate: _Candidate, copies: bucket.Copies) -> Document:
    entry, kind, failure = candidate
    document = Document(
        source=entry.source,
        path=entry.path,
        kind=kind,
        bytes=entry.bytes,
        document_id="",
        failure=failure,
        url=str(entry.place),
    )
    if failure is not None and failure.code == "unreadable":
        return document
    try:
        return _or_empty(copies.bring(entry, document))
    except StorageRefused as error:
        return replace(document, failure=Failure("unreadable", f"{entry.source}: {_refused(error)}"))


def _or_empty(document: Document) -> Document:
    if document.bytes == 0:
        why = "the file has no bytes; fetch it again"
        return replace(document, failure=Failure("empty", f"{document.source}: {why}"))
    return document


def _document(candidate: _Candidate) -> Document:
    entry, kind, failure = candidate
    document = Document(
        source=entry.source, path=entry.path, kind=kind, bytes=entry.bytes, document_id="", failure=failure
    )
    if failure is not None and failure.code == "unreadable":
        return document
    try:
        with open_file(entry.path) as file:
            before = os.fstat(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
            after = os.fstat(file.fileno())
            document = replace(document, document_id=digest, bytes=file.tell(), changed_ns=after.st_mtime_ns)
        # Its row would else say one thing and its pages show another.
        if (before.st_size, before.st_mtime_ns) != (document.bytes, after.st_mtime_ns):
            why = "changed while it was read; run again"
            return replace(document, document_id="", failure=Failure("unreadable", f"{entry.source}: {why}"))
    except Exception as error:
        why = f"cannot be read ({reason(error)}); check the file and its permissions"
        return replace(document, failure=Failure("unreadable", f"{entry.source}: {why}"))
    return _or_empty(document)
