"""Look a reply's quote up in the text layers of the pages that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain

from pipeline.answering.canonical import Tokens, tokens
from pipeline.answering.passages import find, find_across
from pipeline.answering.places import lay_out
from pipeline.answering.signs import kinds
from pipeline.records import Box, Page

# A shorter quote, "5" say, stands on nearly every page and proves nothing.
_LEAST_CHARS = 3
_LEAST_CHARS_UNSPACED = 2
# A quote that stands on every page would fill the table with boxes that nobody looks at.
_MOST_BOXES = 500


@dataclass(frozen=True, slots=True)
class Evidence:
    """What became of a quote."""

    found: bool | None = None
    """None where nothing can be said: no quote, or a page that no text layer covers."""
    boxes: tuple[Box, ...] = ()


def look_up(
    quote: str | None, cited: Sequence[int], pages: Mapping[int, Page], covered: Set[int], seen: Sequence[Box]
) -> Evidence:
    """Look a quote up on the pages that a reply cites.

    `pages` are those whose layers are at hand, by ordinal: the cited ones and those beside them. `covered`
    are all pages of the subject that a text layer covers, `seen` what the engine read where none does. A
    quote that cites no page at all is not found if there is any layer that it could have been found in.
    """
    if quote is None:
        return Evidence()
    wanted = tokens(quote)
    hits = list(_hits(wanted, cited, pages, covered)) if _is_long_enough(quote, wanted) else []
    # Found on a cited page that has a layer: what another cited page without one shows does not matter.
    if hits:
        return Evidence(True, tuple(dict.fromkeys(chain.from_iterable(hits)))[:_MOST_BOXES])
    if all(page in covered for page in cited):
        return Evidence(False if covered else None)
    return Evidence(None, tuple(box for box in seen if box.page in cited)[:_MOST_BOXES])


def _is_long_enough(quote: str, wanted: Tokens) -> bool:
    """Tell whether a quote says anything: signs and separators of its numbers count as characters."""
    sorts = set(kinds(quote))
    least = _LEAST_CHARS_UNSPACED if "C" in sorts else _LEAST_CHARS
    return bool(sorts & set("LCDN")) and sum(map(len, wanted.texts)) >= least


def _hits(
    wanted: Tokens, cited: Sequence[int], pages: Mapping[int, Page], covered: Set[int]
) -> Iterator[tuple[Box, ...]]:
    """Yield the boxes of each page, or pair of pages, that holds the quote; they may be none."""
    layers = {number: page for number, page in pages.items() if number in covered}
    alone = [hit for n in cited if n in layers and (hit := _on_page(wanted, layers[n])) is not None]
    yield from alone
    # Only what no page holds whole is looked for across two: joining pages is slow and could join by chance.
    if alone:
        return
    # A quote that runs over a page's end may cite either page.
    for first in sorted({pair for n in cited for pair in (n - 1, n)}):
        if first in layers and first + 1 in layers and _follows(layers[first], layers[first + 1]):
            across = _across(wanted, layers[first], layers[first + 1])
            if across is not None:
                yield across


def _follows(page: Page, next_page: Page) -> bool:
    same = page.document.document_id == next_page.document.document_id
    return same and next_page.number == page.number + 1


def _on_page(wanted: Tokens, page: Page) -> tuple[Box, ...] | None:
    """Return the boxes of the quote on a page; None where neither its text nor its words hold it."""
    layout = lay_out(page)
    positions = find(wanted, layout.text)
    if positions is not None:
        return layout.boxes(positions)
    # The text may hold what the list of words does not: found, but without a place.
    return () if find(wanted, page.text) is not None else None


def _across(wanted: Tokens, page: Page, next_page: Page) -> tuple[Box, ...] | None:
    above, below = lay_out(page), lay_out(next_page)
    found = find_across(wanted, above.text, below.text)
    if found is not None:
        return above.boxes(found[0]) + below.boxes(found[1])
    return () if find_across(wanted, page.text, next_page.text) is not None else None
