"""Make of an image what the model takes: upright, RGB on white, of exactly one size."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


def upright(image: Image, orientation: int) -> Image:
    """Return an image as RGB, turned by its EXIF orientation, 1 to 8."""
    from PIL import Image as pillow

    turn = pillow.Transpose
    method = {
        2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE,
        6: turn.ROTATE_270, 7: turn.TRANSVERSE, 8: turn.ROTATE_90,
    }.get(orientation)  # fmt: skip
    flat = _flatten(image)
    return flat if method is None else flat.transpose(method)


def fitted(image: Image, width_px: int, height_px: int, stretch: tuple[float, float] = (1.0, 1.0)) -> Image:
    """Return an image at exactly a size, in its own shape: its last row and column fill the rest.

    `stretch`: width and height of a pixel, which is not always a square.
    """
    from PIL import Image as pillow

    own = image.width * stretch[0], image.height * stretch[1]
    ratio = min(width_px / own[0], height_px / own[1], 1.0)
    width, height = (min(max(round(side * ratio), 1), most) for side, most in
                     zip(own, (width_px, height_px), strict=True))  # fmt: skip
    if (width, height) != image.size:
        # From a gap of 3 on, reducing in two steps looks as in one (Pillow's manual), and is faster.
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
    if image.mode.startswith(("I", "F")):
        image = _to_8_bit(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return _on_paper(image.convert("RGBA"))
    return image.convert("RGB")


def _on_paper(image: Image) -> Image:
    """Return an image with transparency on white; on black where nothing would be seen of it."""
    from PIL import Image as pillow

    flat = pillow.alpha_composite(pillow.new("RGBA", image.size, "white"), image).convert("RGB")
    # White drawings are made for dark pages. (`getcolors` gives None for more than one.)
    found = flat.getcolors(1)
    if found and found[0][1] == (255, 255, 255) and image.getchannel("A").getcolors(1) is None:
        flat = pillow.alpha_composite(pillow.new("RGBA", image.size, "black"), image).convert("RGB")
    return flat


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
