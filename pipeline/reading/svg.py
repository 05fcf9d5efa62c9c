"""Draw SVG with resvg, as a browser would; nothing outside the file is read."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from pipeline.errors import Corrupt, TooLarge
from pipeline.reading import css
from pipeline.reading.job import Geometry, Job, Sheet, first_line
from pipeline.reading.sheets import PAGE_PT, box, sheets

if TYPE_CHECKING:
    from PIL.Image import Image

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_MOST_BYTES = 64 << 20
_PROBE_PX = 512
"""Side at which the shape of a drawing is found out: many say no size, or a relative one."""
_FONT = "Roboto"
"""For text in fonts that are not on this machine, which resvg would leave out: Latin, Greek, Cyrillic."""
_FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts")
_MOST_FONTS = 500
_LONGEST = 300
"""Sides of a drawing to each other."""
_BLOCKS = frozenset({"div", "p", "br", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6"})
_CELLS = frozenset({"td", "th"})


def sheets_of(job: Job, geometry: Geometry) -> list[Sheet]:
    """Return the images that a drawing will have."""
    text, background = _prepared(job)
    # Small, whatever size the drawing says: that may be a million pixels.
    probe = _png(job, text, background, width=_PROBE_PX)
    # From so few rows its shape would be told wrongly: by the other side.
    if probe.height < _PROBE_PX // 4:
        probe = _png(job, text, background, height=_PROBE_PX)
    # A drawing has no size of its own: its short side is taken for that of a page of A4.
    unit = PAGE_PT / 1.414 / min(probe.size)
    width, height = probe.width * unit, probe.height * unit
    try:
        return sheets(1, width, height, geometry, legible=PAGE_PT, enlarge=True)
    except TooLarge as error:
        raise TooLarge(f"{job.source}, {error}") from None


def draw(job: Job, sheet: Sheet) -> Image:
    """Return a drawing, or the part of it that `sheet` is, as RGB at exactly that size."""
    from PIL import Image as pillow

    text, background = _prepared(job)
    x0, y0, x1, y1 = sheet.part
    width, height = round(sheet.width_px / (x1 - x0)), round(sheet.height_px / (y1 - y0))
    wide = width >= height
    image = _png(job, text, background, width if wide else None, None if wide else height)
    if image.size != (width, height):
        image = image.resize((width, height), pillow.Resampling.BICUBIC)
    left, top, _, _ = (round(corner) for corner in box(sheet.part, width, height))
    return image.crop((left, top, left + sheet.width_px, top + sheet.height_px))


def can_write(job: Job) -> bool:
    """Tell whether some font on this machine has each letter of a drawing."""
    import pymupdf

    text, _ = _prepared(job)
    missing = {ord(character) for character in text if character > "\x7f" and character.isalpha()}
    for file in itertools.islice(_font_files(), _MOST_FONTS if missing else 0):
        with contextlib.suppress(Exception):  # a broken font is no font
            font = pymupdf.Font(fontfile=str(file))
            missing = {code for code in missing if not font.has_glyph(code)}
        if not missing:
            break
    return not missing


def _font_files() -> Iterator[Path]:
    for folder in (_fonts(), *_FONT_FOLDERS):
        yield from (file for file in sorted(Path(folder).expanduser().rglob("*.[to]t[fc]")) if file.is_file())


def _fonts() -> str:
    import font_roboto

    return str(Path(font_roboto.__file__).parent)


def _png(
    job: Job, text: str, background: str | None, width: int | None = None, height: int | None = None
) -> Image:
    import resvg_py
    from PIL import Image as pillow

    try:
        data = resvg_py.svg_to_bytes(
            svg_string=text,
            background=background,
            width=width,
            height=height,
            dpi=96.0,  # of CSS: millimetres and inches have no size without it
            font_dirs=[_fonts()],
            font_family=_FONT,
            sans_serif_family=_FONT,
            serif_family=_FONT,
            monospace_family=_FONT,
        )
        with pillow.open(io.BytesIO(data), formats=["PNG"]) as image:
            # Half-transparent edges must end on white, as on a page.
            over = pillow.new("RGBA", image.size, "white")
            return pillow.alpha_composite(over, image.convert("RGBA")).convert("RGB")
    except (ValueError, OSError, SyntaxError) as error:
        raise Corrupt(f"{job.source}: cannot be drawn as svg ({first_line(error)}); repair it") from None


def _prepared(job: Job) -> tuple[str, str | None]:
    """Return a drawing without references to what lies outside it, and the color behind it."""
    try:
        with open(job.path, "rb") as file:  # noqa: PTH123 - names of any bytes
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise TooLarge(f"{job.source}: is over {_MOST_BYTES >> 20} MB; draw it as PNG or PDF")
        # expat follows no external entity, and ends those that grow without bound.
        root = ElementTree.fromstring(content)
        _refuse_strips(job, root)
        css.resolve(root)
        for parent in list(root.iter()):
            _cut_references(parent)
            for index, child in enumerate(list(parent)):
                if child.tag == f"{_SVG}foreignObject" and parent.tag != f"{_SVG}switch":
                    parent[index] = _label(child)
        return ElementTree.tostring(root, encoding="unicode"), _background(root)
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise Corrupt(f"{job.source}: cannot be read as svg ({first_line(error)}); repair it") from None


def _refuse_strips(job: Job, root: ElementTree.Element) -> None:
    """Raise TooLarge for a shape that would take more memory than there is, however small it is drawn."""
    box = [_number(part) for part in re.split(r"[\s,]+", root.get("viewBox", "").strip())]
    said = [_number(root.get("width")), _number(root.get("height"))]
    for width, height in (said, box[2:4] if len(box) == 4 else [0.0, 0.0]):
        if min(width, height) > 0 and max(width, height) > _LONGEST * min(width, height):
            raise TooLarge(f"{job.source}: is {width:g} x {height:g}, a strip; cut it")


def _cut_references(element: ElementTree.Element) -> None:
    for name in ("href", _LINK):
        if not element.get(name, "#").lstrip().startswith(("#", "data:")):
            del element.attrib[name]


def _background(root: ElementTree.Element) -> str | None:
    """Return the color that the style of the root element gives it, as of drawings made for dark pages."""
    found = re.search(r"(?:^|;)\s*background(?:-color)?\s*:\s*([^;]{1,60})", root.get("style", ""))
    color = found[1].strip() if found else ""
    return color if re.fullmatch(r"#[0-9a-fA-F]{3,8}|rgba?\([\d\s.,%/]+\)|[a-zA-Z]+", color) else None


def _label(foreign: ElementTree.Element) -> ElementTree.Element:
    """Return the text of an HTML label, which resvg leaves out, as lines around the middle of its box."""
    x, y, width, height = (_number(foreign.get(name)) for name in ("x", "y", "width", "height"))
    label = ElementTree.Element(f"{_SVG}text", {"text-anchor": "middle", "font-family": "sans-serif"})
    for name in ("transform", "class", "style", "fill", "font-size"):
        if foreign.get(name):
            label.set(name, foreign.get(name, ""))
    lines = [line for line in (" ".join(part.split()) for part in _lines(foreign)) if line]
    for index, line in enumerate(lines):
        middle = y + height / 2 + (index - (len(lines) - 1) / 2) * 19.2 + 5.6
        span = ElementTree.SubElement(label, f"{_SVG}tspan", {"x": f"{x + width / 2}", "y": f"{middle}"})
        span.text = line
    return label


def _lines(element: ElementTree.Element) -> list[str]:
    """Return the text of HTML by lines: one for each block."""
    lines = [element.text or ""]
    for child in element:
        inner, tag = _lines(child), str(child.tag).rpartition("}")[2]
        if tag in _CELLS:
            inner[-1] += " "
        if tag in _BLOCKS:
            lines += [*inner, ""]
        else:
            lines[-1] += inner[0]
            lines += inner[1:]
        lines[-1] += child.tail or ""
    return lines


def _number(text: str | None) -> float:
    found = re.match(r"\s*(-?\d{1,9}(?:\.\d{1,9})?)\s*(?:px)?\s*$", text or "")
    return float(found[1]) if found else 0.0
