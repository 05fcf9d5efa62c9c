"""Tell a blank page, with or without a scanner's noise, from one with the faintest line or word."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    Levels = NDArray[np.float32]

_STRIP_PX = 64
_CELL_PX = 4
_LONG_CELLS = 5
"""Cells that a word or a line is long; a speck, with what JPEG makes of it, is four at most."""
_MANY_CELLS = 2000
"""Cells with marks, beyond which nobody need look how they hang together."""


def look(image: Image) -> tuple[bool, bool]:
    """Return whether a page is blank, and whether it is so faint that someone must look at it.

    Three looks, each past what the page's own noise would do: at blocks of 8 x 8 pixels (letters), at strips
    of 64 x 1 along and across (hairlines), and at pixels that hang together (curves; specks do not).
    """
    import numpy as np

    grey = image.convert("L")
    if np.ptp(np.asarray(grey)) < 3:
        return True, False  # most blank pages: nothing at all
    blocks = np.asarray(grey.reduce(8), np.float32)
    if blocks.max() - blocks.min() > 16:
        return False, False
    levels = np.asarray(grey, np.float32)
    strip = max(_strip_excess(levels), _strip_excess(levels.T))
    deviations = np.abs(levels - _background(grey))
    longest = _longest_mark(deviations)
    drawn = np.mean(deviations == 0) > 0.995  # by a program: whatever differs was put there
    if strip >= 6 or longest >= (3 if drawn else _LONG_CELLS):
        return False, False
    uneven = _excess(np.abs(blocks - np.median(blocks)), 6.5) >= 4
    return True, bool(drawn or strip >= 3 or longest >= 4 or uneven)


def _excess(deviations: Levels, limit: float) -> float:
    """Return the largest deviation, or 0 where noise may cause it: within `limit` standard deviations."""
    highest = float(deviations.max(initial=0))
    return highest if highest > limit * _noise(deviations) else 0.0


def _noise(deviations: Levels) -> float:
    """Estimate the standard deviation of noise from its absolute values, whatever few marks lie in it."""
    import numpy as np

    # By the median, or by the mean where JPEG has made most deviations zero; as of a normal distribution.
    return max(1.48 * float(np.median(deviations)), 1.25 * float(deviations.mean()))


def _strip_excess(levels: Levels, distance: int = 4) -> float:
    """Return by how much a strip one pixel high differs from those above and below it, beyond noise."""
    import numpy as np

    height, width = levels.shape
    if width < _STRIP_PX or height <= 2 * distance:
        return 0.0
    whole = levels[:, : width // _STRIP_PX * _STRIP_PX].reshape(height, -1, _STRIP_PX)
    strips = np.median(whole, axis=2)
    between = strips[distance:-distance]
    around = (
        np.maximum(np.abs(between - strips[: -2 * distance]), 0),
        np.abs(between - strips[2 * distance :]),
    )
    return _excess(np.minimum(*around), 7)


def _background(grey: Image) -> Levels:
    """Return the page without its marks: what is uneven light stays."""
    import numpy as np
    from PIL import Image, ImageFilter

    coarse = grey.reduce(16).filter(ImageFilter.MedianFilter(3))
    return np.asarray(coarse.resize(grey.size, Image.Resampling.BILINEAR), np.float32)


def _longest_mark(deviations: Levels) -> int:
    """Return how long the longest mark is, in cells of 4 pixels."""
    import numpy as np

    threshold = max(8.0, 5 * _noise(deviations))
    height, width = (side // _CELL_PX for side in deviations.shape)
    inked = deviations[: height * _CELL_PX, : width * _CELL_PX] >= threshold
    cells = inked.reshape(height, _CELL_PX, width, _CELL_PX).any(axis=(1, 3))
    left = {(int(y), int(x)) for y, x in np.argwhere(cells)}
    if len(left) > _MANY_CELLS:
        return len(left)
    longest = 0
    while left:
        mark, waiting = set[tuple[int, int]](), [left.pop()]
        while waiting:
            y, x = waiting.pop()
            mark.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            waiting += near
        longest = max(longest, *(max(line) - min(line) + 1 for line in zip(*mark, strict=True)))
    return longest
