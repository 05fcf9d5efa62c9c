"""Write the reply to a request from the lines of its pages."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from functools import reduce
from operator import add
from typing import Any, NamedTuple

from pipeline.engines.embedded import extract
from pipeline.engines.embedded.lines import Line, legibility, text_of
from pipeline.engines.embedded.passages import Passage
from pipeline.engines.embedded.ranking import Counts, Index, confidence, weigh
from pipeline.engines.embedded.sentence import answering
from pipeline.records import MOST_CITED, Box, Json, Request

Pages = Mapping[int, list[Line]]
"""The lines of each page, by its ordinal."""

# The right page of a long document may not be the best of its part; the merge weighs them anew.
_CANDIDATES = 6
_NOT_FOUND = 0.3
"""Confidence in a field that is null: it is far more often not found than not there."""


class Written(NamedTuple):
    """A reply, how sure it is (0 to 1), and where on pages read by OCR what it quotes stands."""

    text: str
    confidence: float | None = None
    boxes: tuple[Box, ...] = ()


def transcription(request: Request, pages: Pages) -> Written:
    """Return the text of the pages."""
    if request.parts:
        return Written("\n\n".join(part.strip() for part in request.parts))
    texts = [text_of(pages[number]).strip() for number in sorted(pages)]
    return Written("\n\n".join(texts), legibility([line for lines in pages.values() for line in lines]))


def fields(
    request: Request,
    pages: Pages,
    schema: Mapping[str, Json],
    evidence: bool,
    detect_language: Callable[[str], str | None],
) -> Written:
    """Return the fields of a schema, each as found or null; as `evidence`, the pages that hold them."""
    if request.parts:
        found = extract.combine([_part(json.loads(part), evidence) for part in request.parts], schema)
    else:
        found = extract.fill(schema, pages, detect_language)
    if not evidence:
        return Written(_dump(extract.values(found)))
    cited = sorted({each.page for each in found.values() if each.page is not None})
    reply = {"answer": extract.values(found), "pages": cited[:MOST_CITED], "quote": None}
    # The merge has to know how sure each part is of what it found.
    merged = {"found": found} if request.siblings > 1 else {}
    return Written(_dump(reply | merged), _confidence_in(found.values()))


def _part(reply: dict[str, Any], evidence: bool) -> dict[str, extract.Found]:
    """Return what a reply about a part of a document found."""
    if evidence:
        return {name: extract.Found(*each) for name, each in reply["found"].items()}
    return {name: extract.Found(value) for name, value in reply.items()}


def _confidence_in(found: Collection[extract.Found]) -> float:
    """Return the confidence in fields together: that of the least sure, and less where any is null."""
    stated = [each.score for each in found if each.value is not None]
    if len(stated) < len(found):
        return _NOT_FOUND * len(stated) / len(found)
    return min(stated, default=1.0)


def passage(request: Request, index_of_pages: Callable[[], Index]) -> Written:
    """Return the sentences that answer, with their passage as the quote.

    A part of a long document hands on the best passages of its best pages instead, and how common the
    question's terms are in it: the merge ranks them as if it had seen all pages at once.
    """
    question = request.cell.question.text
    if request.parts:
        parts = [json.loads(part) for part in request.parts]
        candidates = [_passage(given) for part in parts for given in part["candidates"]]
        counts = reduce(add, (Counts(**part["counts"]) for part in parts))
        # Of the candidates alone, ranked by counts over all parts: they alone tell how rare a term is.
        index = Index(candidates)
    else:
        index = index_of_pages()
        counts = index.count(question)
    ranked = index.rank(question, counts)
    if request.siblings > 1:
        best = [asdict(each.passage) for each in ranked[:_CANDIDATES]]
        return Written(_dump({"candidates": best, "counts": asdict(counts)}))
    if not ranked:
        return Written(_dump({"answer": None, "pages": [], "quote": None}), 0.0)
    chosen = ranked[0].passage
    answer = answering(chosen, weigh(question, counts), question)
    reply = {"answer": answer, "pages": [chosen.page], "quote": " ".join(chosen.text.split())}
    boxes = tuple(Box(chosen.page, *map(float, place)) for place in chosen.places)
    return Written(_dump(reply), confidence(ranked), boxes)


def _passage(given: dict[str, Any]) -> Passage:
    return Passage(**{**given, "places": tuple(tuple(place) for place in given["places"])})


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
