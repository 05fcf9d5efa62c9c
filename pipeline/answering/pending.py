"""Keep what is known of a cell until it has its answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from pipeline.answering.reply import mentioned_pages
from pipeline.records import FREE, Charge, Completion, Failure, Page, Request

_FEW_PIXELS = 600
"""Of the longest side of a page image: a page of text is hardly legible below."""


@dataclass(slots=True)
class Spent:
    """What the requests of a cell cost."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    engine_seconds: float = 0.0
    charge: Charge | None = FREE

    def add(self, completion: Completion) -> None:
        """Count a completion; what no engine took is not a request."""
        refused = completion.failure is not None and completion.finish_reason == "error"
        self.requests += completion.finish_reason != "blank" and not refused
        self.prompt_tokens += completion.prompt_tokens
        self.cached_tokens += completion.cached_tokens
        self.output_tokens += completion.output_tokens
        self.engine_seconds += completion.engine_seconds
        self.charge = _sum(self.charge, completion.charge)


def _sum(one: Charge | None, other: Charge | None) -> Charge | None:
    """Add what two things cost; what is not known of one is not known of both."""
    if one is None or other is None:
        return None
    return Charge(one.gpu_seconds + other.gpu_seconds, one.cost + other.cost)


@dataclass(frozen=True, slots=True)
class Part:
    """How sure the reply about some pages was; merging makes nothing surer."""

    pages: frozenset[int]
    confidence: float | None
    says_something: bool


@dataclass(slots=True)
class Pending:
    """The replies to one cell so far, and what of the pages the final answer will be checked against."""

    replies: list[tuple[int, Completion]] = field(default_factory=list)
    """With the position of each among its siblings."""
    parts: list[Part] = field(default_factory=list)
    pages: dict[int, Page] = field(default_factory=dict)
    """Pages with their texts: of a long document those alone that its parts cite, with their neighbours."""
    covered: set[int] = field(default_factory=set)
    """All pages whose text is known to be what they show."""
    doubtful: set[int] = field(default_factory=set)
    poor: set[int] = field(default_factory=set)
    """Pages that can hardly be read: faint, damaged, or of few pixels."""
    seen: set[int] = field(default_factory=set)
    pages_read: int = 0
    failures: list[Failure] = field(default_factory=list)
    spent: Spent = field(default_factory=Spent)

    def keep(self, position: int, completion: Completion, part: Part) -> None:
        """Keep a part's reply, with its confidence in place of the tokens that it was worked out from."""
        if not completion.failure:
            self.parts.append(part)
        # A document of 3,000 pages has a hundred parts: their tokens would fill memory until the merge.
        kept = replace(completion, confidence=part.confidence, token_ends=(), token_probabilities=())
        self.replies.append((position, kept))

    def take(self) -> list[Completion]:
        """Return the replies so far that can be used, in the order of their pages, and note the others."""
        replies = [reply for _, reply in sorted(self.replies, key=lambda reply: reply[0])]
        self.failures += [reply.failure for reply in replies if reply.failure]
        self.replies = []
        return [reply for reply in replies if not reply.failure]

    def note_pages(self, request: Request, completion: Completion) -> None:
        """Note the pages that a request showed."""
        self.pages_read += len(request.pages)
        # Without any page left the failure is that of the completion: it would be noted twice.
        if request.pages:
            self.failures += [_without(page.failure) for page in request.left_out if page.failure]
        # What a truly blank page shows is known too: nothing.
        doubtful = {page.ordinal for page in request.pages if page.faint or page.damaged}
        self.covered |= {
            page.ordinal
            for page in request.pages
            if page.text_covers or (page.blank and page.ordinal not in doubtful)
        }
        self.doubtful |= doubtful
        self.poor |= {page.ordinal for page in request.pages if _is_poor(page)}
        self.seen |= {page.ordinal for page in request.pages}
        # For the same reason texts of pages are kept only where a quote can lie.
        kept = request.pages if request.siblings == 1 else _cited(request.pages, completion.text)
        self.pages.update((page.ordinal, page) for page in kept)

    def quality(self, cited: Sequence[int]) -> str | None:
        """Return the worst quality of the pages that an answer cites; of all pages where it cites none."""
        pages = (set(cited) & self.seen) or self.seen
        if not pages:
            return None
        # The worst page decides: one that cannot be read is enough to be wrong.
        if pages & self.poor:
            return "poor_scan"
        return "text" if pages <= self.covered else "clean_scan"

    def rests_on(self, cited: Sequence[int]) -> Iterable[Part]:
        """Return the parts that an answer rests on: those that showed a page it cites, or said anything."""
        showed = [part for part in self.parts if part.pages & set(cited)]
        # An answer without pages may rest on any part that said something.
        return showed or [part for part in self.parts if part.says_something] or self.parts


def _is_poor(page: Page) -> bool:
    few_pixels = 0 < max(page.width_px, page.height_px) < _FEW_PIXELS and not page.text_covers
    return page.faint or page.damaged or few_pixels


def _cited(pages: Sequence[Page], text: str) -> list[Page]:
    """Return the pages that a part cites, and those that a quote may go on to: beside them, first, last."""
    cited = mentioned_pages(text)
    near = {number + step for number in cited for step in (-1, 0, 1)}
    return [page for page in pages if page.ordinal in near or page in (pages[0], pages[-1])]


def _without(failure: Failure) -> Failure:
    return replace(failure, message=f"{failure.message}; the answer rests on the other pages")
