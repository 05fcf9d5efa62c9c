"""Decode image files and books of them with Pillow, at exactly the size asked for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

from pipeline.errors import Corrupt, DocumentError, TooLarge, Unsupported
from pipeline.reading import books, odd_images, pixels
from pipeline.reading.job import Geometry, Job, Sheet, first_line
from pipeline.reading.odd_images import DAMAGED
from pipeline.reading.sheets import box, sheets

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = {
    "png": "PNG", "jpeg": "JPEG", "webp": "WEBP", "tiff": "TIFF", "gif": "GIF", "bmp": "BMP", "heic": "HEIF",
    "avif": "AVIF",
}  # fmt: skip
"""Kinds of image files, and what Pillow calls them."""
KINDS = frozenset({*FORMATS, "cbz"})

# A TIFF of a few bytes may name millions of frames.
_MOST_FRAMES = 20_000


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
    # Not `n_frames`: it walks to the end, and one broken frame would cost all others.
    for number in range(2, _MOST_FRAMES):
        try:
            image.seek(number - 1)
            _refuse_size(job, image)
            found += _sheets(image, number, geometry)
        except EOFError:
            break
        except (*DAMAGED, TooLarge):
            # Where the next frame is stands in this one: what follows cannot be found.
            found.append(_failing(number, geometry))
            break
    return found


def _sheets(image: Image, number: int, geometry: Geometry) -> list[Sheet]:
    width, height = image.size if _orientation(image) < 5 else reversed(image.size)
    across, down = _stretch(image)
    return sheets(number, width * across, height * down, geometry, legible=geometry.max_px, enlarge=False)


_LEAST_STRETCH, _MOST_STRETCH = 1.2, 3.0


def _stretch(image: Image) -> tuple[float, float]:
    """Return the width and height of a pixel: a fax has half as many lines as dots, per inch."""
    x, y = map(float, image.info.get("dpi") or (0, 0))
    # Only of TIFF: what programs write as the resolution of photos is no more than a number.
    if image.format != "TIFF" or not (x > 0 < y) or image.tag_v2.get(274, 1) > 4:  # type: ignore[attr-defined]
        return 1.0, 1.0
    if _LEAST_STRETCH <= x / y <= _MOST_STRETCH:
        return 1.0, x / y
    return (y / x, 1.0) if _LEAST_STRETCH <= y / x <= _MOST_STRETCH else (1.0, 1.0)


def _open(job: Job, number: int) -> Image:
    """Open an image without decoding it: the first one of a file, or page `number` of a book."""
    from PIL import Image as pillow

    pillow.MAX_IMAGE_PIXELS = None  # our own limit speaks first, from the header
    kind, file = _file(job, number)
    if kind == "heic":
        _learn_heif()
    try:
        image: Image = pillow.open(file, formats=[FORMATS[kind]])
    except DAMAGED as error:
        image = odd_images.opened_otherwise(job, kind, file, error) or _refused(job, kind, file, error)
    _refuse_size(job, image)
    return image


def _refused(job: Job, kind: str, file: odd_images.Content, error: Exception) -> NoReturn:
    """Raise what is wrong with an image that Pillow cannot open."""
    # Its message holds the path of the file, which is not for tables.
    said = first_line(error).replace(job.path, "the file")
    form = said if odd_images.is_unknown(error) else None
    if kind == "jpeg":
        form = odd_images.rare_jpeg(odd_images.content(file)) or form
    if form:
        why = f"a form of {kind} that is not read here ({form}); convert it to PNG"
        raise Unsupported(f"{job.source}: {why}") from None
    raise Corrupt(f"{job.source}: not a readable {kind} image ({said}); fetch it again") from None


def _file(job: Job, number: int) -> tuple[str, odd_images.Content]:
    """Return the kind of an image, and its path or bytes."""
    return books.member(job, number) if job.kind == "cbz" else (job.kind, job.path)


def _learn_heif() -> None:
    import pillow_heif  # half a second, which runs without such photos need not spend

    pillow_heif.register_heif_opener(thumbnails=False)


def _refuse_size(job: Job, image: Image) -> None:
    if image.width * image.height > job.max_pixels:
        size = f"{image.width} x {image.height} pixels"
        raise TooLarge(
            f"{job.source}: {size}, over raster.max_megapixels={job.max_pixels // 1_000_000}; raise it"
        )


def _orientation(image: Image) -> int:
    """Return the EXIF orientation, 1 to 8, without decoding the pixels."""
    # Pillow would decode a whole PNG to look for EXIF behind its pixels, and turns a TIFF itself.
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1
    try:
        said = int(image.getexif().get(0x0112, 1))  # some programs write it as text
    except DAMAGED:
        return 1
    return said if 1 <= said <= 8 else 1


def decode(job: Job, sheet: Sheet) -> Image:
    """Decode one page of an image file, or the part of it that `sheet` is."""
    image = _open(job, sheet.number)
    whole = pixels.upright(_loaded(job, image, sheet), _orientation(image))
    corners = box(sheet.part, *whole.size)
    # Cut after turning: parts are those of the page as it is seen.
    if corners != (0.0, 0.0, *whole.size):
        x0, y0, x1, y1 = (round(corner) for corner in corners)
        whole = whole.crop((x0, y0, x1, y1))
    return pixels.fitted(whole, sheet.width_px, sheet.height_px, _stretch(image))


def _loaded(job: Job, image: Image, sheet: Sheet) -> Image:
    """Return an image with its pixels. Raises Corrupt or Unsupported."""
    named = f"{job.source}, page {sheet.number}"
    try:
        with _libraries_quiet():
            # Of animations the first image is the page; only a TIFF has pages.
            if image.format == "TIFF":
                image.seek(sheet.number - 1)
            _reduce(image, sheet)
            # Pillow decodes lazily: load here, so that a corrupt chart fails in the worker that owns it.
            image.load()
        return image
    except DAMAGED as error:
        _, file = _file(job, sheet.number)
        if image.format == "PNG" and (still := odd_images.loaded_still(file)):
            return still
        if form := odd_images.rare_form(image, file, error):
            raise Unsupported(f"{named}: a form that is not read here ({form}); convert it to PNG") from None
        raise Corrupt(f"{named}: cannot be decoded ({first_line(error)}); fetch it again") from None


def _reduce(image: Image, sheet: Sheet) -> None:
    """Let a JPEG that is shown much smaller be decoded smaller, which takes a fraction of the time."""
    if image.format == "JPEG" and sheet.part == (0, 0, 1, 1):
        side = 2 * max(sheet.width_px, sheet.height_px)
        image.draft(None, (side, side))


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
