"""A finished run, read once: its tables and record, and what each answer is beside its row."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline import store
from pipeline.errors import OutputError
from pipeline.tables import evaluation, read, run_record
from pipeline.tables.evaluation import Verdict
from pipeline.tables.read import Table
from pipeline.tables.run_record import RunRecord
from pipeline.viewing import gold

RIGHT, WRONG, NO_GOLD = "right", "wrong", "no gold answer"
FOUND, NOT_FOUND, UNKNOWN = "quote found", "quote not found", "cannot be told"


@dataclass(frozen=True)
class Finished:
    """The published tables of an output, and its run.json."""

    output: Path
    run: RunRecord
    answers: Table
    documents: Table
    requests: Table

    @cached_property
    def _evaluated(self) -> list[Verdict | None]:
        """What an evaluation has found, of each answer that still says what it said then."""
        found = evaluation.verdicts(self.output)
        keys = zip(
            *(self.answers[name].to_pylist() for name in ("answer_id", "source", "answer")), strict=True
        )
        return [found.get(key) for key in keys]

    @cached_property
    def text(self) -> dict[str, list[str | None]]:
        """The columns of the answers that hold text and that are asked for row by row."""
        names = ("answer_id", "source", "question_id", "question", "status", "error_code", "error", "answer")
        columns = {n: self.answers[n].to_pylist() for n in (*names, "model", "task", "gold_answer")}
        pairs = zip(columns["gold_answer"], self._evaluated, strict=True)
        return columns | {"gold_answer": [found.gold if found else known for known, found in pairs]}

    @cached_property
    def review(self) -> list[bool | None]:
        """Whether a person has to look at each answer."""
        found: list[bool | None] = self.answers["needs_review"].to_pylist()
        return found

    @cached_property
    def confidence(self) -> list[float | None]:
        """How sure each answer is, 0 to 1."""
        found: list[float | None] = self.answers["confidence"].to_pylist()
        return found

    @cached_property
    def keys(self) -> list[str]:
        """What each answer is called in links: its id, and a number where the same bytes have two names."""
        seen: dict[str, int] = defaultdict(int)
        keys = []
        for answer_id in map(str, self.text["answer_id"]):
            keys.append(f"{answer_id}.{seen[answer_id]}" if answer_id in seen else answer_id)
            seen[answer_id] += 1
        return keys

    @cached_property
    def verdicts(self) -> list[str]:
        """Whether each answer is right, where an evaluation or the questions file says what is."""
        triples = zip(self.text["answer"], self.text["gold_answer"], self._evaluated, strict=True)
        return [_verdict(*each) for each in triples]

    @cached_property
    def gold_pages(self) -> list[str | None]:
        """Where the right answer stands, as far as that is known."""
        pairs = zip(self.answers["gold_page"].to_pylist(), self._evaluated, strict=True)
        return [", ".join(map(str, found.pages)) if found and found.pages else p for p, found in pairs]

    @cached_property
    def evidence(self) -> list[str]:
        """Whether the quote of each answer stands where the answer says."""
        names = {True: FOUND, False: NOT_FOUND, None: UNKNOWN}
        return [names[found] for found in self.answers["evidence_found"].to_pylist()]

    @cached_property
    def document_rows(self) -> dict[str, int]:
        """Which row of `documents` is that of a source."""
        return {str(source): index for index, source in enumerate(self.documents["source"].to_pylist())}

    @cached_property
    def document_ids(self) -> list[str]:
        """The document_id of each row of `documents`."""
        found: list[str] = self.documents["document_id"].to_pylist()
        return found

    @cached_property
    def request_rows(self) -> dict[str, list[int]]:
        """Which rows of `requests` are those of an answer."""
        found: dict[str, list[int]] = defaultdict(list)
        for index, answer_id in enumerate(self.requests["answer_id"].to_pylist()):
            found[answer_id].append(index)
        return found


def load(output: Path) -> Finished:
    """Read an output. Raises OutputError when there is nothing published in it."""
    answers = read.answers(output)
    store.fetch(output / "run.json")
    run = run_record.read(output / "run.json")
    if run is None:
        raise OutputError(f"output={output}: has no run.json, which tells what was asked")
    return Finished(output, run, answers, read.documents(output), read.requests(output))


def _verdict(answer: str | None, known: str | None, found: Verdict | None) -> str:
    if found is not None:
        return RIGHT if found.is_right else WRONG
    if not known:
        return NO_GOLD
    return RIGHT if gold.is_right(answer, known) else WRONG
