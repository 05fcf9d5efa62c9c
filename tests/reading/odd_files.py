"""Write odd and damaged files, one small generator for each kind: tests hold no file that others made."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

import pymupdf
from PIL import Image, ImageDraw

CATALOG = "<</Type/Catalog/Pages 2 0 R>>"
PAGES = "<</Type/Pages/Count 1/Kids[3 0 R]/MediaBox[0 0 400 300]>>"
FONT = "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"
PAGE = "<</Type/Page/Parent 2 0 R/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>"


def stream(data: bytes, entries: str = "") -> bytes:
    return f"<<{entries}/Length {len(data)}>>\nstream\n".encode() + data + b"\nendstream"


def words(text: str, size: int = 24) -> bytes:
    return stream(f"BT /F {size} Tf 40 200 Td ({text}) Tj ET".encode())


def pdf(*objects: str | bytes, trailer: str = "", header: bytes = b"%PDF-1.7\n", xref: bool = True) -> bytes:
    """Return a PDF of these objects, numbered from 1; the first is the catalog."""
    data, places = header, []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj\n".encode() + (body if isinstance(body, bytes) else body.encode())
        data += b"\nendobj\n"
    if not xref:
        return data
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"xref\n0 {len(places) + 1}\n0000000000 65535 f \n{table}"
    end += f"trailer\n<</Size {len(places) + 1}/Root 1 0 R{trailer}>>\nstartxref\n{len(data)}\n%%EOF\n"
    return data + end.encode()


def plain(text: str = "Potato", **given: str) -> bytes:
    """Return a PDF of one page; `given` replaces its `catalog`, `pages` or `page`."""
    parts = {"catalog": CATALOG, "pages": PAGES, "page": PAGE} | given
    return pdf(parts["catalog"], parts["pages"], parts["page"], words(text), FONT)


def pages_is_page() -> bytes:
    return plain(
        catalog="<</Type/Catalog/Pages 3 0 R>>",
        page=PAGE.replace("/Contents", "/MediaBox[0 0 400 300]/Contents"),
    )


def xref_loop() -> bytes:
    """Return a PDF whose cross-reference table says that it goes on where it stands itself."""
    whole = plain()
    start = whole.index(b"xref\n0")
    return whole.replace(b"/Root 1 0 R", b"/Root 1 0 R/Prev %d" % start)


def only_attachments_encrypted() -> bytes:
    keys = f"/O<{'a1' * 32}>/U<{'b2' * 32}>"
    filters = "/CF<</StdCF<</AuthEvent/EFOpen/CFM/AESV2/Length 16>>>>/StmF/Identity/StrF/Identity/EFF/StdCF"
    encrypt = f"<</Filter/Standard/V 4/R 4/Length 128/P -4{keys}{filters}>>"
    parts = (CATALOG, PAGES, PAGE, words("Open to all"), FONT, encrypt)
    return pdf(*parts, trailer=f"/Encrypt 6 0 R/ID[<{'00' * 16}><{'00' * 16}>]")


def encrypted_for_certificates() -> bytes:
    encrypt = "<</Filter/Adobe.PubSec/SubFilter/adbe.pkcs7.s4/V 2/Length 128/Recipients[<00>]>>"
    parts = (CATALOG, PAGES, PAGE, words("Sealed"), FONT, encrypt)
    return pdf(*parts, trailer="/Encrypt 6 0 R")


def locked(path: Path, password: str) -> None:
    """Write a PDF that opens with a password of PDF 2.0."""
    with pymupdf.open() as document:
        document.new_page().insert_text((72, 72), "Behind a password")
        document.save(
            path,
            encryption=5,  # AES of 256 bits
            user_pw=password,
            owner_pw="owner",
        )


def with_image(data: bytes, entries: str) -> bytes:
    """Return a page that is filled by one image, coded as `entries` say."""
    page = "<</Type/Page/Parent 2 0 R/Contents 4 0 R/Resources<</XObject<</I 5 0 R>>>>>>"
    image = stream(data, f"/Type/XObject/Subtype/Image{entries}")
    return pdf(CATALOG, PAGES, page, stream(b"400 0 0 300 0 0 cm /I Do"), image)


def jpeg(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=90)
    return out.getvalue()


def picture() -> Image.Image:
    image = Image.new("RGB", (200, 150), "white")
    ImageDraw.Draw(image).text((20, 50), "Harbour", "darkred", font_size=40)
    return image


def larger_than_its_jpeg() -> bytes:
    """Return a page with a JPEG that is said to be larger than it is: MuPDF draws it black."""
    entries = "/Width 800/Height 600/ColorSpace/DeviceRGB/BitsPerComponent 8/Filter/DCTDecode"
    return with_image(jpeg(picture()), entries)


def undecodable_image() -> bytes:
    entries = "/Width 800/Height 600/ColorSpace/DeviceRGB/BitsPerComponent 8/Filter/DCTDecode"
    return with_image(b"\x77" * 600, entries)


def undecodable_content() -> bytes:
    text = " ".join(f"BT /F 24 Tf {7 * n} {3 * n} Td (Lost {n * n}) Tj ET" for n in range(9))
    broken = zlib.compress(text.encode())[:30] + b"\xff" * 40
    return pdf(CATALOG, PAGES, PAGE, stream(broken, "/Filter/FlateDecode"), FONT)


def blank_and_repaired() -> bytes:
    return pdf(CATALOG, PAGES, "<</Type/Page/Parent 2 0 R>>", xref=False)


def boxes() -> bytes:
    """Return pages of 400 x 300 with an empty CropBox, one outside the page, and one that is right."""
    kids = [PAGE[:-2] + f"/CropBox[{box}]>>" for box in ("0 0 0 0", "900 900 950 950", "0 0 200 300")]
    pages = "<</Type/Pages/Count 3/Kids[3 0 R 6 0 R 7 0 R]/MediaBox[0 0 400 300]>>"
    return pdf(CATALOG, pages, kids[0], words("In the box"), FONT, *kids[1:])


def dynamic_form(fields: str = "[]", needs: str = "/NeedsRendering true") -> bytes:
    catalog = f"<</Type/Catalog/Pages 2 0 R{needs}/AcroForm<</Fields{fields}/XFA 6 0 R>>>>"
    return pdf(catalog, PAGES, PAGE, words("Please wait"), FONT, stream(b"<xdp:xdp/>"))


def portfolio(path: Path) -> None:
    with pymupdf.open() as document:
        document.new_page().insert_text((72, 72), "Open this portfolio in another program")
        document.embfile_add("offer.pdf", b"%PDF-1.7")
        document.embfile_add("prices.xlsx", b"PK")
        document.xref_set_key(document.pdf_catalog(), "Collection", "<</Type/Collection/View/D>>")
        document.save(path)


def hidden_by_expression() -> bytes:
    """Return a page whose second line belongs to a layer that an expression hides."""
    layers = "/OCProperties<</OCGs[6 0 R]/D<</ON[6 0 R]>>>>"
    catalog = CATALOG[:-2] + layers + ">>"
    page = PAGE.replace("/Resources<<", "/Resources<</Properties<</O 7 0 R>>")
    text = b"BT /F 24 Tf 40 200 Td (Shown) Tj ET /OC /O BDC 40 60 300 80 re f EMC"
    group, hidden = "<</Type/OCG/Name(A)>>", "<</Type/OCMD/VE[/Not 6 0 R]>>"
    return pdf(catalog, PAGES, page, stream(text), FONT, group, hidden)


def hidden_text() -> bytes:
    """Return a PDF of one page with white words on white, and one outside of the page."""
    content = b"1 g BT /F 12 Tf 40 200 Td (All of these words are white) Tj 0 g 900 0 Td (outside) Tj ET"
    return pdf(CATALOG, PAGES, PAGE, stream(content), FONT)


def other_text_given() -> bytes:
    content = b"/Span<</ActualText(Total 9999)>>BDC BT /F 24 Tf 40 200 Td (Total 1234) Tj ET EMC"
    return pdf(CATALOG, PAGES, PAGE, stream(content), FONT)


def hairlines() -> bytes:
    lines = " ".join(f"20 {y} m 380 {y} l S" for y in range(20, 300, 40))
    return pdf(CATALOG, PAGES, PAGE, stream(f"0.05 w {lines}".encode()), FONT)


# ---- images ----


def png(*chunks: tuple[bytes, bytes], size: int = 40) -> bytes:
    """Return a red PNG with further chunks before its picture."""
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\xff\0\0" * size) * size)
    whole = [(b"IHDR", header), *chunks, (b"IDAT", rows), (b"IEND", b"")]
    packed = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in whole
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def png_with_much_text() -> bytes:
    return png((b"zTXt", b"mxfile\0\0" + zlib.compress(b"<mxfile>" * 300_000)))


def png_with_broken_animation() -> bytes:
    return png((b"acTL", struct.pack(">II", 2, 0)))  # no frame says when it is shown


def bmp_with_bit_fields(size: int = 32) -> bytes:
    """Return a red BMP whose colors have ten bits each, an order that few programs write."""
    pixels = struct.pack("<I", 0x3FF00000) * size * size
    masks = struct.pack("<4I", 0x3FF00000, 0x000FFC00, 0x000003FF, 0)
    header = (
        struct.pack("<IiiHHIIiiII", 108, size, size, 1, 32, 3, len(pixels), 0, 0, 0, 0) + masks + bytes(52)
    )
    start = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + pixels


def bmp_of_os2(width: int, height: int) -> bytes:
    """Return the header of a BMP as OS/2 wrote them, with three bytes a pixel, and one row of red."""
    header = struct.pack("<IHHHH", 12, width, height, 1, 24)
    row = (b"\x00\x00\xff" * width).ljust((3 * width + 3) // 4 * 4, b"\x00")
    return b"BM" + struct.pack("<IHHI", 26 + len(row) * height, 0, 0, 26) + header + row * min(height, 64)


def tiff_of_another_compression(path: Path) -> None:
    """Write a TIFF whose strips are said to be coded as WebP, which Pillow's libtiff does not know."""
    Image.new("RGB", (40, 40), "red").save(path)
    data = bytearray(path.read_bytes())
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, entry)[0] == 259:
            struct.pack_into("<H", data, entry + 8, 50001)
    path.write_bytes(data)


def jpeg_of_12_bits() -> bytes:
    data = bytearray(jpeg(picture()))
    data[data.index(b"\xff\xc0") + 4] = 12
    return bytes(data)


def raw_photo() -> bytes:
    """Return what is a TIFF by its first bytes, with the tag that only camera raw files have."""
    tags = [(254, 4, 1, 1), (256, 4, 1, 8), (257, 4, 1, 8), (0xC612, 1, 4, 0x401)]
    body = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0\x08\0\0\0" + body + bytes(4)


def text_orientation(orientation: str) -> bytes:
    """Return a wide JPEG whose orientation is written as text rather than as a number."""
    said = orientation.encode() + b"\0"
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHI", 0x0112, 2, len(said)) + said.ljust(4, b"\0")
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 6) + exif + bytes(4)
    data = jpeg(Image.new("RGB", (400, 200), "red"))
    return data[:2] + segment + data[2:]


def book(path: Path, names: list[str]) -> None:
    """Write a book whose pages grow in width by their place in `names`, among what is no page."""
    formats = {"webp": "WEBP", "avif": "AVIF", "png": "PNG", "jpg": "JPEG", "heic": "HEIF"}
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in reversed([*enumerate(names, 1)]):
            out = io.BytesIO()
            Image.new("RGB", (160 * number, 160), "red").save(out, formats[name.rpartition(".")[2]])
            archive.writestr(name, out.getvalue())
        archive.writestr("__MACOSX/._page1.jpg", b"\0\5\x16\7")
        archive.writestr("ComicInfo.xml", b"<ComicInfo/>")
        archive.writestr(".thumbs/small.png", png())


def e_book(path: Path, chapter: str, encrypted: str = "") -> None:
    """Write an e-book of one chapter; `encrypted` is what its list of encrypted members names."""
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>'
        '<rootfile full-path="c.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><manifest><item id="a" href="a.xhtml"'
        ' media-type="application/xhtml+xml"/></manifest><spine><itemref idref="a"/></spine></package>'
    )
    members = {"mimetype": "application/epub+zip", "META-INF/container.xml": container, "c.opf": package}
    text = '<html xmlns="http://www.w3.org/1999/xhtml"><body><p>Seven apples.</p></body></html>'
    members[chapter] = text
    if encrypted:
        entry = f'<e:EncryptedData><e:CipherReference URI="{encrypted}"/></e:EncryptedData>'
        members["META-INF/encryption.xml"] = f"<encryption>{entry}</encryption>"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
