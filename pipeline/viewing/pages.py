"""Choose which pages a report shows, and have them drawn by the worker pool."""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path

from pipeline import workers
from pipeline.config import PageSettings, RasterSettings, ReportSettings, SourceSettings
from pipeline.errors import SettingsError
from pipeline.reading import bucket, draw, images, picture, raster, scratch, source
from pipeline.records import Chunk, Document, Outline, Page, Subject, Window
from pipeline.viewing.finished import WRONG, Finished

log = logging.getLogger("pipeline")

_WINDOW_PAGES = 16
_MOST_OF_AN_ANSWER = 8
_ENCODE_S = 60.0


@dataclass(frozen=True, slots=True)
class PageName:
    """A page of an input, and what answers call it."""

    source: str
    number: int
    ordinal: int
    """What evidence calls it: its number, but for folders, whose pages are counted through."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A page image of the report."""

    file: str
    width_px: int
    height_px: int
    points_per_px: tuple[float, float]


@dataclass(slots=True)
class Drawn:
    """The page images of a report, by document_id and page number."""

    pictures: dict[tuple[str, int], Picture] = field(default_factory=dict)
    failures: dict[tuple[str, int], str] = field(default_factory=dict)
    """Why a page that was to be drawn was not."""
    reason: str = ""
    """Why there are none at all."""


def pages_of(run: Finished) -> list[list[PageName]]:
    """Return the pages that each answer rests on; the first where it names none."""
    folders = _folders(run)
    names = ("source", "scope", "page", "evidence_pages", "evidence_boxes")
    columns = (run.answers[name].to_pylist() for name in names)
    rows = zip(*columns, run.gold_pages, run.verdicts, strict=True)
    found = []
    for source_, scope, page, evidence, boxes, gold_page, verdict in rows:
        if scope == "page":
            found.append([PageName(source_, page, page)] if page else [])
            continue
        gold = [int(n) for n in re.findall(r"\d{1,6}", gold_page or "")] if verdict == WRONG else []
        ordinals = [*(evidence or ()), *(box["page"] for box in boxes or ()), *gold] or [1]
        # A reply may name pages that the document does not have.
        wanted = list(dict.fromkeys(n for n in ordinals if n and n > 0))[:_MOST_OF_AN_ANSWER]
        members = folders.get(source_) if scope == "folder" else None
        found.append([_name(source_, n, members) for n in wanted if members is None or n <= len(members)])
    return found


def _name(source_: str, ordinal: int, members: Sequence[tuple[str, int]] | None) -> PageName:
    return PageName(*(members[ordinal - 1] if members else (source_, ordinal)), ordinal)


def _folders(run: Finished) -> dict[str, list[tuple[str, int]]]:
    """Return the pages of each folder, in the order in which folder scope counts them."""
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for name, pages in zip(*(run.documents[n].to_pylist() for n in ("source", "pages")), strict=True):
        folder = name.rpartition("/")[0] or "."
        found[folder] += [(name, number) for number in range(1, (pages or 0) + 1)]
    return found


def chosen(
    run: Finished, pages: Sequence[Sequence[PageName]], settings: PageSettings, first: Sequence[int] = ()
) -> list[PageName]:
    """Return the pages to draw, each once, the most deserving first: of the rows `first`, of a sample, …"""
    if settings.pages == "none":
        return []
    rows = range(len(pages))
    if settings.pages == "all":
        return list(dict.fromkeys(page for row in rows for page in pages[row]))
    ids, confidence = run.keys, run.confidence
    # An answer's id is a hash: the first by id are as good as drawn by lot, and the same ones each time.
    sample = sorted(rows, key=lambda row: ids[row])[: settings.sample]
    deserving = [row for row in rows if run.review[row] or run.verdicts[row] == WRONG]
    deserving.sort(key=lambda row: -1.0 if (c := confidence[row]) is None else c)
    ordered = dict.fromkeys(page for row in (*first, *sample, *deserving, *rows) for page in pages[row])
    # Files of which no page is known could not be opened: they would use up the number, and show nothing.
    closed = _without_pages(run)
    return list(islice((page for page in ordered if page.source not in closed), settings.most_pages))


def _without_pages(run: Finished) -> set[str]:
    named = zip(*(run.documents[name].to_pylist() for name in ("source", "status", "pages")), strict=True)
    return {source_ for source_, status, pages in named if status == "error" and not pages}


def draw_pages(run: Finished, wanted: Sequence[PageName], settings: ReportSettings, folder: Path) -> Drawn:
    """Draw pages as WebP files in `folder`, but for those that lie there already from an earlier report."""
    drawn = Drawn()
    if not wanted:
        return drawn
    ids = dict(zip(*(run.documents[n].to_pylist() for n in ("source", "document_id")), strict=True))
    before = _load_index(folder)
    numbers: dict[str, set[int]] = defaultdict(set)
    for page in wanted:
        document_id = ids.get(page.source)
        # Its name holds what a picture is made of: hash of the bytes, page, size and quality.
        if document_id and (known := before.get(_file(document_id, page.number, settings.report))):
            drawn.pictures[document_id, page.number] = known
        elif document_id:
            numbers[page.source].add(page.number)
    if numbers:
        _draw(run, numbers, ids, settings, folder, drawn)
    index = {picture.file: asdict(picture) for picture in drawn.pictures.values()}
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return drawn


def _load_index(folder: Path) -> dict[str, Picture]:
    """Return the images that lie in the folder, by file name."""
    try:
        told = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        known = (Picture(**each) for each in told.values())
        return {picture.file: picture for picture in known if (folder / picture.file).exists()}
    except (OSError, ValueError, TypeError):
        return {}  # of another version, or there is none: all are drawn again


def _file(document_id: str, number: int, settings: PageSettings) -> str:
    return f"{document_id[:24]}-{number}-{settings.page_px}-{settings.quality}-{draw.DRAWING}.webp"


def _draw(
    run: Finished,
    numbers: dict[str, set[int]],
    ids: dict[str, str],
    settings: ReportSettings,
    folder: Path,
    drawn: Drawn,
) -> None:
    of_run = SourceSettings(**run.run.settings["source"])  # type: ignore[arg-type]
    try:
        input_ = settings.input or str(run.run.settings["input"])
        paths = {entry.source: entry.location for entry in bucket.entries(input_, of_run)}
    except SettingsError as error:
        drawn.reason = f"{error}; the inputs may lie elsewhere: input=…"
        return
    listed = ((paths[name], name) for name in numbers if name in paths)
    documents: dict[bool, list[Document]] = {True: [], False: []}
    for document in source.listed(listed, of_run, settings.raster.scratch):
        # Another file under that name would be shown beside an answer that is not about it.
        if document.document_id == ids[document.source]:
            documents[document.kind in images.KINDS].append(document)
    for are_images, some in documents.items():
        if some:
            _Drawing(run, settings, folder, drawn).make(some, numbers, are_images)
    present = {document.source for some in documents.values() for document in some}
    for name in numbers.keys() - present:
        why = "has changed since it was asked about" if name in paths else f"is not in {input_} any more"
        for number in numbers[name]:
            drawn.failures[ids[name], number] = f"{name} {why}"


@dataclass(frozen=True, slots=True)
class _Drawing:
    run: Finished
    settings: ReportSettings
    folder: Path
    drawn: Drawn

    def make(self, documents: list[Document], numbers: dict[str, set[int]], are_images: bool) -> None:
        """Draw the pages with these numbers, and encode them in other workers."""
        name = f"docbatch-{uuid.uuid4().hex[:12]}-report"
        with ExitStack() as stack:
            folder = scratch.choose(self.settings.raster.scratch, name)
            rasterizer = raster.Rasterizer(self._raster(), self._geometry(are_images), folder)
            stack.enter_context(rasterizer)
            encoders = workers.Pool(self.settings.raster.workers, 5000)
            stack.callback(encoders.close)
            outlines = rasterizer.outlines(documents, lambda document: None)
            for window in rasterizer.render(self._windows(outlines, numbers)):
                self._encode(window, encoders)
                rasterizer.release(window)

    def _geometry(self, are_images: bool) -> draw.Geometry:
        """Return the size of page images: of image files the model's, in whose pixels boxes count."""
        if not are_images:
            # Whole pixels, not patches: no model looks at these.
            return draw.Geometry(self.settings.report.page_px, 1)
        model = self.run.run.settings["model"]
        assert isinstance(model, dict)
        return draw.Geometry(int(str(model["image_max_px"])), int(str(model["image_patch_px"])))

    def _raster(self) -> RasterSettings:
        """Return the settings of drawing; the file of passwords is the run's unless other ones are given."""
        given, of_run = self.settings.raster, self.run.run.settings["raster"]
        passwords = of_run.get("passwords") if isinstance(of_run, dict) else None
        if given.password or given.passwords or not Path(str(passwords or "")).is_file():
            return given
        return replace(given, passwords=str(passwords))

    def _windows(self, outlines: Iterable[Outline], numbers: dict[str, set[int]]) -> Iterator[Window]:
        """Yield the wanted pages, a few documents together so that all workers have something to do."""
        window: Window = []
        for outline in outlines:
            document = outline.document
            for number in numbers[document.source]:
                if outline.failure:
                    self.drawn.failures[document.document_id, number] = outline.failure.message
            pages = [page for page in outline.pages if page.number in numbers[document.source]]
            for start in range(0, len(pages), _WINDOW_PAGES):
                some = tuple(pages[start : start + _WINDOW_PAGES])
                subject = Subject("document", document.source, document.document_id, some, len(outline.pages))
                window.append(Chunk(subject, some, (), 0))
                if sum(len(chunk.pages) for chunk in window) >= _WINDOW_PAGES:
                    yield window
                    window = []
        if window:
            yield window

    def _encode(self, window: Window, encoders: workers.Pool) -> None:
        begun: list[tuple[Page, str, workers.Task[None]]] = []
        for page in (page for chunk in window for page in chunk.pages):
            if page.failure or page.image is None:
                why = page.failure.message if page.failure else "was not drawn"
                self.drawn.failures[page.document.document_id, page.number] = why
                continue
            file = _file(page.document.document_id, page.number, self.settings.report)
            arguments = [str(page.image), str(self.folder / file), self.settings.report.quality]
            begun.append((page, file, encoders.schedule(picture.save_webp, arguments, _ENCODE_S)))
        for page, file, task in begun:
            try:
                task.result()
            except (workers.ProcessExpired, OSError) as error:  # a time limit among them
                why = f"could not be made a picture ({type(error).__name__})"
                self.drawn.failures[page.document.document_id, page.number] = why
                continue
            made = Picture(file, page.width_px, page.height_px, page.points_per_px)
            self.drawn.pictures[page.document.document_id, page.number] = made
