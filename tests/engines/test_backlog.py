"""Who killed the engine, worked out without one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engines.vllm.backlog import Backlog, Work
from pipeline.records import Cell, Question, Request, Subject


def work(name: str) -> Work:
    subject = Subject("document", "a.pdf", "id", (), 0)
    return Work(Request(name, Cell(name, subject, Question(name, "?")), "ask", (), "?", 10), 0, 10)


@dataclass
class Played:
    """What became of each request, and how often the engine died."""

    sent: Counter[str] = field(default_factory=Counter)
    answered: list[str] = field(default_factory=list)
    blamed: list[str] = field(default_factory=list)
    deaths: int = 0
    deaths_without_reply: int = 0
    most_without_reply: int = 0


def play(count: int, killers: set[int], names_its_image: bool = False) -> Played:
    """Work off `count` requests with an engine that dies before it replies when a killer is in the group."""
    backlog, played = Backlog(), Played()
    for number in range(count):
        backlog.add(work(str(number)))
    while group := backlog.next_group():
        names = [each.request.request_id for each in group]
        played.sent.update(names)
        if deadly := [name for name in names if int(name) in killers]:
            played.deaths += 1
            played.deaths_without_reply += 1
            played.most_without_reply = max(played.most_without_reply, played.deaths_without_reply)
            blamed = backlog.divide(deadly[0] if names_its_image else None)
            played.blamed += [request.request_id for request in blamed]
        else:
            played.deaths_without_reply = 0
            played.answered += [backlog.end(name, answered=True).request_id for name in names]
    assert not backlog.is_under_way
    assert backlog.load_tokens == 0
    return played


@given(
    count=st.integers(1, 300), killers=st.sets(st.integers(0, 299), max_size=5), names_its_image=st.booleans()
)
def test_exactly_the_killers_are_blamed_and_all_others_are_answered_once(
    count: int, killers: set[int], names_its_image: bool
) -> None:
    killers = {number for number in killers if number < count}
    played = play(count, killers, names_its_image)
    assert sorted(map(int, played.blamed)) == sorted(killers)
    assert sorted(map(int, played.answered)) == [n for n in range(count) if n not in killers]
    assert played.most_without_reply <= 12  # engine.max_restarts
    if not names_its_image:
        assert max(played.sent.values()) <= 5  # 300 together, by 38, by 5, and alone


@pytest.mark.parametrize("place", [0, 100, 255])
def test_one_killer_among_256_is_found_in_four_deaths(place: int) -> None:
    assert play(256, {place}).deaths == 4


def test_a_request_that_is_alone_is_given_a_second_chance() -> None:
    backlog = Backlog()
    backlog.add(work("alone"))
    backlog.next_group()
    assert backlog.divide(None) == []
    assert [each.request.request_id for each in backlog.next_group()] == ["alone"]
    backlog.end("alone", answered=True)


def test_what_comes_later_waits_until_the_suspects_are_cleared() -> None:
    backlog = Backlog()
    for number in range(16):
        backlog.add(work(str(number)))
    backlog.next_group()
    backlog.divide(None)
    backlog.add(work("later"))
    groups = []
    while group := backlog.next_group():
        assert backlog.next_group() == []
        groups.append([backlog.end(each.request.request_id, answered=True).request_id for each in group])
    assert groups == [*([str(n), str(n + 1)] for n in range(0, 16, 2)), ["later"]]
