"""Check the evidence that a reply names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any


def page_numbers(value: Any) -> Iterator[int]:
    """Yield the page numbers under any key `page` or `pages` of a reply."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("page", "pages"):
                yield from (n for n in (inner if isinstance(inner, list) else [inner]) if isinstance(n, int))
            else:
                yield from page_numbers(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from page_numbers(inner)


def found(quote: str | None, texts: Iterable[str]) -> bool | None:
    """Tell whether a page's text layer holds the quote; None without a quote or a text layer."""
    layers = [plain for text in texts if (plain := _letters(text))]
    wanted = _letters(quote or "")
    return any(wanted in layer for layer in layers) if wanted and layers else None


def _letters(text: str) -> str:
    """Keep letters and digits alone: breaks, hyphens and quotation marks vary from layer to reply."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text)).casefold()
