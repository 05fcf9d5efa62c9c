"""Where the files of an output directory lie, and which of them a shard may read and write.

A run over all inputs reads the journals of all shards, publishes, and excludes every other run. A shard on
its own (`shard.count`) has its own journal and its own published files. A shard of a plan (`shard.planned`)
has a journal alone: a run over all inputs, the publishing one, takes it from there.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from pipeline import store
from pipeline.config import ShardSettings
from pipeline.errors import OutputError
from pipeline.store import disk_errors
from pipeline.tables import columns, journal

TABLES = ("requests", "documents", "answers")
WHOLE = "shard-0000-of-0001"


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of one shard in an output directory."""

    output: Path
    shard: ShardSettings

    @property
    def name(self) -> str:
        """What the shard's files and its journal are called."""
        return shard_name(self.shard)

    @property
    def journal(self) -> Path:
        """The folder of the shard's journal, its lock and its own run.json."""
        return self.output / "_journal" / self.name

    @property
    def is_whole(self) -> bool:
        """Whether this is a run over all inputs."""
        return self.name == WHOLE

    def make_folders(self) -> None:
        """Make the folders of tables and journal, if they are not there yet."""
        for folder in (*(self.output / name for name in TABLES), self.journal):
            store.make_folder(folder)

    def fetch(self) -> None:
        """Have here what this shard reads of an output in object storage."""
        store.fetch(self.output, self._reads)

    def _reads(self, name: str) -> bool:
        """Tell whether this shard reads what has this name in the output; the locks of others it looks up."""
        folder, _, rest = name.partition("/")
        if folder in TABLES:
            return self.is_whole or name == f"{folder}/{self.published(folder).name}"
        if folder != "_journal":
            return False
        return self.is_whole or rest == "date" or rest.startswith(f"{self.name}/")

    def rivals(self) -> list[Path]:
        """List the journals of shards that must not be written while this one is."""
        return self.others() if self.is_whole else [self.journal.with_name(WHOLE)]

    def others(self) -> list[Path]:
        """List the journals of all shards but this."""
        return sorted(f for f in self.journal.parent.glob("*-of-*") if f.is_dir() and f != self.journal)

    def parts(self) -> list[Path]:
        """List the journal parts that this shard reads, oldest first."""
        if not self.is_whole:
            return journal.parts(self.journal)
        # Numbers of parts count within one journal. Between journals time decides: rows that left the tables
        # wait in that of the whole, and a shard, which does not see them, may have answered anew since.
        dated = [part for folder in (*self.others(), self.journal) for part in _dated(journal.parts(folder))]
        return [part for _, part in sorted(dated, key=lambda each: each[0])]

    def published(self, name: str) -> Path:
        """Return the published file of a table; of a shard of a plan, that of the whole."""
        return self.output / name / f"{WHOLE if self.shard.planned else self.name}.parquet"

    def files(self, name: str, parts: Sequence[Path]) -> list[Path]:
        """Return the files of a table, oldest first."""
        target = self.published(name)
        return [*([target] if target.exists() else []), *journal.files(name, parts)]

    def sweep(self) -> None:
        """Remove what a publishing that was cut short had begun to write."""
        for leftover in [
            *self.output.glob(f"*/*{self.name}.parquet.aside"),
            *self.output.glob(f"*run.json.{self.name}.aside"),
            *self.output.glob(f"_journal/*date.{self.name}.aside"),
            *self.output.glob(f"_journal/*served.json.{self.name}.aside"),
        ]:
            store.remove(leftover)

    def check_count(self) -> None:
        """Refuse an output that was written as another number of shards."""
        count = 1 if self.shard.planned else self.shard.count
        for name in store.names(self.output / "answers"):
            # With another division each shard would publish rows that a file of the old one has as well.
            published = re.fullmatch(r"shard-\d+-of-(\d+)\.parquet", name)
            if published and (other := int(published[1])) != count:
                raise OutputError(
                    f"output={self.output}: was written as {other} shards, not {count}; "
                    f"use shard.count={other} or another output"
                )

    def check_types(self, field_kinds: Mapping[str, str]) -> None:
        """Refuse an output in which a field of the same name has another type, in whatever shard or task."""
        # Before any work: else types that differ would show when all shards are published, at the very end.
        wanted = columns.schema("answers", field_kinds)
        folders = sorted((self.output / "_journal").glob("*-of-*"))
        journaled = [file for each in folders for file in journal.files("answers", journal.parts(each))]
        for file in [*sorted((self.output / "answers").glob("shard-*.parquet")), *journaled]:
            with contextlib.suppress(FileNotFoundError):  # rolled up by its writer meanwhile
                written = journal.read_schema(file)
                for field in wanted:
                    if field.name in written.names and written.field(field.name).type != field.type:
                        kinds = f"{written.field(field.name).type}, not {field.type}"
                        raise OutputError(
                            f"output={self.output}: has {field.name} as {kinds}, written by another task or"
                            " schema; rename the field or choose another output"
                        )

    def forget_shards(self) -> None:
        """Remove the empty journals of shards whose rows are published."""
        for folder in self.others():
            if not journal.parts(folder):
                store.remove(folder)

    @property
    def has_leftovers(self) -> bool:
        """Whether shards have journaled rows that are not published yet."""
        return any(journal.parts(folder) for folder in self.others())

    def first_date(self, today: dt.date) -> dt.date:
        """Return the date on which this output was begun, the same in all its runs and shards."""
        file = self.output / "_journal" / "date"
        with disk_errors(self.output):
            if (written := _date_in(file)) is not None:
                return written
            store.write_first(file, today.isoformat(), by=self.name)
            if (written := _date_in(file)) is None:  # another program's, or halved by another file system
                store.write_text(file, today.isoformat(), by=self.name)
            return written or today

    def served(self) -> tuple[str, str] | None:
        """Return the model and version that servers said they serve; None where no run has asked any."""
        file = self.output / "_journal" / "served.json"
        store.fetch(file)
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
            return str(told["model"]), str(told["version"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remember_served(self, model: str, version: str) -> None:
        """Keep what servers say they serve: tables are published when they may be gone."""
        # Only where it differs: shards that start together would replace it one after the other.
        if self.served() != (model, version):
            told = json.dumps({"model": model, "version": version}, ensure_ascii=False) + "\n"
            with disk_errors(self.output):
                store.write_text(self.output / "_journal" / "served.json", told, by=self.name)


def _dated(parts: Sequence[Path]) -> Iterator[tuple[int, Path]]:
    """Yield the parts of one journal with their times, which never go back, whatever the clock has done."""
    times = accumulate((part.stat().st_mtime_ns for part in parts), max)
    yield from zip(times, parts, strict=True)


def _date_in(file: Path) -> dt.date | None:
    """Return the date that a file holds; None where there is no file, or no date in it."""
    try:
        return dt.date.fromisoformat(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def shard_name(shard: ShardSettings) -> str:
    """Return what a shard's files and its journal are called."""
    kind = "planned" if shard.planned else "shard"
    return f"{kind}-{shard.index:04d}-of-{shard.count:04d}"
