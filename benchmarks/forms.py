"""Score the embedded reader's `extract` on receipts, invoices and forms that are drawn for it, by field.

python benchmarks/forms.py [--documents 20] [--seed 1] [--keep FOLDER] [-v]

Each document is drawn three ways: as a PDF with a text layer, as a clean picture of its page, and as a scan:
turned by up to 1.2 degrees, blurred, noisy, of little contrast, and saved as a poor JPEG. The seed decides
all of it. Labels that only resemble a field's ("Total Qty", "Subtotal") stand beside the right ones. Prints
for each kind of picture and field how many values are right, missing or wrong, and how many wrong ones stand
in a row that nobody is asked to look at (`needs_review` is false). -v lists the values that are wrong.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pymupdf
from PIL import Image, ImageFilter

from pipeline.records import Json

Fields = dict[str, str | float]
SIZES = {"receipt": (300.0, 560.0), "invoice": (595.0, 842.0), "form": (595.0, 842.0)}
FONTS = ("helv", "tiro", "cour")
DPI = 150
SCHEMAS: dict[str, dict[str, str]] = {
    "receipt": {"total": "number", "tax": "number", "date": "string", "receipt_number": "string"},
    "invoice": {
        "invoice_number": "string", "invoice_date": "string", "customer": "string", "total": "number",
        "due_date": "string", "purchase_order": "string",
    },
    "form": {
        "last_name": "string", "first_name": "string", "date_of_birth": "string", "phone": "string",
        "city": "string", "member_number": "integer",
    },
}  # fmt: skip
_NAMES = ("Ann", "Boris", "Carla", "Dmitri", "Elena", "Farid", "Greta", "Hugo", "Ines", "Jonas")
_LAST = ("Miller", "Novak", "Okafor", "Petersen", "Quintero", "Rossi", "Schmidt", "Tanaka", "Underwood")
_FIRMS = ("Harbour Tools", "Blue Lantern Books", "Meridian Supply", "North Gate Optics", "Old Mill Bakery")
_CITIES = ("Bergen", "Lisbon", "Graz", "Leeds", "Tartu", "Porto", "Gdansk", "Bilbao")
_GOODS = ("Coffee beans", "Notebook", "Desk lamp", "Copper wire", "Green tea", "Stapler", "Paint brush")
_MONTHS = ("January", "March", "May", "July", "August", "October", "December")


@dataclass
class Canvas:
    """A page that is being drawn, line by line."""

    page: pymupdf.Page
    chance: random.Random
    font: str
    size: float
    y: float = 50.0
    gold: Fields = field(default_factory=dict)

    def put(self, x: float, text: str, *, right: bool = False, size: float | None = None) -> None:
        used = size or self.size
        start = x - pymupdf.get_text_length(text, self.font, used) if right else x
        self.page.insert_text((start, self.y), text, fontname=self.font, fontsize=used)

    def down(self, lines: float = 1.0) -> None:
        self.y += lines * 1.6 * self.size

    def pair(self, left: float, right: float, label: str, value: str) -> None:
        """Put a label and its value on a line, in one of the usual ways."""
        way = self.chance.choice(("colon", "apart", "dots"))
        if way == "colon":
            self.put(left, f"{label}: {value}")
        else:
            self.put(left, label + (":" if self.chance.random() < 0.5 else ""))
            self.put(right, value, right=True)
        if way == "dots":
            begin = left + pymupdf.get_text_length(label + ":  ", self.font, self.size)
            room = right - pymupdf.get_text_length(value + " ", self.font, self.size) - begin
            self.put(begin, "." * int(room / pymupdf.get_text_length(".", self.font, self.size)))
        self.down()


def money(chance: random.Random, value: float) -> str:
    return chance.choice(("{:.2f}", "${:.2f}", "{:.2f} EUR", "EUR {:.2f}")).format(value)


def date(chance: random.Random) -> str:
    day, month, year = chance.randint(1, 28), chance.randint(1, 12), chance.randint(2015, 2025)
    written = f"{day} {chance.choice(_MONTHS)} {year}"
    return chance.choice((f"{year}-{month:02}-{day:02}", f"{day:02}/{month:02}/{year}", written))


def receipt(canvas: Canvas) -> None:
    chance, left, right = canvas.chance, 25.0, 275.0
    canvas.put(left, chance.choice(_FIRMS), size=14)
    canvas.down(2)
    number, day = f"{chance.choice('ABR')}{chance.randint(1000, 99999)}", date(chance)
    canvas.pair(left, right, chance.choice(("Receipt No.", "Receipt number", "Receipt #")), number)
    canvas.pair(left, right, "Date", day)
    canvas.pair(left, right, "Cashier", chance.choice(_NAMES))
    canvas.down()
    sold = [(chance.choice(_GOODS), chance.randint(1, 5), chance.randint(100, 4000) / 100) for _ in range(5)]
    for goods, count, price in sold:
        canvas.put(left, f"{count} x {goods}")
        canvas.put(right, f"{count * price:.2f}", right=True)
        canvas.down()
    net = round(sum(count * price for _, count, price in sold), 2)
    tax = round(net * 0.2, 2)
    canvas.down()
    lines = [("Subtotal", money(chance, net)), ("Total Qty", str(sum(count for _, count, _ in sold)))]
    lines += [("Tax", money(chance, tax)), ("Total", money(chance, net + tax))]
    for label, value in lines:
        canvas.pair(left, right, label.upper() if chance.random() < 0.3 else label, value)
    canvas.pair(left, right, "Cash", money(chance, net + tax + 10))
    canvas.gold = {"total": round(net + tax, 2), "tax": tax, "date": day, "receipt_number": number}


def invoice(canvas: Canvas) -> None:
    chance, middle, right = canvas.chance, 310.0, 545.0
    canvas.put(50, chance.choice(_FIRMS), size=18)
    canvas.down(3)
    gold: Fields = {
        "invoice_number": f"INV-{chance.randint(1000, 99999)}", "invoice_date": date(chance),
        "customer": f"{chance.choice(_NAMES)} {chance.choice(_LAST)}", "due_date": date(chance),
        "purchase_order": f"PO {chance.randint(100, 9999)}",
    }  # fmt: skip
    labels = {
        "invoice_number": chance.choice(("Invoice No.", "Invoice number", "Invoice")),
        "invoice_date": "Invoice date", "customer": "Customer", "due_date": "Due date",
        "purchase_order": "Purchase order",
    }  # fmt: skip
    names = list(gold)
    chance.shuffle(names)
    if chance.random() < 0.4:  # labels in a row of their own, values below
        for offset, name in enumerate(names[:4]):
            canvas.put(50 + 125 * offset, labels[name])
        canvas.down()
        for offset, name in enumerate(names[:4]):
            canvas.put(50 + 125 * offset, str(gold[name]))
        canvas.down(2)
        names = names[4:]
    for first, second in zip(names[::2], [*names[1::2], None], strict=True):
        start = canvas.y
        canvas.pair(50, 280, labels[first], str(gold[first]))
        if second:
            canvas.y = start
            canvas.pair(middle, right, labels[second], str(gold[second]))
    canvas.down(2)
    net = items(canvas, right)
    gold["total"] = round(net * 1.19, 2)
    for label, value in (("Net total", net), ("VAT 19 %", net * 0.19), ("Total", gold["total"])):
        canvas.pair(middle, right, label, money(chance, float(value)))
    canvas.gold = gold


def items(canvas: Canvas, right: float) -> float:
    """Draw a table of goods; return the sum."""
    places, net = (50.0, 300.0, 380.0, right), 0.0
    for x, label in zip(places, ("Description", "Qty", "Price", "Amount"), strict=True):
        canvas.put(x, label, right=x > 100)
    canvas.down()
    for _ in range(canvas.chance.randint(2, 6)):
        count, price = canvas.chance.randint(1, 9), canvas.chance.randint(100, 20000) / 100
        net = round(net + count * price, 2)
        cells = (canvas.chance.choice(_GOODS), str(count), f"{price:.2f}", f"{count * price:.2f}")
        for x, text in zip(places, cells, strict=True):
            canvas.put(x, text, right=x > 100)
        canvas.down()
    canvas.down()
    return net


def form(canvas: Canvas) -> None:
    chance = canvas.chance
    canvas.put(50, "Application for membership", size=18)
    canvas.down(3)
    canvas.put(50, "Fill in every field. Your name and the date of your entry are printed on the card.")
    canvas.down(2)
    gold: Fields = {
        "last_name": chance.choice(_LAST), "first_name": chance.choice(_NAMES), "date_of_birth": date(chance),
        "phone": f"+{chance.randint(30, 49)} {chance.randint(100, 999)} {chance.randint(10000, 999999)}",
        "city": chance.choice(_CITIES), "member_number": chance.randint(10**5, 10**7),
    }  # fmt: skip
    names = list(gold)
    chance.shuffle(names)
    way = chance.choice(("above", "line", "beside"))
    for number, name in enumerate(names):
        label, value = name.replace("_", " ").capitalize(), str(gold[name])
        if way == "beside":
            canvas.pair(50, 420, label, value)
            canvas.down(0.5)
            continue
        x, start = (50.0, 310.0)[number % 2], canvas.y
        if way == "above":
            canvas.put(x, label, size=0.8 * canvas.size)
            canvas.down()
            canvas.put(x, value)
            canvas.page.draw_rect((x - 4, canvas.y - 1.3 * canvas.size, x + 220, canvas.y + 5), width=0.6)
        else:
            canvas.put(x, f"{label}:")
            canvas.put(x + 110, value)
            canvas.page.draw_line((x + 105, canvas.y + 3), (x + 230, canvas.y + 3), width=0.6)
        canvas.down(2)
        if number % 2 == 0:
            canvas.y = start
    canvas.gold = gold


KINDS: Mapping[str, Callable[[Canvas], None]] = {"receipt": receipt, "invoice": invoice, "form": form}


def draw(kind: str, chance: random.Random) -> tuple[bytes, Fields]:
    """Return a document as a PDF, with what its fields say."""
    with pymupdf.open() as document:
        width, height = SIZES[kind]
        page = document.new_page(width=width, height=height)
        canvas = Canvas(page, chance, chance.choice(FONTS), 9 if kind == "receipt" else 10)
        KINDS[kind](canvas)
        return document.tobytes(), canvas.gold


def picture(pdf: bytes) -> Image.Image:
    with pymupdf.open(stream=pdf) as document:
        return document[0].get_pixmap(dpi=DPI).pil_image().convert("L")


def scan(clean: Image.Image, chance: random.Random) -> bytes:
    """Return a picture as a poor scanner gives it."""
    turned = clean.rotate(chance.uniform(-1.2, 1.2), Image.Resampling.BICUBIC, fillcolor=255)
    blurred = np.asarray(turned.filter(ImageFilter.GaussianBlur(chance.uniform(0.3, 0.9))), np.float32)
    noise = np.random.default_rng(chance.randrange(2**32)).normal(0, chance.uniform(3, 10), blurred.shape)
    grey = chance.uniform(0.6, 0.9) * (blurred - 128) + 140 + noise
    written = io.BytesIO()
    Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(written, "JPEG", quality=chance.randint(35, 70))
    return written.getvalue()


def make(folder: Path, kind: str, count: int, seed: int) -> dict[str, Fields]:
    """Write `count` documents of a kind, each three ways; return what they say, by the name of the file."""
    gold = {}
    for number in range(count):
        chance = random.Random(f"{seed}-{kind}-{number}")
        pdf, said = draw(kind, chance)
        clean = picture(pdf)
        gold[f"{number:03}"] = said
        for way in ("text", "picture", "scan"):
            (folder / way).mkdir(parents=True, exist_ok=True)
        (folder / "text" / f"{number:03}.pdf").write_bytes(pdf)
        clean.save(folder / "picture" / f"{number:03}.png")
        (folder / "scan" / f"{number:03}.jpg").write_bytes(scan(clean, chance))
    return gold


def extract(folder: Path, kind: str) -> pd.DataFrame:
    """Run the pipeline over the documents of a kind; return the answers."""
    properties: Json = {name: {"type": what} for name, what in SCHEMAS[kind].items()}
    schema: Json = {"type": "object", "properties": properties}
    (folder / "schema.json").write_text(json.dumps(schema))
    given = [f"input={folder / 'in'}", f"output={folder / 'out'}", "task=extract", "engine=embedded",
             "engine.page_timeout_s=900"]  # fmt: skip
    command = [sys.executable, "-m", "pipeline.run", *given, f"task.schema={folder / 'schema.json'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return pd.read_parquet(folder / "out" / "answers")


def is_right(found: Json, said: str | float) -> bool:
    if isinstance(said, str):
        return "".join(str(found).split()) == "".join(said.split())
    return isinstance(found, int | float) and abs(found - said) < 0.005


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, default=20, help="of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("-v", action="store_true")
    given = parser.parse_args()
    counts: Counter[tuple[str, str, str, str]] = Counter()
    with tempfile.TemporaryDirectory() as made:
        for kind in KINDS:
            folder = (given.keep or Path(made)) / kind
            gold = make(folder / "in", kind, given.documents, given.seed)
            for row in extract(folder, kind).itertuples():
                way, found = (
                    Path(row.source).parent.name,
                    json.loads(row.fields) if isinstance(row.fields, str) else {},
                )
                for name, said in gold[Path(row.source).stem].items():
                    result = judge(found.get(name), said, bool(row.needs_review))
                    counts[way, kind, name, result] += 1
                    if given.v and result not in ("right", "missing"):
                        print(f"{result}: {kind} {row.source} {name}: {found.get(name)!r}, not {said!r}")
    show(counts)


def judge(found: Json, said: str | float, reviewed: bool) -> str:
    if found is None:
        return "missing" if reviewed else "missing, not for review"
    if is_right(found, said):
        return "right"
    return "wrong" if reviewed else "wrong, not for review"


def show(counts: Counter[tuple[str, str, str, str]]) -> None:
    rows = [(*key, count) for key, count in counts.items()]
    table = pd.DataFrame(rows, columns=["way", "kind", "field", "result", "count"])
    for by in (["way", "kind", "field"], ["way"]):
        print(table.pivot_table("count", by, "result", "sum", fill_value=0).to_string(), "\n")


if __name__ == "__main__":
    main()
