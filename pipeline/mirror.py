"""Outputs in object storage: a command works in a folder of its own, and what has to last is sent on, whole.

The storage is the only truth. What a command needs of it is fetched; each file that takes its place is an
object when the call returns, and each folder one archive, since only single objects appear whole. The folder
goes with the command: after a crash, whoever comes next fetches what had been sent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import IO, cast

from pipeline import objects, owner
from pipeline.errors import OutputError, PipelineError, SettingsError, StorageRefused
from pipeline.objects import Found, Place

log = logging.getLogger("pipeline")

_PACKED = ".tar"


class Mirror:
    """The folder that stands for a place in object storage."""

    def __init__(self, place: Place, root: Path) -> None:
        self.place, self.root = place, root
        self._here: dict[str, str] = {}
        """The tags of what was fetched."""

    def fetch(self, path: Path, only: Callable[[str], bool] = lambda name: True) -> None:
        """Bring a file, or what lies below a folder, as far as `only` wants it by its name below the root."""
        place, prefix = self._place(path), len(self.place.below("").key)
        single = objects.look(place) if path != self.root else None
        for found in [single] if single else objects.listed(place.below("")):
            name = found.key[prefix:]
            if name and not name.endswith("/") and only(name) and self._here.get(name) != found.tag:
                self._here[name] = self._bring(found, name)

    def send(self, path: Path) -> None:
        """Make an object of a file, or of a folder of files as one archive."""
        if not path.is_dir():
            objects.upload(path, self._place(path))
            return
        packed = path.with_name(f"_{path.name}{_PACKED}.aside")
        try:
            # Not compressed: Parquet is compressed already.
            with tarfile.open(packed, "w") as archive:
                for file in sorted(path.iterdir()):
                    archive.add(file, file.name)
            objects.upload(packed, self._packed(path))
        finally:
            packed.unlink(missing_ok=True)

    def send_all(self, folder: Path) -> None:
        """Make an object of each file below a folder."""
        for file in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            if file.is_file():
                self.send(file)

    def delete(self, path: Path, was_folder: bool) -> None:
        """Delete what was sent of a file or folder."""
        if not was_folder:
            objects.delete(self._place(path))
            return
        objects.delete(self._packed(path))
        objects.delete_below(self._place(path))

    def names(self, folder: Path) -> list[str]:
        """List the names of the files in a folder."""
        place = self._place(folder).below("")
        found = (each.key.removeprefix(place.key) for each in objects.listed(place))
        return sorted(name for name in found if "/" not in name)

    def read(self, path: Path) -> tuple[str, str] | None:
        """Return what an object says now, and its tag; None when there is none."""
        found = objects.read(self._place(path))
        return None if found is None else (found[0].decode("utf-8", "replace"), found[1])

    def claim(self, path: Path, text: str, tag: str | None) -> bool:
        """Write an object if it still has this tag, or if there is none; tell whether it was so."""
        place, data = self._place(path), text.encode()
        try:
            won = objects.put(place, data, unless=tag or "")
            # Some storages take the condition and do not go by it: once it was won, it holds no more.
            if not won or not objects.put(place, data + b"\n", unless=tag or ""):
                return won
        except objects.Lacking:
            objects.put(place, data)
        log.warning(
            "%s: this storage does not write on conditions: of two runs that begin at the same moment, one is"
            " stopped only when it writes; start them one after the other",
            self.place,
        )
        return True

    def let_go(self, path: Path, tag: str | None) -> None:
        """Empty an object that has been claimed, if it still has this tag."""
        # Not deleted: that knows no condition everywhere, and may be done when another has claimed it.
        try:
            objects.put(self._place(path), b"", unless=tag or "")
        except objects.Lacking:
            objects.put(self._place(path), b"")

    def first(self, path: Path, text: str) -> str:
        """Write an object unless there is one; return what is there then."""
        with contextlib.suppress(objects.Lacking):
            objects.put(self._place(path), text.encode(), unless="")
        # A storage that does not know conditions has written nothing.
        if (found := self.read(path)) is None:
            objects.put(self._place(path), text.encode())
        return found[0] if found else text

    # ---- inside ----

    def _place(self, path: Path) -> Place:
        return self.place if path == self.root else self.place.below(path.relative_to(self.root).as_posix())

    def _packed(self, path: Path) -> Place:
        place = self._place(path)
        return Place(place.bucket, place.key + _PACKED)

    def _bring(self, found: Found, name: str) -> str:
        """Bring an object here as it is by now; return its tag, empty where it is gone."""
        target, place = self.root / name, Place(self.place.bucket, found.key)
        # A key may be any text: none may lead out of the folder.
        if ".." in target.parts or target.is_dir():
            return found.tag
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f"_{target.name}.aside")
        try:
            with aside.open("wb") as file:
                objects.download(place, found, file.write)
        except StorageRefused:
            aside.unlink()
            # A run that writes replaces its objects, and what a dead one had asked for may be done only now.
            newer = objects.look(place)
            if newer is not None and newer.tag == found.tag:
                raise
            return self._bring(newer, name) if newer else ""
        if name.startswith("_journal/") and name.endswith(_PACKED):
            _unpack(aside, target.with_suffix(""), found)
        else:
            aside.replace(target)
        return found.tag


def _unpack(packed: Path, folder: Path, found: Found) -> None:
    try:
        folder.mkdir(exist_ok=True)
        with tarfile.open(packed, "r:") as archive:
            for member in archive:
                # By hand: filters of extractall came with Python 3.11.4, and parts hold files alone.
                if not member.isfile() or "/" in member.name:
                    raise tarfile.TarError(f"{member.name} is no file of a part")
                with (folder / member.name).open("wb") as file:
                    shutil.copyfileobj(cast(IO[bytes], archive.extractfile(member)), file)
    except (tarfile.TarError, OSError) as error:
        raise OutputError(f"{folder}{_PACKED}: cannot be read ({type(error).__name__}); restore it") from None
    packed.unlink()
    # Parts of several journals are put in order by time: that of the storage, not of their arrival.
    os.utime(folder, (found.changed, found.changed))


# ---- the mirrors that are open ----

_open: dict[Path, Mirror] = {}
_names: dict[str, str] = {}
"""URLs of the folders that are or were open, by which people know them."""
_here: ContextVar[dict[str, Path]] = ContextVar("_here")


@contextlib.contextmanager
def opened(location: str) -> Iterator[Path]:
    """Give the folder of an output: of a URL one that stands for it, gone at the end with its logs sent."""
    if not objects.is_url(location):
        yield Path(location)
        return
    place = objects.parse(location.rstrip("/"))
    objects.check_installed()
    root = owner.private_folder("output")
    _open[root], _names[str(root)] = Mirror(place, root), str(place)
    before = _here.set({**_here.get({}), location: root})
    try:
        yield root
    finally:
        _here.reset(before)
        try:
            _open[root].send_all(root / "logs")
        except PipelineError as error:
            # The tables are there: a run does not fail for its logs.
            log.warning("the logs are not sent: %s", error)
        finally:
            del _open[root]
            shutil.rmtree(root, ignore_errors=True)


def folder(location: str) -> Path:
    """Return the folder of an output; of a URL the one that is open for it in this thread."""
    if not objects.is_url(location):
        return Path(location)
    try:
        return _here.get({})[location]
    except KeyError:
        raise SettingsError(
            f"output={location}: is not opened; leave out Hydra's own options, such as --multirun"
        ) from None


def of(path: Path) -> Mirror | None:
    """Return the mirror that a path lies in; None for all other paths."""
    if not _open:
        return None
    return next((_open[root] for root in (path, *path.parents) if root in _open), None)


def named(text: str) -> str:
    """Return a text with the URLs of outputs in the place of the folders that stand for them."""
    for root, url in _names.items():
        text = text.replace(root, url)
    return text
