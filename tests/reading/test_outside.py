"""A document is what its file holds: nothing that it names elsewhere is read, and nothing in it is run."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from pipeline.errors import DocumentError
from pipeline.reading import draw
from pipeline.reading.job import Sheet

RED = (255, 0, 0)
TARGETS = (
    "secret.png",
    "../in/secret.png",
    "./secret.png",
    "{folder}/secret.png",
    "file://{folder}/secret.png",
)


def svg(target: str) -> bytes:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="300"'
        ' height="200">'
        f'<style>@import url("{target}"); rect {{ fill: url("{target}") }}</style>'
        f'<image width="300" height="200" href="{target}" xlink:href="{target}"/>'
        f'<use href="{target}#a"/><rect width="5" height="5"/><text x="9" y="90">words</text></svg>'
    ).encode()


def pdf(target: str) -> bytes:
    """Make a page whose content, and an image on it, lie in another file, and which starts programs."""
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R /OpenAction << /S /Launch /F ({target}) >>"
        " /AA << /WC << /S /JavaScript /JS (app.alert\\(1\\)) >> >> >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] /Contents [4 0 R 5 0 R]"
        " /Resources << /XObject << /I 6 0 R >> >> >>",
        f"<< /Length 0 /F ({target}) >>\nstream\n\nendstream",
        "<< /Length 33 >>\nstream\n300 0 0 200 0 0 cm /I Do 0 0 1 1 re f\nendstream",
        f"<< /Type /XObject /Subtype /Image /Width 8 /Height 8 /ColorSpace /DeviceRGB /BitsPerComponent 8"
        f" /Length 0 /F << /Type /Filespec /F ({target}) >> >>\nstream\n\nendstream",
    ]
    body = "".join(f"{number} 0 obj\n{each}\nendobj\n" for number, each in enumerate(objects, 1))
    return f"%PDF-1.7\n{body}trailer\n<< /Root 1 0 R /Size 7 >>\n%%EOF\n".encode()


def epub(target: str) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
        archive.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="a.opf" media-type="application/oebps-package+xml"/>'
            "</rootfiles></container>",
        )
        archive.writestr(
            "a.opf",
            '<package xmlns="http://www.idpf.org/2007/opf" version="2.0"><manifest>'
            '<item id="a" href="a.xhtml" media-type="application/xhtml+xml"/></manifest>'
            '<spine><itemref idref="a"/></spine></package>',
        )
        archive.writestr(
            "a.xhtml",
            '<html xmlns="http://www.w3.org/1999/xhtml"><head>'
            f'<link rel="stylesheet" href="{target}"/></head>'
            f'<body><p>words</p><img src="{target}"/><script>document.write(1)</script></body></html>',
        )
    return written.getvalue()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("kind", "make"), [("svg", svg), ("pdf", pdf), ("epub", epub)])
def test_what_a_document_names_outside_of_itself_is_not_read(
    tmp_path: Path, kind: str, make: Callable[[str], bytes], target: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.new("RGB", (300, 200), RED).save(folder / "secret.png")
    path = folder / f"a.{kind}"
    path.write_bytes(make(target.format(folder=folder)))
    job = draw.Job(str(path), path.name, kind, None, 10**8)
    out = tmp_path / "page.ppm"
    try:
        (sheet, *_) = draw.inspect(job, draw.Geometry(1024, 16)).sheets
        (drawn,) = draw.render_run(job, [(sheet, str(out))])
    except DocumentError:  # refused as a whole: nothing was read either
        return
    if isinstance(drawn, DocumentError):
        return
    with Image.open(out) as image:
        colours = image.getcolors(1 << 24) or []
    assert not [colour for _, colour in colours if colour == RED]


def test_the_red_picture_would_be_seen_were_it_read(tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), RED).save(tmp_path / "secret.png")
    job = draw.Job(str(tmp_path / "secret.png"), "secret.png", "png", None, 10**8)
    draw.render_run(job, [(Sheet(1, 304, 208), str(tmp_path / "page.ppm"))])
    with Image.open(tmp_path / "page.ppm") as image:
        assert RED in [colour for _, colour in image.getcolors(1 << 24) or []]
