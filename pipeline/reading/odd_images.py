"""Images that Pillow does not decode as they are: what can be had of them, or what form they are of."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

from pipeline.errors import TooLarge
from pipeline.reading.job import Job, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

Content = str | io.BytesIO
"""The path of an image file, or what is in it."""

DAMAGED = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    struct.error,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    ZeroDivisionError,
)
"""What Pillow's readers raise on damaged files, beside its own errors."""

_SHORT_HEADER = 12
"""Bytes of the header of a BMP as OS/2 wrote them, whose sides have two bytes each."""
_UNKNOWN = ("unsupported", "not supported", "unknown", "not implemented", "cannot handle")
"""Words by which Pillow says that a file is sound, but of a form that it does not read."""

# Of TIFF: forms that Pillow's libtiff always reads. Others depend on how it was built.
_TIFF_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32809, 32946})
_RARE_JPEG = {0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical"}

_PNG = b"\x89PNG\r\n\x1a\n"
_PICTURE_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"gAMA", b"sRGB", b"eXIf"})


def opened_otherwise(job: Job, kind: str, file: Content, error: Exception) -> Image | None:
    """Open an image that Pillow refuses with `error`: a PNG by its picture alone, a BMP with MuPDF."""
    try:
        if kind == "png":
            return still_png(file)
        if kind == "bmp" and is_unknown(error):
            return _with_mupdf(job, content(file))
    except DAMAGED:
        pass
    return None


def still_png(file: Content) -> Image:
    """Open a PNG without its texts, which may be larger than it, and without its animation."""
    from PIL import Image as pillow

    whole, kept, at = content(file), [_PNG], len(_PNG)
    while at + 8 <= len(whole):
        end = at + 12 + int.from_bytes(whole[at : at + 4], "big")
        if whole[at + 4 : at + 8] in _PICTURE_CHUNKS:
            kept.append(whole[at:end])
        at = end
    # By name: hostile bytes are for no other of Pillow's readers.
    return pillow.open(io.BytesIO(b"".join(kept)), formats=["PNG"])


def loaded_still(file: Content) -> Image | None:
    """Decode the still image of a PNG whose animation is broken; None where that is broken too."""
    try:
        image = still_png(file)
        image.load()
        return image
    except DAMAGED:
        return None


def _with_mupdf(job: Job, whole: bytes) -> Image:
    import pymupdf
    from PIL import Image as pillow

    # From the header, before anything is decoded; a height below zero says that rows go from the top.
    is_short = struct.unpack_from("<I", whole, 14)[0] == _SHORT_HEADER
    width, height = struct.unpack_from("<HH" if is_short else "<ii", whole, 18)
    if width * abs(height) > job.max_pixels:
        raise TooLarge(f"{job.source}: {width} x {abs(height)} pixels, over raster.max_megapixels; raise it")
    try:
        pixmap = pymupdf.Pixmap(whole)
    except pymupdf.mupdf.FzErrorBase as error:
        raise ValueError(str(error)) from None
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[pixmap.n]
    return pillow.frombytes(mode, (pixmap.width, pixmap.height), pixmap.samples)


def rare_form(image: Image, file: Content, error: Exception) -> str | None:
    """Name the form of a sound image that cannot be decoded here; None for a damaged one."""
    if image.format == "TIFF":
        compression = image.tag_v2.get(259)  # type: ignore[attr-defined]
        if compression not in _TIFF_COMPRESSIONS:
            return f"TIFF compression {image.info.get('compression', compression)}"
    if image.format == "JPEG" and (form := rare_jpeg(content(file))):
        return f"{form} JPEG"
    return first_line(error) if is_unknown(error) else None


def is_unknown(error: Exception) -> bool:
    """Tell whether Pillow says that it does not know this form, rather than that it is broken."""
    said = str(error).lower()
    return isinstance(error, NotImplementedError) or any(word in said for word in _UNKNOWN)


def rare_jpeg(whole: bytes) -> str | None:
    """Name a form of JPEG that libraries do not decode, from the header of its frame; None for any other."""
    at = 2
    while at + 9 < len(whole) and whole[at] == 0xFF:
        marker, length = whole[at + 1], int.from_bytes(whole[at + 2 : at + 4], "big")
        # C4, C8 and CC lie among the headers of frames, and are tables and an extension.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits = whole[at + 4]
            return _RARE_JPEG.get(marker) or (f"{bits} bits a sample" if bits != 8 else None)
        at += 2 + length
    return None


def content(file: Content) -> bytes:
    """Return the bytes of an image."""
    if isinstance(file, io.BytesIO):
        return file.getvalue()
    with open(file, "rb") as opened:  # noqa: PTH123 - names of any bytes
        return opened.read()
