"""The records that travel between stages: frozen, slotted, with units in their names."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from pipeline.texts import without_folders

Json = bool | int | float | str | None | list["Json"] | dict[str, "Json"]
"""What JSON holds: schemas, and replies under them."""
MOST_CITED = 30
"""Pages that a reply names as evidence at most."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something has no answer: an `error_code` and a sentence (what, which, what to do)."""

    code: str
    message: str

    def __post_init__(self) -> None:
        # Tables travel further than the machine that made them, and its libraries like to name their files.
        object.__setattr__(self, "message", without_folders(self.message))


@dataclass(frozen=True, slots=True)
class Document:
    """One input file."""

    source: str
    """Path relative to the input, as UTF-8."""
    path: Path
    kind: str
    bytes: int
    document_id: str
    """SHA-256 of the bytes; empty when they could not be read."""
    duplicate_of: str | None = None
    failure: Failure | None = None
    changed_ns: int = 0
    """When it was last changed, as it was hashed; 0 where that is not known."""
    url: str = ""
    """Where it is in object storage, of which `path` is a copy; empty for a file of this machine."""
    copy: object = field(default=None, compare=False, repr=False)
    """Keeps that copy as long as anything refers to the document."""


class Box(NamedTuple):
    """A rectangle on a page, in points from its top left corner."""

    page: int
    """The page's number as evidence gives it (`Page.ordinal`)."""
    x0: float
    y0: float
    x1: float
    y1: float


class Part(NamedTuple):
    """A rectangle of a page, its corners as shares of the page's width and height from the top left."""

    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a page in reading order, with their places."""

    texts: tuple[str, ...] = ()
    corners: bytes = b""
    """x0, y0, x1, y1 of each word as 32-bit floats, in points from the page's top left corner."""

    def place(self, index: int) -> tuple[float, float, float, float]:
        """Return the corners of one word."""
        x0, y0, x1, y1 = struct.unpack_from("<4f", self.corners, 16 * index)
        return x0, y0, x1, y1


@dataclass(frozen=True, slots=True)
class Page:
    """One page, before (`image` is None) and after rendering."""

    document: Document
    number: int
    """1-based within its document."""
    total: int
    width_px: int
    height_px: int
    ordinal: int
    """1-based within its subject: what labels and evidence call it; `number`, but for folders."""
    label: str = ""
    """The words before its image in a request."""
    image: Path | None = None
    text: str = ""
    """The text layer; empty where there is none."""
    words: Words = Words()
    """The words of the text layer."""
    text_covers: bool = False
    """The text layer holds what the page shows: not a stamp on a scan, a cipher or an invisible layer."""
    blank: bool = False
    points_per_px: tuple[float, float] = (1.0, 1.0)
    """Points of the page to a pixel of its image, across and down: sides are rounded to whole patches each.

    1 for image files, whose points are these pixels.
    """
    faint: bool = False
    """Blank to the eye, but there are marks: the answer must be looked at."""
    damaged: bool = False
    """Something on it could not be decoded and is missing or wrong: the answer must be looked at."""
    raster_seconds: float = 0.0
    failure: Failure | None = None
    sheet: int = 0
    """The page of the file that it shows, 1-based; `number`, but for files with pages that are cut."""
    part: Part | None = None
    """Which part of that page; None for all of it."""
    crop: Part | None = None
    """What its image shows of it, where margins are cut off."""
    origin: tuple[float, float] = (0.0, 0.0)
    """Where its image begins, in points from the page's top left corner."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A document with the size in pixels that each of its pages will have; or why it cannot be read."""

    document: Document
    pages: tuple[Page, ...] = ()
    failure: Failure | None = None
    is_repaired: bool | None = None
    """The file's structure was damaged and was rebuilt; None where that is not known."""
    sample: str | None = None
    """Text of its first page, where a plan asked for it."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What another answer about the same subject must be, or must not be, for a question to be asked."""

    question_id: str
    is_equal: bool
    value: str

    def holds(self, answer: str | None) -> bool:
        """Tell whether an answer meets it, whatever its case; without an answer nothing does."""
        return answer is not None and (_plain(answer) == _plain(self.value)) == self.is_equal


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold().rstrip(".")


@dataclass(frozen=True, slots=True)
class Question:
    """A question for the documents whose source matches `document` (a path or glob; empty: all)."""

    question_id: str
    text: str
    document: str = ""
    gold_answer: str | None = None
    gold_page: str | None = None
    when: Condition | None = None
    """Asked only where this holds."""


class Charge(NamedTuple):
    """What something cost; multiples of a power of two, so that sums are exact in any order."""

    gpu_seconds: float = 0.0
    cost: float = 0.0
    """In the currency of the prices of the settings."""


FREE = Charge()


@dataclass(frozen=True, slots=True)
class Usage:
    """What an engine is given to read and to write."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt: those that it need not compute again."""
    output_tokens: float = 0.0
    pages: int = 0
    """Pages that it reads for the first time."""
    scans: int = 0
    """Of these: pages without a text layer."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a question is asked about: a page, a document or a folder."""

    scope: str
    source: str
    document_id: str
    pages: tuple[Page, ...]
    pages_total: int
    failure: Failure | None = None

    @property
    def page(self) -> int | None:
        """The page number, in page scope."""
        return self.pages[0].number if self.scope == "page" and self.pages else None


@dataclass(frozen=True, slots=True)
class Cell:
    """One answer to produce: a question about a subject."""

    answer_id: str
    subject: Subject
    question: Question


@dataclass(frozen=True, slots=True)
class Request:
    """One model request: `ask` about page images, or `merge` the answers of earlier requests."""

    request_id: str
    cell: Cell
    kind: str
    pages: tuple[Page, ...]
    prompt: str
    """The text after the images."""
    prompt_tokens: int
    position: int = 0
    siblings: int = 1
    """How many requests, this one being number `position`, answer the same cell and are merged."""
    parts: tuple[str, ...] = ()
    """The replies to merge; empty for `ask`."""
    left_out: tuple[Page, ...] = ()
    """Pages that could not be rendered, and that the answer has to do without."""
    attempt: int = 0
    """How often this was asked before and got no usable reply."""
    fault: str | None = None
    """What was wrong with the reply to the attempt before: an `error_code`."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What an engine said to a request; `failure` instead of text when it could not answer."""

    text: str
    finish_reason: str
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    confidence: float | None = None
    """0 to 1, of an engine that has a score of its own; None where it is worked out from the tokens."""
    token_ends: tuple[int, ...] = ()
    """How many characters of `text` are written when each token is."""
    token_probabilities: tuple[float, ...] = ()
    """Of each token, when it was chosen."""
    boxes: tuple[Box, ...] = ()
    """Where an engine that reads pages itself (OCR) found what it quotes."""
    engine_seconds: float = 0.0
    charge: Charge | None = FREE
    """Of a stored reply: what it cost; None where an earlier version did not note it."""
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of pages that share a request, with one request per question still to be asked of it."""

    subject: Subject
    pages: tuple[Page, ...]
    requests: tuple[Request, ...]
    prefix_tokens: int
    """Tokens of the page images and labels, which all its requests share."""


Window = list[Chunk]
"""Chunks whose prompts fit the engine's cache together."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished cell: the row of the `answers` table."""

    cell: Cell
    status: str
    failure: Failure | None = None
    answer: str | None = None
    fields: dict[str, Json] | None = None
    evidence_pages: tuple[int, ...] = ()
    evidence_found: bool | None = None
    evidence_quote: str | None = None
    evidence_boxes: tuple[Box, ...] = ()
    pages_read: int = 0
    requests: int = 0
    finish_reason: str | None = None
    confidence: float | None = None
    engine_confidence: float | None = None
    """Before calibration."""
    page_quality: str | None = None
    """Of the pages that it rests on, the worst: `text`, `clean_scan` or `poor_scan`."""
    needs_review: bool = False
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    engine_seconds: float = 0.0
    charge: Charge | None = FREE
    """What its stored replies cost; None where that is not known."""


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A row of the `documents` table; the page counts are None when no page had to be looked at."""

    source: str
    document_id: str
    kind: str
    bytes: int
    pages: int | None
    status: str
    error_code: str | None = None
    error: str | None = None
    text_layer_pages: int | None = None
    blank_pages: int | None = None
    languages: tuple[str, ...] = ()
    duplicate_of: str | None = None
    raster_seconds: float = 0.0
    is_repaired: bool | None = None
    damaged_pages: int | None = None

    @classmethod
    def of(cls, outline: Outline) -> DocumentRow:
        """Return the row of a document of which no page was looked at yet."""
        document, pages = outline.document, len(outline.pages) or None
        row = cls(document.source, document.document_id, document.kind, document.bytes, pages, "ok")
        return replace(
            row.failed(outline.failure), duplicate_of=document.duplicate_of, is_repaired=outline.is_repaired
        )

    def failed(self, failure: Failure | None) -> DocumentRow:
        """Return the row with the first failure that was met, which says what is wrong with the document."""
        if failure is None or self.error_code:
            return self
        return replace(self, status="error", error_code=failure.code, error=failure.message)

    def under(self, document: Document) -> DocumentRow:
        """Return the row of the same bytes under another name."""
        return replace(self, source=document.source, duplicate_of=document.duplicate_of)

    @property
    def failure(self) -> Failure | None:
        """Why the document could not be read whole."""
        return Failure(self.error_code, self.error or "") if self.error_code else None


def joined_id(documents: Iterable[Document]) -> str:
    """Identify a folder by the bytes of its documents, in order."""
    known_as = (d.document_id or d.source for d in documents)  # by name where the bytes cannot be read
    return hashlib.sha256("".join(known_as).encode("utf-8", "surrogateescape")).hexdigest()
