"""Meet the text of a reply: the one place where what an engine wrote becomes values of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass

from pipeline.answering.fit import Form, fit
from pipeline.answering.parse import Parsed, Problem, parse
from pipeline.records import Json
from pipeline.texts import clean_text

MOST_PAGES = 30
# A part that names every page of a document would have all their texts kept.
_MOST_MENTIONED = 60


@dataclass(frozen=True, slots=True)
class Reply:
    """What a reply says, checked."""

    answer: str | None
    """The answer as text: JSON where it is neither text nor null."""
    fields: dict[str, Json] | None = None
    """The structured answer; whole numbers of integer columns are integers."""
    quote: str | None = None
    pages: tuple[int, ...] = ()
    """The pages named as evidence, in order, as far as the subject has them."""
    names_other_pages: bool = False
    """It names pages that the subject does not have."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the replies of one task."""

    form: Form | None
    """None where the reply is plain text."""
    evidence: bool
    answer_field: str | None
    field_kinds: Mapping[str, str]

    def read(self, text: str, pages: Set[int]) -> Reply | Problem:
        """Return what a reply about these pages says, or why it cannot be used; never raise."""
        # Any text is an answer: nothing to parse, nothing to check.
        if self.form is None:
            return Reply(clean_text(text))
        parsed = parse(text)
        if isinstance(parsed, Problem):
            return parsed
        problem = self.form.problem(parsed.value)
        if problem is not None:
            return problem
        whole = parsed.value
        if not self.evidence:
            return self._answer(whole, None, (), False)
        if not isinstance(whole, dict):
            return Problem("it is not a JSON object")
        body, quote = whole.get("answer"), whole.get("quote")
        # Quote and pages beside an answer of null would be evidence of nothing.
        if body is None:
            return Reply(None)
        cited, outside = _pages(whole.get("pages"), pages)
        return self._answer(body, quote if isinstance(quote, str) else None, cited, outside)

    def _answer(
        self, body: Json, quote: str | None, pages: tuple[int, ...], outside: bool
    ) -> Reply | Problem:
        if not isinstance(body, dict):
            if body is not None and (self.field_kinds or self.answer_field):
                return Problem("its answer is not a JSON object")
            return Reply(_as_text(body), None, quote, pages, outside)
        # The model's own spelling of a number stays in `fields` unless its column needs another.
        fields = dict(body)
        for name, kind in self.field_kinds.items():
            fitted = fit(fields.get(name), kind)
            if isinstance(fitted, Problem):
                return Problem(f"{name}: {fitted.reason}")
            if name in fields:
                fields[name] = fitted
        shown = fields.get(self.answer_field) if self.answer_field else fields
        return Reply(_as_text(shown), fields, quote, pages, outside)


def _as_text(value: Json) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _pages(given: Json, pages: Set[int]) -> tuple[tuple[int, ...], bool]:
    """Return the pages that there are among those given, and whether others are named too."""
    items = given if isinstance(given, list) else []
    numbers = {number for item in items if (number := _whole(item)) is not None}
    known = sorted(numbers & pages)
    return tuple(known[:MOST_PAGES]), len(known) < len(numbers)


def _whole(item: Json) -> int | None:
    # JSON has one kind of number: 3.0 is page 3.
    if isinstance(item, float) and item.is_integer():
        return int(item)
    return item if isinstance(item, int) and not isinstance(item, bool) else None


def mentioned_pages(text: str) -> set[int]:
    """Return the numbers under any key `page` or `pages` of a part's reply, of whatever form it is.

    They only say which pages' texts to keep until the answer is known; they are no evidence.
    """
    parsed = parse(text)
    waiting = [parsed.value] if isinstance(parsed, Parsed) else []
    found: set[int] = set()
    while waiting and len(found) < _MOST_MENTIONED:
        value = waiting.pop()
        if isinstance(value, dict):
            for key in ("page", "pages"):
                named = value.get(key)
                items = named if isinstance(named, list) else [named]
                found |= {number for item in items if (number := _whole(item)) is not None}
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return found
