"""Have replies to MM-MT-Bench rated by a judge: any function from a prompt and an image to a text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pipeline.evaluating.metrics.rating import NO_RATING, Rated, Ratings, rating, summarize

Judge = Callable[[str, bytes | None], str]
"""Takes a prompt and the image that it is about; returns a judgement with a rating like [[7]]."""

FIXED, UPSTREAM = "fixed", "upstream"
"""The judge sees the image and the conversation; or, as in mistral-evals, no image and garbled turns."""
_INSTRUCTION = (
    "Rate how well the last reply answers the last question about the image, from 1 (useless or wrong) to 10"
    " (correct, complete, to the point). A reference answer is given: it is right, and need not be the only"
    " good one. Say in a few sentences what is good and what is not, then end with the rating alone in double"
    " brackets, such as [[6]]."
)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply to be rated."""

    category: str
    turn: int
    question: str
    """With what was said before it."""
    reference: str
    text: str
    image: bytes | None = None


def prompt(reply: Reply, kind: str = FIXED) -> str:
    """Return what the judge is told, in our own words."""
    # mistral-evals writes the names of a message's parts where its words belong.
    question = "rolecontent" if kind == UPSTREAM else reply.question
    parts = (("Question", question), ("Reference answer", reply.reference), ("Reply", reply.text))
    return "\n\n".join([_INSTRUCTION, *(f"{name}:\n{words}" for name, words in parts)])


def rate(replies: Iterable[Reply], judge: Judge, kind: str = FIXED, attempts: int = 3) -> Ratings:
    """Have each reply rated, some times over where a judgement has no rating, and return the means.

    Replies that never got one are counted, and are in no mean.
    """
    return summarize([_rated(reply, judge, kind, attempts) for reply in replies])


def _rated(reply: Reply, judge: Judge, kind: str, attempts: int) -> Rated:
    given: Sequence[float] = ()
    for _ in range(attempts):
        given = (rating(judge(prompt(reply, kind), reply.image if kind == FIXED else None)),)
        if given[0] != NO_RATING:
            break
    return Rated(reply.category, reply.turn, given[0] if given else NO_RATING)
