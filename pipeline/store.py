"""Whole files: everything that has to outlive this process is written, moved and removed here.

A file is written beside its place, forced to the disk, and renamed, so that it is there whole or not at all,
whatever happens in between. What this module does to the file system, it does through `disk`: tests put one
in its place that fails, or kills the process, at any operation. Of an output in object storage, what happens
in the folder that stands for it happens there too, before the call returns (`mirror.py`).
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pipeline import mirror, objects
from pipeline.errors import OutputError
from pipeline.mirror import folder as folder
from pipeline.mirror import named as named
from pipeline.mirror import opened as opened

if TYPE_CHECKING:
    from typing_extensions import Buffer  # part of Python from 3.12 on

_BUFFER_BYTES = 1 << 20
_ASIDE = ".aside"


class Disk:
    """The operations that change a file system, one method for each."""

    def create(self, path: Path, mode: int = 0o666) -> int:
        """Open a new empty file for writing, or empty the one that is there; never through a link."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)

    def write(self, handle: int, data: memoryview) -> int:
        """Write some of the data; return how many bytes."""
        return os.write(handle, data)

    def sync(self, path: Path) -> None:
        """Wait until what a file holds, or what names a folder holds, is on the disk."""
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file or folder another name; a file that has it already is replaced in the same moment."""
        old.rename(new)

    def link(self, old: Path, new: Path) -> None:
        """Give a file a second name. Raises FileExistsError when that is taken."""
        os.link(old, new)

    def unlink(self, path: Path) -> None:
        """Remove a name."""
        path.unlink()

    def mkdir(self, path: Path, mode: int = 0o777) -> None:
        """Make a folder."""
        path.mkdir(mode)

    def rmdir(self, path: Path) -> None:
        """Remove an empty folder."""
        path.rmdir()


disk = Disk()
"""What the functions below use; looked up at each call."""


# ---- files that appear whole ----


def aside(target: Path) -> Path:
    """Return where a file is written before it takes its place."""
    # Readers of a folder of Parquet files skip names that start with _, such as a killed run leaves.
    return target.with_name(f"_{target.name}{_ASIDE}")


@contextlib.contextmanager
def writing(path: Path, mode: int = 0o666, lasting: bool = True) -> Iterator[BinaryIO]:
    """Open a new file; if the block fails, it is gone again.

    Once the block ends, a `lasting` file is on the disk: others need not survive this process.
    """
    raw = _Raw(disk.create(path, mode))
    try:
        with io.BufferedWriter(raw, _BUFFER_BYTES) as file:
            yield file
        if lasting:
            disk.sync(path)
    except BaseException:
        raw.abandon()
        _discard(path)  # on a full disk others need the room
        raise


def settle(written: Path, target: Path) -> None:
    """Let a file or folder that is on the disk take its place, for good when this returns."""
    disk.rename(written, target)
    sync_folder(target.parent)
    _send(target)


def write_text(target: Path, text: str, by: str = "") -> None:
    """Replace a file by another, whole; `by` tells writers apart that may do so at the same time."""
    written = aside(target.with_name(f"{target.name}.{by or os.getpid()}"))
    with writing(written) as file:
        file.write(text.encode("utf-8", "backslashreplace"))  # names may hold bytes that are no text
    # The new name is not forced to the disk: after a loss of power the older text will do.
    disk.rename(written, target)
    _send(target)


def write_first(target: Path, text: str, by: str) -> None:
    """Write a file unless there is one: of many that do so at the same moment, the first decides."""
    if (stored := mirror.of(target)) is not None:
        text = stored.first(target, text)
    written = aside(target.with_name(f"{target.name}.{by}"))
    with writing(written) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
    # A rename would replace what the first has written; a link fails where the name is taken.
    with contextlib.suppress(FileExistsError):
        disk.link(written, target)
    disk.unlink(written)
    sync_folder(target.parent)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, for good, where they are not there yet."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with contextlib.suppress(FileExistsError):  # by another process meanwhile
        disk.mkdir(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk, as far as its file system can do that."""
    try:
        disk.sync(path)
    except OSError as error:
        # Some network file systems refuse it for folders, which they write through anyway.
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.EACCES):
            raise


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it; what is gone already is no error."""
    stored, was_folder = mirror.of(path), path.is_dir()
    _remove(path)
    if stored is not None and not path.name.endswith(_ASIDE):
        stored.delete(path, was_folder)


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path.is_symlink() or not path.is_dir():
            disk.unlink(path)
            return
        for inner in list(path.iterdir()):
            _remove(inner)
        disk.rmdir(path)


# ---- what is in object storage ----


def fetch(path: Path, only: Callable[[str], bool] = lambda name: True) -> None:
    """Have a file, or what lies below a folder, here: as far as `only` wants names below the output.

    What is on a disk of this machine is here anyway.
    """
    if (stored := mirror.of(path)) is not None:
        stored.fetch(path, only)


def names(folder: Path) -> list[str]:
    """List the names of the files in a folder, whether they are here or not."""
    if (stored := mirror.of(folder)) is not None:
        return stored.names(folder)
    return sorted(path.name for path in folder.glob("*"))


def lasting_name(location: str) -> str:
    """Return what an output is called, wherever it is named from and whatever folder stands for it now."""
    return location if objects.is_url(location) else str(Path(location).resolve())


def send_all(folder: Path) -> None:
    """Make what lies below a folder last, where it was written by other means than those above."""
    if (stored := mirror.of(folder)) is not None:
        stored.send_all(folder)


def read_shared(path: Path) -> tuple[str, str | None] | None:
    """Return what a file that others write says now, and by what to claim it; None when there is none."""
    if (stored := mirror.of(path)) is not None:
        return stored.read(path)
    try:
        return path.read_text(encoding="utf-8"), None
    except FileNotFoundError:
        return None


def claim(path: Path, text: str, tag: str | None, by: str) -> bool:
    """Write a file that others write too; False where another was quicker, as far as that can be known."""
    if (stored := mirror.of(path)) is not None:
        return stored.claim(path, text, tag)
    write_text(path, text, by)
    return True


def let_go(path: Path, tag: str | None) -> None:
    """Give up a file that was claimed, known by this tag."""
    if (stored := mirror.of(path)) is not None:
        stored.let_go(path, tag)
    else:
        remove(path)


def _send(path: Path) -> None:
    if (stored := mirror.of(path)) is not None:
        stored.send(path)


@contextlib.contextmanager
def disk_errors(output: Path) -> Iterator[None]:
    """Turn the system's errors into one line about the output directory."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        is_limit = error.errno in (errno.EMFILE, errno.ENFILE)
        remedy = "raise the limit (ulimit -n)" if is_limit else "free space or choose another"
        raise OutputError(f"output={output}: cannot be written ({reason}); {remedy}") from error


class _Raw(io.RawIOBase):
    """A file as `disk` writes it, for a buffer in front."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def fileno(self) -> int:
        return self._handle

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        return disk.write(self._handle, memoryview(data))

    def close(self) -> None:
        if not self.closed:
            os.close(self._handle)
        super().close()

    def abandon(self) -> None:
        """Close without an error, whatever the buffer in front still holds."""
        with contextlib.suppress(OSError):
            self.close()


def _discard(path: Path) -> None:
    with contextlib.suppress(OSError):
        disk.unlink(path)
