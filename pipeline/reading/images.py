"""Decode image files with Pillow: upright, as RGB on white, at exactly the size asked for."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pipeline.errors import Corrupt, TooLarge
from pipeline.reading.job import Geometry, Job, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_KINDS = frozenset({"png", "jpeg", "webp", "tiff", "gif", "bmp"})

# What Pillow's readers raise on damaged files, beside its own errors.
_DAMAGED = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    TypeError,
    KeyError,
    IndexError,
    struct.error,
    OverflowError,
)


def _pillow(job: Job) -> Image:
    from PIL import Image as pillow

    pillow.MAX_IMAGE_PIXELS = None  # our own limit speaks first, from the header
    try:
        image = pillow.open(job.path, formats=[job.kind])
    except _DAMAGED as error:
        raise Corrupt(f"{job.source}: not a readable {job.kind} image ({first_line(error)})") from None
    if image.width * image.height > job.max_pixels:
        size = f"{image.width} x {image.height} pixels"
        raise TooLarge(f"{job.source}: {size}, over raster.max_megapixels={job.max_pixels // 1_000_000}")
    return image


def sizes(job: Job, geometry: Geometry) -> list[tuple[int, int]]:
    """Return the size in pixels that each page of an image file will have."""
    image = _pillow(job)
    found = []
    try:
        for index in range(getattr(image, "n_frames", 1) if job.kind == "tiff" else 1):
            image.seek(index)
            if image.width * image.height > job.max_pixels:
                raise TooLarge(f"{job.source}: page {index + 1} is over raster.max_megapixels")
            width, height = (image.height, image.width) if _orientation(image) >= 5 else image.size
            found.append(geometry.fit(width, height, enlarge=False))
    except _DAMAGED as error:
        raise Corrupt(f"{job.source}: cannot be decoded ({first_line(error)})") from None
    return found


def _orientation(image: Image) -> int:
    """Return the EXIF orientation, 1 to 8, without decoding the pixels."""
    # Pillow would decode a whole PNG to look for EXIF behind its pixels.
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    return int(image.getexif().get(0x0112, 1))


def decode(job: Job, number: int, width_px: int, height_px: int) -> Image:
    """Decode one page of an image file."""
    from PIL import Image as pillow
    from PIL import ImageOps

    image = _pillow(job)
    try:
        image.seek(number - 1)
        turned = _orientation(image) != 1
        if image.format == "JPEG":
            image.draft(None, (2 * width_px, 2 * height_px))
        # Pillow decodes lazily: load here, so that a corrupt chart fails in the worker that owns it.
        image.load()
    except _DAMAGED as error:
        raise Corrupt(f"{job.source}, page {number}: cannot be decoded ({first_line(error)})") from None
    upright = _flatten(ImageOps.exif_transpose(image) if turned else image)
    if upright.size == (width_px, height_px):
        return upright
    return upright.resize((width_px, height_px), pillow.Resampling.BICUBIC, reducing_gap=3.0)


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
