"""Make small pictures of drawn pages, for people. Runs in worker processes."""

from __future__ import annotations

from pathlib import Path


def save_webp(drawn: str, target: str, quality: int) -> None:
    """Write a drawn page as WebP; the file appears whole or not at all."""
    from PIL import Image

    # Beside its place: a worker that is over its time is killed in the middle of this.
    written = Path(target + ".aside")
    with Image.open(drawn) as image:
        image.save(written, "WEBP", quality=quality, method=2)
    written.rename(target)
