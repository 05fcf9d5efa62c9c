"""What every engine must do, whatever it is. Inherit the tests and give them a `bench`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from pipeline.engines.base import Engine
from pipeline.records import Cell, Completion, Document, Page, Question, Request, Subject


def draw_page(folder: Path, name: str, text: str = "", number: int = 1) -> Page:
    """Make a page of a document; a name with `unreadable` in it gets a torn image."""
    file = folder / f"{name}-{number}.ppm"
    Image.new("RGB", (64, 48), "white").save(file)
    if "unreadable" in name:
        file.write_bytes(file.read_bytes()[:100])
    document = Document(f"{name}.pdf", Path(f"{name}.pdf"), "pdf", 1, name)
    return Page(document, number, 9, 64, 48, number, image=file, text=text, text_covers=bool(text))


@dataclass
class ContractBench:
    """An open engine, pages that it can be asked about, and one that cannot be read."""

    engine: Engine
    pages: Sequence[Page]
    unreadable: Page
    count: Callable[[Sequence[Page], str], int] = lambda pages, text: 10
    """Counts the tokens of a request."""

    def request(self, name: str, *pages: Page) -> Request:
        subject = Subject("document", "a.pdf", "id", pages, len(pages))
        text = f"What about {name}?"
        cell = Cell(name, subject, Question(name, text))
        return Request(name, cell, "ask", pages, text, self.count(pages, text))

    def take(self, count: int) -> list[tuple[Request, Completion]]:
        """Take until that many requests have ended."""
        ended: list[tuple[Request, Completion]] = []
        while len(ended) < count:
            ended += self.engine.take()
        return ended


class EngineContract:
    """Subclasses give a fixture `bench`; each test leaves nothing under way."""

    def test_every_request_ends_exactly_once(self, bench: ContractBench) -> None:
        requests = [bench.request(f"{n}", bench.pages[n % len(bench.pages)]) for n in range(12)]
        bench.engine.put(requests[:5], 0)
        bench.engine.put(requests[5:], 1)
        assert Counter(r.request_id for r, _ in bench.take(12)) == Counter(r.request_id for r in requests)

    def test_a_request_comes_back_as_it_was_given(self, bench: ContractBench) -> None:
        given = bench.request("same", bench.pages[0])
        bench.engine.put([given], 0)
        assert bench.take(1)[0][0] is given

    def test_a_further_request_can_be_put_while_others_are_under_way(self, bench: ContractBench) -> None:
        bench.engine.put([bench.request("first", bench.pages[0]), bench.request("second")], 0)
        ended = bench.take(1)
        bench.engine.put([bench.request("third")], 0)
        ended += bench.take(3 - len(ended))
        assert sorted(r.request_id for r, _ in ended) == ["first", "second", "third"]

    def test_many_questions_about_the_same_pages_are_all_answered(self, bench: ContractBench) -> None:
        requests = [bench.request(f"same {n}", *bench.pages[:2]) for n in range(9)]
        bench.engine.put(requests, 0)
        ended = bench.take(9)
        assert {r.request_id for r, _ in ended} == {r.request_id for r in requests}
        assert [c.failure for _, c in ended] == [None] * 9

    def test_a_request_without_pages_is_answered(self, bench: ContractBench) -> None:
        bench.engine.put([bench.request("text alone")], 0)
        assert bench.take(1)[0][1].failure is None

    def test_a_page_that_cannot_be_read_costs_the_requests_about_it_and_no_other(
        self, bench: ContractBench
    ) -> None:
        bad = [bench.request(f"bad {n}", bench.unreadable) for n in range(3)]
        good = [bench.request(f"good {n}", bench.pages[0]) for n in range(3)]
        bench.engine.put([bad[0], good[0], bad[1], good[1], bad[2], good[2]], 0)
        failures = {r.request_id: c.failure for r, c in bench.take(6)}
        assert all(failures[r.request_id] is None for r in good)
        for request in bad:
            failure = failures[request.request_id]
            assert failure is not None
            assert failure.code == "engine_failed"
            assert "a.pdf" in failure.message

    def test_a_request_that_is_too_long_is_refused_or_answered_and_no_error(
        self, bench: ContractBench
    ) -> None:
        long = replace(bench.request("long"), prompt_tokens=10**9)
        bench.engine.put([long, bench.request("short")], 0)
        completions = {r.request_id: c for r, c in bench.take(2)}
        failure = completions["long"].failure
        assert failure is None or failure.code == "too_long"
        assert completions["short"].failure is None

    def test_what_is_said_of_a_reply_fits_its_text(self, bench: ContractBench) -> None:
        given = bench.request("facts", bench.pages[0])
        bench.engine.put([given], 0)
        ((_, said),) = bench.take(1)
        assert said.finish_reason in ("stop", "length", "repetition")
        assert said.prompt_tokens == given.prompt_tokens
        assert said.confidence is None or 0 <= said.confidence <= 1
        assert len(said.token_ends) == len(said.token_probabilities)
        assert list(said.token_ends) == sorted(said.token_ends)
        assert said.token_ends[-1:] in ((), (len(said.text),))
        assert all(0 <= probability <= 1 for probability in said.token_probabilities)

    def test_closing_twice_or_with_requests_under_way_is_no_error(self, bench: ContractBench) -> None:
        bench.engine.put([bench.request("left", bench.pages[0])], 0)
        bench.engine.__exit__(None, None, None)
        bench.engine.__exit__(None, None, None)


class InOrder:
    """For engines that work on one request after the other."""

    def test_requests_of_an_earlier_window_go_first(self, bench: ContractBench) -> None:
        bench.engine.put([bench.request(f"later {n}") for n in range(3)], 1)
        bench.engine.put([bench.request(f"earlier {n}") for n in range(3)], 0)
        names = [request.request_id for request, _ in bench.take(6)]
        assert names == [f"{when} {n}" for when in ("earlier", "later") for n in range(3)]
