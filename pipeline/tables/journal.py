"""Write rows so that no crash can lose or halve them: a folder of parts, each there whole or not at all.

A part is a folder of Parquet files, one per table, that appears by one rename. Parts are numbered, oldest
first; their names carry the token of the lock they were written under, so that two writers, of which one does
not know yet that it has lost the lock, never write the same one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import OutputError


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
        aside = part.with_name(part.name + ".aside")
        aside.mkdir()
        for name, table in tables.items():
            write_parquet(aside / f"{name}.parquet", table)
        sync(aside)
        aside.rename(part)
        sync(self.folder)

    def roll_up(self, most: int) -> None:
        """Make one part of `most` small ones, so that a long run leaves few files to read on resuming."""
        small = [part for part in self.parts() if not part.name.endswith("-rolled")]
        if len(small) < most:
            return
        names = sorted({file.stem for part in small for file in part.glob("*.parquet")})
        self.write({name: concatenate(map(pq.read_table, files(name, small))) for name in names}, rolled=True)
        drop(small)

    def sweep(self) -> None:
        """Remove what a writer that died was still writing."""
        for leftover in self.folder.glob("*.aside"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def parts(folder: Path) -> list[Path]:
    """List the parts in a folder, oldest first."""
    return sorted(part for part in folder.glob("part-*") if not part.name.endswith(".aside"))


def files(name: str, parts: Iterable[Path]) -> list[Path]:
    """List the files of one table among parts."""
    return [file for part in parts if (file := part / f"{name}.parquet").exists()]


def drop(parts: Sequence[Path]) -> None:
    """Remove parts whose rows are kept elsewhere by now."""
    for part in parts:
        shutil.rmtree(part, ignore_errors=True)  # also gone: by another that dropped it at the same time


def concatenate(tables: Iterable[pa.Table]) -> pa.Table:
    """Join tables whose tasks have different field columns."""
    return pa.concat_tables(list(tables), promote_options="default")


# ---- files that appear whole ----


def aside(target: Path) -> Path:
    """Return where a file is written before it takes its place."""
    return target.with_name(target.name + ".aside")


def write_parquet(file: Path, table: pa.Table) -> None:
    """Write a table; when this returns it is on the disk."""
    pq.write_table(table, file, compression="zstd")
    sync(file)


def write_text(target: Path, text: str) -> None:
    """Replace a file by another, whole."""
    written = target.with_name(f"{target.name}.{os.getpid()}.aside")
    written.write_text(text, encoding="utf-8")
    sync(written)
    written.rename(target)


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def disk_errors(output: Path) -> Iterator[None]:
    """Turn the system's errors into one line about the output directory."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"output={output}: cannot be written ({reason}); free space or choose another"
        ) from error
