"""Search texts for a quote: in the order they are written, in right-to-left lines, over a page's end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from pipeline.answering.canonical import Tokens, tokens
from pipeline.answering.direction import GAP, has_right_to_left, orders

Positions = Sequence[int]
"""The characters of a text in which a quote was found."""

# What running heads and feet have at most: with more, a quote could leave out words of the page.
_RUNNING_CHARS = 300
_RUNNING_LINES = 6


def find(quote: Tokens, text: str) -> Positions | None:
    """Return where a text first holds the quote, and nothing but the quote, whole."""
    return next(_all(quote, text), None)


def find_across(quote: Tokens, before: str, after: str) -> tuple[Positions, Positions] | None:
    """Return where the quote begins at the end of one page and goes on at the beginning of the next.

    Lines at the foot of the one and at the head of the other may stand between: page numbers, running heads.
    """
    if not quote.texts:
        return None
    # White space and hyphens make a passage of a page longer than its quote.
    room = 3 * (quote.ends[-1] - quote.starts[0]) + _RUNNING_CHARS
    # Most pairs of stretches cannot hold the quote; seeing that from their ends spares joining them.
    tails = [cut for cut in _tails(before, room) if _may_begin(quote, before[slice(*cut)])]
    heads = [cut for cut in _heads(after, room) if _may_end(quote, after[slice(*cut)])] if tails else []
    for (start, end), (begin, stop) in product(tails, heads):
        middle = end - start
        for found in _all(quote, f"{before[start:end]}\n{after[begin:stop]}"):
            first = [start + position for position in found if position < middle]
            rest = [begin + position - middle - 1 for position in found if position > middle]
            # What one page holds whole does not run over its end.
            if first and rest:
                return first, rest
    return None


def _may_begin(quote: Tokens, tail: str) -> bool:
    """Tell quickly whether a page's end can be the beginning of a quote; its last word may be half a word."""
    shown, wanted = tokens(tail).texts, quote.texts
    return has_right_to_left(tail) or any(
        wanted[count - 1].startswith(shown[-1]) and shown[-count:-1] == wanted[: count - 1]
        for count in range(1, min(len(shown), len(wanted)) + 1)
    )


def _may_end(quote: Tokens, head: str) -> bool:
    shown, wanted = tokens(head).texts, quote.texts
    return has_right_to_left(head) or any(
        wanted[-count].endswith(shown[0]) and shown[1:count] == wanted[len(wanted) - count + 1 :]
        for count in range(1, min(len(shown), len(wanted)) + 1)
    )


def _all(quote: Tokens, text: str) -> Iterator[Positions]:
    found = tokens(text)
    for first, last in found.find(quote):
        yield range(found.starts[first], found.ends[last])
    for order in orders(text):
        turned = tokens("".join(" " if place == GAP else text[place] for place in order))
        for first, last in turned.find(quote):
            places = order[turned.starts[first] : turned.ends[last]]
            yield [place for place in places if place != GAP]


def _tails(text: str, room: int) -> list[tuple[int, int]]:
    """Return the stretches at a page's end that are left without its last lines, none or more."""
    lines = _lines(text)
    cuts = [line for line in reversed(lines[-_RUNNING_LINES:]) if lines[-1][1] - line[1] <= _RUNNING_CHARS]
    return [(_line_start(lines, end - room), end) for _, end in cuts]


def _heads(text: str, room: int) -> list[tuple[int, int]]:
    """Return the stretches at a page's beginning that are left without its first lines."""
    lines = _lines(text)
    cuts = [line for line in lines[:_RUNNING_LINES] if line[0] - lines[0][0] <= _RUNNING_CHARS]
    return [(start, _line_end(lines, start + room)) for start, _ in cuts]


def _lines(text: str) -> list[tuple[int, int]]:
    """Return where the lines that are not empty begin and end."""
    lines, start = [], 0
    for line in text.split("\n"):
        if line.strip():
            lines.append((start, start + len(line)))
        start += len(line) + 1
    return lines


def _line_start(lines: Sequence[tuple[int, int]], position: int) -> int:
    return max((start for start, _ in lines if start <= position), default=lines[0][0])


def _line_end(lines: Sequence[tuple[int, int]], position: int) -> int:
    return min((end for _, end in lines if end >= position), default=lines[-1][1])
