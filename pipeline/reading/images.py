"""Decode image files with Pillow: upright, as RGB on white, at exactly the size asked for."""

from __future__ import annotations

import contextlib
import io
import os
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.errors import Corrupt, DocumentError, TooLarge, Unsupported
from pipeline.reading import books
from pipeline.reading.job import Geometry, Job, Sheet, first_line
from pipeline.reading.png import without_extras
from pipeline.reading.sheets import box, sheets

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = {
    "png": "PNG", "jpeg": "JPEG", "webp": "WEBP", "tiff": "TIFF", "gif": "GIF", "bmp": "BMP", "heic": "HEIF",
    "avif": "AVIF",
}  # fmt: skip
"""Kinds of image files, and what Pillow calls them."""
KINDS = frozenset({*FORMATS, "cbz"})

_MOST_FRAMES = 20_000

# What Pillow's readers raise on damaged files, beside its own errors.
_DAMAGED = (
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
_UNKNOWN = ("unsupported", "not supported", "unknown", "not implemented", "cannot handle")
"""Words by which Pillow says that a file is sound, but of a form that it does not read."""

# Of TIFF: forms that Pillow's libtiff always reads. Others depend on how it was built.
_TIFF_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32809, 32946})


def sheets_of(job: Job, geometry: Geometry) -> list[Sheet]:
    """Return the images that an image file, or a book of them, will have."""
    if job.kind != "cbz":
        return _sheets_of_frames(job, geometry)
    found = []
    for number, _ in enumerate(books.pages(job), 1):
        try:
            found += _sheets(_open(job, number), number, geometry)
        except DocumentError:
            found.append(_failing(number, geometry))
    return found


def _failing(number: int, geometry: Geometry) -> Sheet:
    """Return a page that says what is wrong when it is drawn, and costs itself alone."""
    return Sheet(number, geometry.patch_px, geometry.patch_px)


def _sheets_of_frames(job: Job, geometry: Geometry) -> list[Sheet]:
    image = _open(job, 1)
    found = _sheets(image, 1, geometry)
    if image.format != "TIFF":
        return found
    for number in range(2, _MOST_FRAMES):
        try:
            image.seek(number - 1)
            _refuse_size(job, image)
            found += _sheets(image, number, geometry)
        except EOFError:
            break
        except (*_DAMAGED, TooLarge):
            # Where the next frame is stands in this one: what follows cannot be found.
            found.append(_failing(number, geometry))
            break
    return found


def _sheets(image: Image, number: int, geometry: Geometry) -> list[Sheet]:
    width, height = _upright_size(image)
    return sheets(number, width, height, geometry, legible=geometry.max_px, enlarge=False)


def _open(job: Job, number: int) -> Image:
    """Open an image without decoding it: the first one of a file, or page `number` of a book."""
    from PIL import Image as pillow

    pillow.MAX_IMAGE_PIXELS = None  # our own limit speaks first, from the header
    kind, file = (job.kind, job.path) if job.kind != "cbz" else books.member(job, number)
    if kind in ("heic", "avif"):
        _learn_heif()
    try:
        image: Image = pillow.open(file, formats=[FORMATS[kind]])
    except _DAMAGED as error:
        image = _opened_otherwise(job, kind, file, error)
    _refuse_size(job, image)
    return image


def _learn_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False)


def _opened_otherwise(job: Job, kind: str, file: str | io.BytesIO, error: Exception) -> Image:
    """Open an image that Pillow refuses: a PNG by its pixels alone, a BMP with MuPDF."""
    from PIL import Image as pillow

    with contextlib.suppress(*_DAMAGED):
        if kind == "png":
            return pillow.open(io.BytesIO(without_extras(_content(file))), formats=["PNG"])
        if kind == "bmp" and _is_unknown(error):
            return _with_mupdf(job, _content(file))
    if _is_unknown(error):
        raise Unsupported(
            f"{job.source}: a form of {kind} that is not read here ({first_line(error)})"
        ) from None
    raise Corrupt(f"{job.source}: not a readable {kind} image ({first_line(error)})") from None


def _content(file: str | io.BytesIO) -> bytes:
    if isinstance(file, io.BytesIO):
        return file.getvalue()
    with open(file, "rb") as opened:  # noqa: PTH123 - names of any bytes
        return opened.read()


def _with_mupdf(job: Job, content: bytes) -> Image:
    import pymupdf
    from PIL import Image as pillow

    width, height = struct.unpack_from("<ii", content, 18)
    if width * abs(height) > job.max_pixels:
        raise TooLarge(f"{job.source}: {width} x {abs(height)} pixels, over raster.max_megapixels")
    try:
        pixmap = pymupdf.Pixmap(content)
    except pymupdf.mupdf.FzErrorBase as error:
        raise ValueError(str(error)) from None
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[pixmap.n]
    return pillow.frombytes(mode, (pixmap.width, pixmap.height), pixmap.samples)


def _is_unknown(error: Exception) -> bool:
    said = str(error).lower()
    return isinstance(error, NotImplementedError) or any(word in said for word in _UNKNOWN)


def _refuse_size(job: Job, image: Image) -> None:
    if image.width * image.height > job.max_pixels:
        size = f"{image.width} x {image.height} pixels"
        raise TooLarge(f"{job.source}: {size}, over raster.max_megapixels={job.max_pixels // 1_000_000}")


def _orientation(image: Image) -> int:
    """Return the EXIF orientation, 1 to 8, without decoding the pixels."""
    # Pillow would decode a whole PNG to look for EXIF behind its pixels, and turns a TIFF itself.
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1
    try:
        said = int(image.getexif().get(0x0112, 1))  # some programs write it as text
    except _DAMAGED:
        return 1
    return said if 1 <= said <= 8 else 1


def _upright_size(image: Image) -> tuple[int, int]:
    width, height = image.size
    return (height, width) if _orientation(image) >= 5 else (width, height)


def decode(job: Job, sheet: Sheet) -> Image:
    """Decode one page of an image file, or the part of it that `sheet` is."""
    image = _open(job, sheet.number)
    whole = _upright(_loaded(job, image, sheet))
    corners = box(sheet.part, *whole.size)
    if corners != (0.0, 0.0, *whole.size):
        x0, y0, x1, y1 = (round(corner) for corner in corners)
        whole = whole.crop((x0, y0, x1, y1))
    return _fitted(whole, sheet.width_px, sheet.height_px)


def _loaded(job: Job, image: Image, sheet: Sheet) -> Image:
    """Return an image with its pixels. Raises Corrupt or Unsupported."""
    named = f"{job.source}, page {sheet.number}"
    try:
        with _libraries_quiet():
            if image.format == "TIFF":
                image.seek(sheet.number - 1)
            if image.format == "JPEG":
                # At twice the size that is needed, in any direction, decoding is several times as fast.
                side = 2 * max(sheet.width_px, sheet.height_px)
                if max(image.size) == max(_part_sides(image, sheet)):
                    image.draft(None, (side, side))
            # Pillow decodes lazily: load here, so that a corrupt chart fails in the worker that owns it.
            image.load()
        return image
    except _DAMAGED as error:
        if image.format == "PNG" and (plain := _plain_png(job, sheet)):
            return plain
        compression = image.tag_v2.get(259) if image.format == "TIFF" else None  # type: ignore[attr-defined]
        if _is_unknown(error) or (compression is not None and compression not in _TIFF_COMPRESSIONS):
            form = f"TIFF compression {image.info.get('compression', compression)}"
            why = form if compression is not None else first_line(error)
            raise Unsupported(f"{named}: a form that is not read here ({why}); convert it to PNG") from None
        raise Corrupt(f"{named}: cannot be decoded ({first_line(error)})") from None


def _part_sides(image: Image, sheet: Sheet) -> tuple[float, float]:
    x0, y0, x1, y1 = box(sheet.part, *image.size)
    return x1 - x0, y1 - y0


def _plain_png(job: Job, sheet: Sheet) -> Image | None:
    """Return the still image of a PNG whose animation is broken; None where that is broken too."""
    from PIL import Image as pillow

    file = job.path if job.kind != "cbz" else books.member(job, sheet.number)[1]
    try:
        image = pillow.open(io.BytesIO(without_extras(_content(file))), formats=["PNG"])
        image.load()
        return image
    except _DAMAGED:
        return None


@contextlib.contextmanager
def _libraries_quiet() -> Iterator[None]:
    """Keep what libtiff says of a file from standard error, where it would pass for this program's words."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def _upright(image: Image) -> Image:
    from PIL import Image as pillow

    turn = pillow.Transpose
    method = {
        2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE,
        6: turn.ROTATE_270, 7: turn.TRANSVERSE, 8: turn.ROTATE_90,
    }.get(_orientation(image))  # fmt: skip
    flat = _flatten(image)
    return flat if method is None else flat.transpose(method)


def _fitted(image: Image, width_px: int, height_px: int) -> Image:
    """Return an image at exactly a size, in its own shape: its last row and column fill the rest."""
    from PIL import Image as pillow

    ratio = min(width_px / image.width, height_px / image.height, 1.0)
    width, height = (min(max(round(side * ratio), 1), most) for side, most in
                     zip(image.size, (width_px, height_px), strict=True))  # fmt: skip
    if (width, height) != image.size:
        image = image.resize((width, height), pillow.Resampling.BICUBIC, reducing_gap=3.0)
    if (width, height) == (width_px, height_px):
        return image
    canvas = image.crop((0, 0, width_px, height_px))
    if width < width_px:
        canvas.paste(image.crop((width - 1, 0, width, height)).resize((width_px - width, height)), (width, 0))
    if height < height_px:
        row = canvas.crop((0, height - 1, width_px, height))
        canvas.paste(row.resize((width_px, height_px - height)), (0, height))
    return canvas


def _flatten(image: Image) -> Image:
    from PIL import Image as pillow

    if image.mode.startswith(("I", "F")):
        image = _to_8_bit(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = pillow.new("RGBA", image.size, "white")
        return pillow.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _to_8_bit(image: Image) -> Image:
    """Scale 16-bit samples by 1/257; wider ones by their own range, for they have no fixed white."""
    import numpy as np
    from PIL import Image as pillow

    samples = np.asarray(image).astype(np.float32)
    if image.mode.startswith("I;16") or (image.mode == "I" and samples.min() >= 0 and samples.max() <= 65535):
        low, high = 0.0, 65535.0
    else:
        low, high = float(np.nanmin(samples)), float(np.nanmax(samples))
    scaled = (np.nan_to_num(samples) - low) * (255.0 / max(high - low, 1e-9))
    return pillow.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))
