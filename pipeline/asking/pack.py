"""Split subjects into runs of consecutive pages that fit a request, evenly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from pipeline.asking import prompt
from pipeline.records import Cell, Chunk, Failure, Outline, Page, Request, Subject, joined_id
from pipeline.texts import fingerprint

Cost = Callable[[Page], int]


def subjects(outlines: Iterable[Outline], scope: str) -> Iterator[tuple[list[Outline], list[Subject]]]:
    """Yield what there is to ask about, with the outlines it was made from, in order."""
    if scope == "folder":
        for folder, members in groupby(outlines, key=lambda o: o.document.source.rpartition("/")[0]):
            together = list(members)
            yield together, [_folder(folder or ".", together)]
        return
    for outline in outlines:
        yield [outline], _of_document(outline, scope)


def _of_document(outline: Outline, scope: str) -> list[Subject]:
    document, total = outline.document, len(outline.pages)
    pages = tuple(replace(page, label=prompt.label(page, scope)) for page in outline.pages)
    if scope == "page" and not outline.failure:
        return [Subject(scope, document.source, document.document_id, (p,), total) for p in pages]
    return [Subject(scope, document.source, document.document_id, pages, total, outline.failure)]


def _folder(folder: str, outlines: Sequence[Outline]) -> Subject:
    members = [page for outline in outlines for page in outline.pages]
    numbered = (replace(page, ordinal=n) for n, page in enumerate(members, 1))
    pages = tuple(replace(page, label=prompt.label(page, "folder")) for page in numbered)
    failures = [outline.failure for outline in outlines if outline.failure]
    documents_id = joined_id(outline.document for outline in outlines)
    return Subject(
        "folder", folder, documents_id, pages, len(pages), None if pages or not failures else failures[0]
    )


def split(costs: Sequence[int], most_pages: int, most_tokens: int) -> list[int]:
    """Return the lengths of consecutive runs, as even as the limits allow and as few as that takes.

    31 pages within a limit of 30 are 16 + 15, not 30 + 1. Raises ValueError when one page exceeds the limit.
    """
    if max(costs, default=0) > most_tokens:
        raise ValueError(f"a page of {max(costs)} tokens exceeds {most_tokens}")
    # The fewest that could do; pages of unequal cost may take more.
    runs = max(1, math.ceil(len(costs) / most_pages), math.ceil(sum(costs) / most_tokens))
    while True:
        lengths = [len(costs) // runs + (index < len(costs) % runs) for index in range(runs)]
        starts = [sum(lengths[:index]) for index in range(runs)]
        if all(sum(costs[s : s + n]) <= most_tokens for s, n in zip(starts, lengths, strict=True)):
            return lengths
        runs += 1


def chunks(
    subject: Subject,
    cells: Sequence[Cell],
    cost: Cost,
    write: Callable[[Cell], tuple[str, int]],
    most_pages: int,
    room_tokens: int,
) -> Iterator[Chunk]:
    """Yield the subject's chunks, each with one request per cell.

    `cost` gives the tokens of a page with its label; `write` the text after the images and its tokens with
    the chat format's; `room_tokens` is the context less the longest answer. What cannot be asked at all comes
    as a chunk without pages, whose subject says why.
    """
    texts = {cell.answer_id: write(cell) for cell in cells}
    if subject.failure:
        yield _unasked(subject, cells, texts, subject.failure)
        return
    costs = [cost(page) for page in subject.pages]
    widest = max(costs, default=0)
    fitting = [cell for cell in cells if texts[cell.answer_id][1] + widest <= room_tokens]
    if too_long := [cell for cell in cells if texts[cell.answer_id][1] + widest > room_tokens]:
        message = (
            f"{subject.source}: a page and the question exceed {room_tokens} tokens; shorten the question"
        )
        yield _unasked(subject, too_long, texts, Failure("too_long", message))
    # The same room is kept for any short question, so that a later one finds the same runs of pages.
    usual = min(_QUESTION_TOKENS, room_tokens - widest)
    reserve = max([usual, *(texts[cell.answer_id][1] for cell in fitting)])
    lengths = split(costs, most_pages, room_tokens - reserve)
    start = 0
    for position, length in enumerate(lengths):
        pages = subject.pages[start : start + length]
        prefix_tokens = sum(costs[start : start + length])
        requests = tuple(
            _request(cell, pages, *texts[cell.answer_id], prefix_tokens, position, len(lengths))
            for cell in fitting
        )
        yield Chunk(subject, pages, requests, prefix_tokens)
        start += length


# More than nearly any question has, and less than one page costs.
_QUESTION_TOKENS = 2048


def _request(
    cell: Cell,
    pages: tuple[Page, ...],
    text: str,
    tokens: int,
    prefix_tokens: int,
    position: int,
    siblings: int,
) -> Request:
    return Request(
        request_id=fingerprint(cell.answer_id, "ask", pages[0].ordinal if pages else 0, len(pages)),
        cell=cell,
        kind="ask",
        pages=pages,
        prompt=text,
        prompt_tokens=prefix_tokens + tokens,
        position=position,
        siblings=siblings,
    )


def _unasked(
    subject: Subject, cells: Sequence[Cell], texts: Mapping[str, tuple[str, int]], failure: Failure
) -> Chunk:
    requests = tuple(_request(cell, (), *texts[cell.answer_id], 0, 0, 1) for cell in cells)
    return Chunk(replace(subject, failure=failure), (), requests, 0)
