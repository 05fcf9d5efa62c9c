"""Leave out of a PNG what is not its picture: text that may be larger than it, and broken animations."""

from __future__ import annotations

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PICTURE = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"gAMA", b"sRGB", b"pHYs", b"eXIf"})


def without_extras(content: bytes) -> bytes:
    """Return a PNG with the chunks alone that make its still image; what is cut off stays so."""
    kept, at = [_SIGNATURE], len(_SIGNATURE)
    while at + 8 <= len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        if content[at + 4 : at + 8] in _PICTURE:
            kept.append(content[at:end])
        at = end
    return b"".join(kept)
