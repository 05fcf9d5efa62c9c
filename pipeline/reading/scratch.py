"""Folders through which page images pass: whose they are, and what dead runs have left of them."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import tempfile
from dataclasses import asdict
from pathlib import Path

from pipeline import store
from pipeline.errors import ScratchError, ScratchFull, SettingsError
from pipeline.owner import Owner, is_alive, this_process

_OWNER = "owner.json"


def choose(given: str | None, name: str, need_mb: int = 2048) -> Path:
    """Choose where page images pass through: `given`, else tmpfs with `need_mb` free, else disk."""
    if given:
        return Path(given) / name
    tmpfs = Path("/dev/shm")
    # Containers often have no more than 64 MB of it: less than the 30 pages of one request.
    roomy = tmpfs.is_dir() and shutil.disk_usage(tmpfs).free > need_mb << 20
    return (tmpfs if roomy else Path(tempfile.gettempdir())) / name


def make(folder: Path) -> None:
    """Make a folder that only this user can enter, and say whose it is."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(0o700)
        # Temporary folders are open to all: another user may have made this one, or a link, to read pages.
        if not _is_ours(folder):
            raise SettingsError(f"raster.scratch: {folder} belongs to another user; give another folder")
        folder.chmod(0o700)  # the umask may have taken rights away
        with store.writing(folder / _OWNER, 0o600, lasting=False) as file:
            file.write(json.dumps(asdict(this_process())).encode())
    except OSError as error:
        raise SettingsError(f"raster.scratch: {folder} cannot be made ({error.strerror})") from error


def sweep(folder: Path) -> None:
    """Delete what dead runs of this user have left beside `folder`.

    What an earlier run with the same output has left is deleted in any case: this run holds the output's
    lock, and one that has lost it without knowing must not find this run's images.
    """
    same_output = folder.name.rpartition("-")[0]
    for other in sorted(folder.parent.glob("*-*")):
        of_output = bool(same_output) and other.name.startswith(f"{same_output}-")
        if (of_output or other.name.startswith("docbatch-")) and _is_ours(other):
            owner = None if of_output else _owner(other)
            if of_output or (owner is not None and is_alive(owner) is False):
                remove(other)


def remove(folder: Path) -> None:
    """Delete a folder of page images, as far as that can be done: the next run tries again."""
    with contextlib.suppress(OSError):
        store.remove(folder)


def write_image(file: Path, width_px: int, height_px: int, samples: bytes | memoryview) -> None:
    """Write an image that only this user can read, whatever the umask.

    Raises ScratchFull, or ScratchError, with the system's reason: never is it the document's fault.
    """
    try:
        with store.writing(file, 0o600, lasting=False) as opened:
            os.fchmod(opened.fileno(), 0o600)
            # PPM: to write and read a page takes 1.7 ms so, and 26 as PNG at its fastest.
            opened.write(b"P6 %d %d 255\n" % (width_px, height_px))
            opened.write(samples)
    except OSError as error:
        kind = ScratchFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else ScratchError
        raise kind(error.strerror) from None


def _is_ours(folder: Path) -> bool:
    """Tell whether this is a folder, no link to one, that this user has made."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _owner(folder: Path) -> Owner | None:
    """Return who has made a folder; None where that does not say, as in the moment before it does."""
    try:
        return Owner(**json.loads((folder / _OWNER).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
