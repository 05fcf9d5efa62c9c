"""Put what stands on a page into rows of cells, as a reader sees a form or a receipt."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.engines.embedded.lines import Line, Place
from pipeline.records import Words

Row = list[Line]
_GAP = 0.9
"""Of their height, the room between words of different cells; a space is half of it in any font."""
_LEVEL = 0.5
"""Of their height, how far the middles of two cells of a row may be apart."""


def of_words(words: Words) -> list[Line]:
    """Return the words of a text layer joined into cells."""
    cells: list[Line] = []
    for index, text in enumerate(words.texts):
        place = words.place(index)
        if cells and cells[-1].place and _follows(cells[-1].place, place):
            before = cells[-1].place
            joined = before[0], min(before[1], place[1]), place[2], max(before[3], place[3])
            cells[-1] = Line(f"{cells[-1].text} {text}", joined)
        else:
            cells.append(Line(text, place))
    return cells


def _follows(before: Place, place: Place) -> bool:
    height = min(_height(before), _height(place))
    gap = place[0] - before[2]  # most words begin a line or follow: what is cheap to tell comes first
    return -height < gap <= _GAP * height and abs(_middle(before) - _middle(place)) <= _LEVEL * height


def rows(cells: Sequence[Line]) -> list[Row]:
    """Return cells in rows from the top, each from the left; a cell whose place is not known is a row."""
    made: list[Row] = [[cell] for cell in cells if cell.place is None]
    for cell in sorted((cell for cell in cells if cell.place), key=level):
        last = made[-1] if made else []
        height = min(height_of(cell), height_of(last[0])) if last else 0.0
        if last and last[0].place and level(cell) - level(last[0]) <= _LEVEL * height:
            last.append(cell)
        else:
            made.append([cell])
    return [sorted(row, key=left) for row in made]


def level(cell: Line) -> float:
    """Return how far down a cell stands, were its page not aslant."""
    return _middle(cell.place) - cell.slope * (cell.place[0] + cell.place[2]) / 2 if cell.place else 0.0


def height_of(cell: Line) -> float:
    """Return the height of a cell's letters: its box is higher where the page is aslant."""
    if cell.place is None:
        return 0.0
    return max(_height(cell.place) - abs(cell.slope) * (cell.place[2] - cell.place[0]), 1.0)


def left(cell: Line) -> float:
    """Return where a cell begins."""
    return cell.place[0] if cell.place else 0.0


def below(cell: Line, following: Sequence[Row]) -> Line | None:
    """Return the cell under another one: the first that shares some of its width, on the next few lines."""
    if cell.place is None:
        return None
    reach = level(cell) + _REACH * height_of(cell)
    for row in following:
        for other in row:
            if other.place is None or level(other) > reach:
                return None
            if other.place[0] < cell.place[2] and other.place[2] > cell.place[0]:
                return other
    return None


_REACH = 3.5


def _middle(place: Place) -> float:
    return (place[1] + place[3]) / 2


def _height(place: Place) -> float:
    return max(place[3] - place[1], 1.0)
