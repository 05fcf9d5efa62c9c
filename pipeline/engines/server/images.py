"""How page images travel to a server."""

from __future__ import annotations

import base64
import functools
import io
from pathlib import Path

from pipeline.records import Page

_KEPT_IMAGES = 64
"""Encoded images that are kept for further questions about the same pages."""


class UnreadableImage(Exception):
    """A page image cannot be read; the message says why."""


def url(page: Page, how: str) -> str:
    """Return the URL of a page's image: its path, or the image itself. Raises UnreadableImage.

    `how`: `file` or `data`. Encoding takes a few hundredths of a second: call it beside the event loop.
    """
    assert page.image is not None
    return f"file://{page.image}" if how == "file" else _data_url(page.image)


# By the path alone: image files have names of their own, and none is ever written twice.
@functools.lru_cache(maxsize=_KEPT_IMAGES)
def _data_url(file: Path) -> str:
    from PIL import Image

    try:
        with Image.open(file) as image, io.BytesIO() as encoded:
            # PNG: the server sees the very pixels that were drawn. Level 1 takes half the time.
            image.save(encoded, "png", compress_level=1)
            return f"data:image/png;base64,{base64.b64encode(encoded.getbuffer()).decode('ascii')}"
    except (OSError, ValueError, SyntaxError) as error:
        raise UnreadableImage(f"its page image cannot be read ({type(error).__name__})") from error


def body_bytes(pages: tuple[Page, ...], how: str) -> int:
    """Return what the images of a request take in memory at most while it is under way."""
    # A scan full of noise is not compressed at all, and base64 makes four bytes of three.
    return sum(4 * page.width_px * page.height_px for page in pages) if how == "data" else 0
