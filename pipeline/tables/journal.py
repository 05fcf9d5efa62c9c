"""Write rows so that no crash can lose or halve them: a folder of parts, each there whole or not at all.

A part is a folder of Parquet files, one per table, that appears by one rename. Parts are numbered, oldest
first; their names carry the token of the lock they were written under, so that two writers, of which one does
not know yet that it has lost the lock, never write the same one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import store
from pipeline.errors import OutputError
from pipeline.store import disk_errors as disk_errors
from pipeline.store import write_text as write_text


class Journal:
    """The parts in one folder."""

    def __init__(self, folder: Path, token: str) -> None:
        self.folder = folder
        self._token = token
        self._number = max((int(part.name[5:11]) for part in self.parts()), default=0)

    def parts(self) -> list[Path]:
        """List the parts, oldest first."""
        return parts(self.folder)

    def write(self, tables: Mapping[str, pa.Table], rolled: bool = False) -> None:
        """Add a part; when this returns it is on the disk."""
        self._number += 1
        part = self.folder / f"part-{self._number:06d}-{self._token}{'-rolled' if rolled else ''}"
        aside = store.aside(part)
        try:
            store.disk.mkdir(aside)
            for name, table in tables.items():
                write_parquet(aside / f"{name}.parquet", table)
            store.sync_folder(aside)  # before the rename: the part must not be there without its files
            store.settle(aside, part)
        except BaseException:
            with contextlib.suppress(OSError):  # on a full disk the rest of the run needs the room
                store.remove(aside)
            raise

    def roll_up(self, most: int) -> None:
        """Make one part of `most` small ones, so that a long run leaves few files to read on resuming."""
        small = [part for part in self.parts() if not part.name.endswith("-rolled")]
        if len(small) < most:
            return
        names = sorted({file.stem for part in small for file in part.glob("*.parquet")})
        # Marked as rolled: else the next time all of it would be read and written again.
        self.write({name: concatenate(map(read, files(name, small))) for name in names}, rolled=True)
        # Only now: until the large part is on the disk the small ones hold the rows.
        drop(small)

    def sweep(self) -> None:
        """Remove what a writer that died was still writing."""
        for leftover in self.folder.glob("*.aside"):
            store.remove(leftover)


def parts(folder: Path) -> list[Path]:
    """List the parts in a folder, oldest first."""
    return sorted(part for part in folder.glob("part-*") if not part.name.endswith(".aside"))


def files(name: str, parts: Iterable[Path]) -> list[Path]:
    """List the files of one table among parts."""
    return [file for part in parts if (file := part / f"{name}.parquet").exists()]


def drop(parts: Sequence[Path]) -> None:
    """Remove parts, given oldest first, whose rows are kept elsewhere by now.

    The oldest goes first, and for good: were a later one gone before it, after a crash, its rows would pass
    for the newest.
    """
    for part in parts:
        store.remove(part)
        store.sync_folder(part.parent)


def concatenate(tables: Iterable[pa.Table]) -> pa.Table:
    """Join tables whose tasks have different field columns."""
    return pa.concat_tables(list(tables), promote_options="default")


_REMEDY = "restore it; without a copy delete it, and what only it held is asked again"


@contextlib.contextmanager
def damage_named(file: Path, remedy: str = _REMEDY) -> Iterator[None]:
    """Name the file that cannot be read: the library's own errors do not. Raises OutputError."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        # What the system refuses has a number, and remedies of its own; damage that pyarrow meets has none.
        if isinstance(error, FileNotFoundError) or (isinstance(error, OSError) and error.errno is not None):
            raise
        reason = str(error).splitlines()[0]
        raise OutputError(f"{file}: cannot be read ({reason}); {remedy}") from error


def read(file: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a file. Raises OutputError for one that is damaged, or lacks a column that is needed."""
    with damage_named(file):
        return pq.read_table(file, columns=columns)


def read_schema(file: Path) -> pa.Schema:
    """Read the columns of a file. Raises OutputError for one that is damaged."""
    with damage_named(file):
        return pq.read_schema(file)


def write_parquet(file: Path, table: pa.Table) -> None:
    """Write a table; when this returns it is on the disk."""
    with store.writing(file) as opened:
        pq.write_table(table, opened, compression="zstd")
