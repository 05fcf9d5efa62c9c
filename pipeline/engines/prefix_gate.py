"""Hold back the further questions about pages until the first has read them."""

from __future__ import annotations

from pipeline.records import Request

PagesKey = tuple[tuple[str, int, int, int], ...]
"""Document, page number, width and height of each page."""


class PrefixGate:
    """Hold back further requests about pages that an engine has begun to read and not yet read to the end.

    They find the pages in the prefix cache then. An engine looks into its cache only when it begins a
    request, and it begins requests early, to fill a step with the few tokens before their next image: sent
    together, even with the first of every document before the rest, they would read the same pages side by
    side.
    """

    def __init__(self) -> None:
        self._deferred: dict[PagesKey, list[Request]] = {}
        self._leaders: dict[str, PagesKey] = {}

    def defer(self, request: Request) -> bool:
        """Keep a request for `release` if its pages are being read; if not, it is the one that reads them."""
        if not (pages := pages_key(request)):
            return False
        if pages in self._deferred:
            self._deferred[pages].append(request)
            return True
        self._deferred[pages] = []
        self._leaders[request.request_id] = pages
        return False

    def release(self, request_id: str) -> list[Request]:
        """Return those that waited for this request, now that it is read or has ended in any other way."""
        return self._deferred.pop(self._leaders.pop(request_id, ()), [])


def pages_key(request: Request) -> PagesKey:
    """Return what is the same for all requests that begin with the same images; empty without any."""
    # Not the image files: the same page is drawn anew, under another name, in each window that needs it.
    return tuple((p.document.document_id, p.number, p.width_px, p.height_px) for p in request.pages)
