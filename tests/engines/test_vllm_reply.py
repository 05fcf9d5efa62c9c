"""Which token wrote which part of a reply."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engines.vllm.messages import Reply
from pipeline.engines.vllm.reply import read_reply, token_ends


@pytest.mark.parametrize(
    ("text", "pieces", "ends"),
    [
        ("", [], ()),
        ("", ["</s>"], (0,)),
        ("Yes, 4.5", ["Yes", ",", " ", "4", ".", "5", "</s>"], (3, 4, 5, 6, 7, 8, 8)),
        # SentencePiece: spaces as U+2581, the first not written, bytes of characters that it lacks
        ('{"a": "two  x"}', ['▁{"', "a", '":', '▁"', "two", "▁", "▁x", '"}'], (2, 3, 5, 7, 10, 11, 13, 15)),
        ("日祝\n人", ["日", "<0xE7>", "<0xA5>", "<0x9D>", "<0x0A>", "人"], (1, 1, 2, 2, 3, 4)),
        ("🐘🐘 b", [*["<0xF0>", "<0x9F>", "<0x90>", "<0x98>"] * 2, "▁b"], (0, 0, 0, 1, 1, 1, 1, 2, 4)),
        # Tekken: halves of characters, given back as U+FFFD or, corrected, as nothing
        ("a 🐘b", ["a", " \ufffd", "\ufffd\ufffd", "\ufffd", "b"], (1, 2, 2, 3, 4)),
        ("a 🐘b", ["a", "", " 🐘", "b"], (1, 1, 3, 4)),
        # the first space of a reply is not kept
        ("the end", [" the", " end"], (3, 7)),
        # pieces stripped of their spaces, as some decoders do
        ("the end", ["the", "end"], (3, 7)),
        # a text that goes on after the tokens, or ends before them, does not end beyond itself
        ("more text", ["more"], (9,)),
        ("cut", ["cut", " off", " here"], (3, 3, 3)),
    ],
)
def test_each_token_ends_where_its_text_does(text: str, pieces: list[str], ends: tuple[int, ...]) -> None:
    assert token_ends(text, pieces) == ends


@given(st.lists(st.text(max_size=6)))
def test_of_tokens_that_are_the_text_every_end_is_exact(pieces: list[str]) -> None:
    pieces = [piece for piece in pieces if piece and "\ufffd" not in piece and "▁" not in piece]
    pieces = [piece for piece in pieces if not piece.startswith("<0x")]
    text = "".join(pieces)
    assert list(token_ends(text, pieces)) == [len("".join(pieces[: n + 1])) for n in range(len(pieces))]


@given(st.text(), st.lists(st.text(max_size=8) | st.sampled_from(["<0xE7>", "\ufffd", "▁", "</s>"])))
def test_whatever_the_tokens_are_the_ends_grow_to_the_end_of_the_text(text: str, pieces: list[str]) -> None:
    ends = token_ends(text, pieces)
    assert len(ends) == len(pieces)
    assert list(ends) == sorted(ends)
    assert not ends or (ends[0] >= 0 and ends[-1] == len(text))


@dataclass
class Token:
    """As vLLM gives it."""

    logprob: float
    decoded_token: str | None


@dataclass
class Written:
    text: str
    token_ids: list[int]
    logprobs: list[dict[int, Token] | None] | None
    finish_reason: str | None = "stop"


@dataclass
class Output:
    outputs: list[Written]
    prompt_token_ids: list[int] | None = field(default_factory=lambda: [1, 2, 3])
    num_cached_tokens: int | None = None
    metrics: None = None


def read(output: Output) -> Reply:
    return read_reply("r", output)  # type: ignore[arg-type]  # what a protocol has is invariant in its type


def test_probabilities_are_those_of_the_tokens_chosen() -> None:
    scores: list[dict[int, Token] | None] = [
        {7: Token(math.log(0.05), "no"), 8: Token(math.log(0.9), "yes")},
        {2: Token(1e-9, "</s>")},
    ]
    reply = read(Output([Written("no", [7, 2], scores)]))
    assert reply.token_probabilities == pytest.approx((0.05, 1.0))
    assert max(reply.token_probabilities) <= 1
    assert reply.token_ends == (2, 2)
    assert (reply.output_tokens, reply.prompt_tokens, reply.cached_tokens) == (2, 3, 0)


def test_the_space_that_begins_a_reply_is_no_part_of_it() -> None:
    """Parts of a long document are merged by their replies: one more token in each is another prompt."""
    scores: list[dict[int, Token] | None] = [{7: Token(-0.1, "▁Yes")}, {2: Token(-0.2, "</s>")}]
    reply = read(Output([Written(" Yes", [7, 2], scores)]))
    assert (reply.text, reply.token_ends) == ("Yes", (3, 3))


@pytest.mark.parametrize("scores", [None, [], [None], [{9: Token(-1.0, "no")}], [{7: Token(-1.0, "no")}, {}]])
def test_a_reply_whose_tokens_were_not_all_scored_has_its_text_and_no_probabilities(
    scores: list[dict[int, Token] | None] | None,
) -> None:
    reply = read(Output([Written("no", [7, 2], scores)]))
    assert (reply.text, reply.token_ends, reply.token_probabilities) == ("no", (), ())


@pytest.mark.parametrize("logprob", [-math.inf, math.nan, 12.0])
def test_a_probability_lies_between_0_and_1(logprob: float) -> None:
    reply = read(Output([Written("no", [7], [{7: Token(logprob, None)}])]))
    assert 0 <= reply.token_probabilities[0] <= 1
