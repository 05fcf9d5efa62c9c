"""Damage files the way their formats are built: tokens, streams, chunks, members, tags, plain bytes."""

from __future__ import annotations

import io
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable

Change = Callable[[random.Random, bytes], bytes]

_EXTREMES = (0, 1, -1, 2, 255, 65_535, 2**31 - 1, -(2**31), 2**32, 2**63, 10**40)
_NUMBER = re.compile(rb"(?<![\w.])-?\d+(?:\.\d+)?")
_REFERENCE = re.compile(rb"(\d+) (\d+) R\b")
_NAME = re.compile(rb"/[A-Za-z][\w.#-]*")
_STREAM = re.compile(rb"stream\r?\n(.*?)\r?\nendstream", re.DOTALL)
_TAG = re.compile(rb"<[^<>]{1,400}>")
_ATTRIBUTE = re.compile(rb'="[^"<>]{0,200}"')
_MOST_BYTES = 4 << 20


def mutate(chance: random.Random, data: bytes, ending: str) -> bytes:
    """Return `data` with one to six changes, most of them by its format."""
    own = BY_ENDING.get(ending, ())
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        change = chance.choice(own if own and chance.random() < 0.75 else PLAIN)
        data = change(chance, data)[:_MOST_BYTES]
    return data


# ---- bytes ----


def _span(chance: random.Random, data: bytes, most: int = 4096) -> tuple[int, int]:
    start = chance.randrange(len(data) + 1)
    return start, min(len(data), start + chance.choice((1, 2, 4, 16, 256, most)))


def flip(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 4, 32)) if data else 0):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut_out(chance: random.Random, data: bytes) -> bytes:
    start, end = _span(chance, data)
    return data[:start] + data[end:]


def repeat(chance: random.Random, data: bytes) -> bytes:
    start, end = _span(chance, data)
    return data[:end] + data[start:end] * chance.choice((1, 2, 50)) + data[end:]


def truncate(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def move(chance: random.Random, data: bytes) -> bytes:
    start, end = _span(chance, data)
    rest = data[:start] + data[end:]
    place = chance.randrange(len(rest) + 1)
    return rest[:place] + data[start:end] + rest[place:]


def set_number(chance: random.Random, data: bytes) -> bytes:
    """Write an extreme number over some bytes, in either order."""
    form = chance.choice((">B", ">H", "<H", ">I", "<I", ">Q", "<Q"))
    size = struct.calcsize(form)
    if len(data) < size:
        return data
    place = chance.randrange(len(data) - size + 1)
    number = struct.pack(form, chance.choice(_EXTREMES) % 2 ** (8 * size))
    return data[:place] + number + data[place + size :]


# ---- texts with tokens: PDF, SVG, XML ----


def _replace_one(
    chance: random.Random, data: bytes, pattern: re.Pattern[bytes], by: Callable[[bytes], bytes]
) -> bytes:
    found = list(pattern.finditer(data))
    if not found:
        return flip(chance, data)
    match = chance.choice(found)
    return data[: match.start()] + by(match[0]) + data[match.end() :]


def number_to_extreme(chance: random.Random, data: bytes) -> bytes:
    return _replace_one(chance, data, _NUMBER, lambda _: b"%d" % chance.choice(_EXTREMES))


def other_reference(chance: random.Random, data: bytes) -> bytes:
    """Lead a reference to another object, which makes circles and wrong types."""
    numbers = [match[1] for match in _REFERENCE.finditer(data)] or [b"1"]
    return _replace_one(chance, data, _REFERENCE, lambda _: chance.choice(numbers) + b" 0 R")


def other_name(chance: random.Random, data: bytes) -> bytes:
    names = _NAME.findall(data) or [b"/X"]
    return _replace_one(chance, data, _NAME, lambda _: chance.choice(names))


def stream_content(chance: random.Random, data: bytes) -> bytes:
    """Change what a compressed stream holds, so that its damage is behind the filter."""
    found = list(_STREAM.finditer(data))
    if not found:
        return flip(chance, data)
    match = chance.choice(found)
    try:
        inner = zlib.decompressobj().decompress(match[1], _MOST_BYTES)
    except zlib.error:
        return data[: match.start(1)] + flip(chance, match[1]) + data[match.end(1) :]
    change = chance.choice((number_to_extreme, cut_out, repeat, flip, move, other_name))
    return data[: match.start(1)] + zlib.compress(change(chance, inner)) + data[match.end(1) :]


def tag_again(chance: random.Random, data: bytes) -> bytes:
    return _replace_one(chance, data, _TAG, lambda tag: tag * chance.choice((2, 100, 5000)))


def other_attribute(chance: random.Random, data: bytes) -> bytes:
    values = _ATTRIBUTE.findall(data) or [b'="0"']
    return _replace_one(chance, data, _ATTRIBUTE, lambda _: chance.choice(values))


# ---- chunks and members ----


def png_chunk(chance: random.Random, data: bytes) -> bytes:
    """Change, drop or repeat a chunk, with the checksum right: decoders look no further where it is wrong."""
    chunks, place = [], 8
    while place + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + size]))
        place += 12 + size
    if not chunks:
        return flip(chance, data)
    index = chance.randrange(len(chunks))
    name, content = chunks[index]
    change = chance.choice((flip, cut_out, set_number, repeat, truncate))
    replaced = chance.choice(([], [(name, content)] * 2, [(name, change(chance, content))]))
    chunks[index : index + 1] = replaced
    return data[:8] + b"".join(
        struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks
    )


def zip_member(chance: random.Random, data: bytes) -> bytes:
    """Change, rename, drop or repeat a member of an archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()[:200]]
    except Exception:  # damaged by an earlier change
        return flip(chance, data)
    if members:
        index = chance.randrange(len(members))
        name, content = members[index]
        change = chance.choice((flip, truncate, number_to_extreme, tag_again, other_attribute, cut_out))
        other = chance.choice(("../../" + name, "/" + name, name.upper(), "\udc80" + name, "a/" * 500 + name))
        members[index : index + 1] = chance.choice(
            ([], [(name, content)] * 2, [(name, change(chance, content))], [(other, content)])
        )
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in members:
            archive.writestr(name.encode("utf-8", "replace").decode(), content)
    return written.getvalue()


PLAIN: tuple[Change, ...] = (flip, cut_out, repeat, truncate, move, set_number)
_TEXT: tuple[Change, ...] = (number_to_extreme, tag_again, other_attribute, cut_out)
_ZIP: tuple[Change, ...] = (zip_member,)
BY_ENDING: dict[str, tuple[Change, ...]] = {
    ".pdf": (number_to_extreme, other_reference, other_name, stream_content, stream_content),
    ".svg": _TEXT, ".png": (png_chunk, png_chunk, set_number),
    ".epub": _ZIP, ".cbz": _ZIP, ".xps": _ZIP, ".oxps": _ZIP, ".docx": _ZIP, ".zip": _ZIP,
}  # fmt: skip
