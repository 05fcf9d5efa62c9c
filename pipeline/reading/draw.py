"""Draw one document's pages as images of exactly the size that the model takes. Runs in worker processes."""

from __future__ import annotations

import functools
import resource
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import Corrupt, DocumentError, Empty, Encrypted, TooLarge, Unreadable

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


@dataclass(frozen=True, slots=True)
class Geometry:
    """What the model's image encoder takes as it is: sides of whole patches, none over `max_px`."""

    max_px: int
    patch_px: int

    def fit(self, width: float, height: float, *, enlarge: bool) -> tuple[int, int]:
        """Return the size in pixels at which an encoder need not resample a `width` x `height` page."""
        ratio = max(width, height) / self.max_px
        if ratio > 1 or enlarge:
            width, height = max(round(width / ratio), 1), max(round(height / ratio), 1)
        return self._whole(width), self._whole(height)

    def _whole(self, side: float) -> int:
        return ((int(side) - 1) // self.patch_px + 1) * self.patch_px


class Job(NamedTuple):
    """What a worker needs to open a document."""

    path: str
    source: str
    kind: str
    password: str | None
    max_pixels: int


class Rendered(NamedTuple):
    text: str
    blank: bool
    seconds: float


def prepare_worker(worker_memory_mb: int) -> None:
    """Make this process one that only draws, with a limit on its memory."""
    # PyMuPDF would load the models of its layout analysis, where that is installed: half of a worker's start.
    sys.modules.setdefault("pymupdf.layout", None)  # type: ignore[arg-type]
    _mupdf().TOOLS.mupdf_display_errors(False)
    _mupdf().TOOLS.mupdf_display_warnings(False)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + (worker_memory_mb << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _mupdf() -> Any:
    import pymupdf

    return pymupdf


def inspect(job: Job, geometry: Geometry) -> list[tuple[int, int]]:
    """Return the size in pixels that each page will have."""
    if job.kind in IMAGE_KINDS:
        return _image_sizes(job, geometry)
    document = _open(job, Path(job.path).stat().st_mtime_ns)
    sizes = []
    for index in range(document.page_count):
        rect = document.load_page(index).rect
        if rect.is_empty or rect.is_infinite:
            raise Corrupt(f"{job.source}: page {index + 1} has no area; repair the file")
        sizes.append(geometry.fit(rect.width, rect.height, enlarge=True))
    return sizes


def render_run(job: Job, wanted: list[tuple[int, int, int, str]]) -> list[Rendered | DocumentError]:
    """Render pages (number, width, height, file); a page that cannot be drawn does not keep the others."""
    outcomes: list[Rendered | DocumentError] = []
    for number, width_px, height_px, out in wanted:
        try:
            outcomes.append(_render(job, number, width_px, height_px, out))
        except DocumentError as error:
            outcomes.append(error)
    return outcomes


def _render(job: Job, number: int, width_px: int, height_px: int, out: str) -> Rendered:
    """Write page `number` as a binary PPM of exactly that size and return its text layer."""
    begin = time.perf_counter()
    if job.kind in IMAGE_KINDS:
        image = _image(job, number, width_px, height_px)
        image.save(out, format="PPM")
        text, blank = "", _is_blank(image)
    else:
        pixmap, text = _draw(job, number, width_px, height_px)
        with Path(out).open("wb") as file:
            file.write(b"P6 %d %d 255\n" % (width_px, height_px))
            file.write(pixmap.samples_mv)
        blank = not text.strip() and _is_blank(_as_image(pixmap))
    return Rendered(text, blank, time.perf_counter() - begin)


@functools.lru_cache(maxsize=2)
def _open(job: Job, mtime_ns: int) -> Any:
    """Open a document with MuPDF; the last two stay open, since pages come one by one."""
    mupdf = _mupdf()
    try:
        document = mupdf.open(job.path, filetype=job.kind)
    except mupdf.mupdf.FzErrorSystem as error:
        raise MemoryError(first_line(error)) from None
    except (mupdf.mupdf.FzErrorBase, RuntimeError, ValueError) as error:
        raise Corrupt(f"{job.source}: cannot be opened as {job.kind} ({first_line(error)})") from None
    if document.needs_pass and not (job.password and document.authenticate(job.password)):
        hint = "the password given is wrong" if job.password else "needs a password"
        raise Encrypted(f"{job.source}: {hint}; give it with raster.password=… or raster.passwords=FILE.csv")
    if document.page_count == 0:
        if getattr(document, "is_repaired", False):
            raise Corrupt(f"{job.source}: no page could be recovered; the file is damaged, fetch it again")
        raise Empty(f"{job.source}: has no pages")
    return document


def _draw(job: Job, number: int, width_px: int, height_px: int) -> tuple[Any, str]:
    mupdf = _mupdf()
    try:
        page = _open(job, Path(job.path).stat().st_mtime_ns).load_page(number - 1)
        scale = mupdf.Matrix(width_px / page.rect.width, height_px / page.rect.height)
        # One display list serves both the pixels and the text: the page is interpreted once.
        content = page.get_displaylist()
        pixmap = content.get_pixmap(matrix=scale, alpha=False)
        text: str = mupdf.TextPage(content.get_textpage()).extractText()
    except mupdf.mupdf.FzErrorSystem as error:
        raise MemoryError(first_line(error)) from None
    except (mupdf.mupdf.FzErrorBase, RuntimeError, ValueError) as error:
        raise Unreadable(f"{job.source}, page {number}: cannot be drawn ({first_line(error)})") from None
    if (pixmap.width, pixmap.height, pixmap.n) != (width_px, height_px, 3):
        raise Unreadable(f"{job.source}, page {number}: drawn as {pixmap.width} x {pixmap.height} px")
    return pixmap, text


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _pillow(job: Job) -> Any:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # our own limit speaks first, from the header
    try:
        image = Image.open(job.path)
    except _DAMAGED as error:
        raise Corrupt(f"{job.source}: not a readable {job.kind} image ({first_line(error)})") from None
    if image.width * image.height > job.max_pixels:
        size = f"{image.width} x {image.height} pixels"
        raise TooLarge(f"{job.source}: {size}, over raster.max_megapixels={job.max_pixels // 1_000_000}")
    return image


def _image_sizes(job: Job, geometry: Geometry) -> list[tuple[int, int]]:
    image = _pillow(job)
    sizes = []
    try:
        for index in range(getattr(image, "n_frames", 1) if job.kind == "tiff" else 1):
            image.seek(index)
            if image.width * image.height > job.max_pixels:
                raise TooLarge(f"{job.source}: page {index + 1} is over raster.max_megapixels")
            width, height = (image.height, image.width) if _orientation(image) >= 5 else image.size
            sizes.append(geometry.fit(width, height, enlarge=False))
    except _DAMAGED as error:
        raise Corrupt(f"{job.source}: cannot be decoded ({first_line(error)})") from None
    return sizes


def _orientation(image: Any) -> int:
    """Return the EXIF orientation, 1 to 8, without decoding the pixels."""
    # Pillow would decode a whole PNG to look for EXIF behind its pixels.
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    return int(image.getexif().get(0x0112, 1))


def _image(job: Job, number: int, width_px: int, height_px: int) -> Any:
    """Decode an image file upright, as RGB on white, at exactly the size asked for."""
    from PIL import Image, ImageOps

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
    return upright.resize((width_px, height_px), Image.Resampling.BICUBIC, reducing_gap=3.0)


def _flatten(image: Any) -> Any:
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        image = _to_8_bit(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _to_8_bit(image: Any) -> Any:
    """Scale 16-bit samples by 1/257; wider ones by their own range, for they have no fixed white."""
    import numpy as np
    from PIL import Image

    samples = np.asarray(image).astype(np.float32)
    if image.mode.startswith("I;16") or (image.mode == "I" and samples.min() >= 0 and samples.max() <= 65535):
        low, high = 0.0, 65535.0
    else:
        low, high = float(np.nanmin(samples)), float(np.nanmax(samples))
    scaled = (np.nan_to_num(samples) - low) * (255.0 / max(high - low, 1e-9))
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))


def _as_image(pixmap: Any) -> Any:
    from PIL import Image

    return Image.frombuffer("RGB", (pixmap.width, pixmap.height), pixmap.samples, "raw", "RGB", 0, 1)


def _is_blank(image: Any, block_px: int = 8, contrast: int = 16) -> bool:
    """Tell whether no block of pixels stands out: scanner noise averages out, a single word does not."""
    low, high = image.convert("L").reduce(block_px).getextrema()
    return bool(high - low <= contrast)
