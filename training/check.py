"""Settings for the small Pixtral that reads, and whether its answers are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from documents import Gold

FOLDER = Path(__file__).parent / "reader"
READER = [
    f"model.path={FOLDER}",
    "model.image_max_px=256",
    "model.context_tokens=16384",
    "engine=vllm",
    "engine.eager=true",
    "engine.max_batched_tokens=8192",
    "raster.workers=1",
    "task=qa",
    "task.max_output_tokens=64",
]


@dataclass(frozen=True, slots=True)
class Read:
    """Shares of answers that are right."""

    answers: float
    """Of questions that the pages answer."""
    pages: float
    """Of all questions: the evidence is the one page that answers, or none."""
    absent: float
    """Of questions that the pages do not answer."""

    def assert_right(self, answers: float = 0.95, pages: float = 0.95, absent: float = 0.9) -> None:
        """Fail unless as much is right as the model is able to read."""
        assert self.answers >= answers, self
        assert self.pages >= pages, self
        assert self.absent >= absent, self


def read(output: Path, gold: Sequence[Gold]) -> Read:
    """Compare a run's answers with what is right; each question must have one row, and no row an error."""
    rows = pd.read_parquet(output / "answers").set_index("question_id")
    assert sorted(rows.index) == sorted(each.question_id for each in gold)
    assert (rows["status"] == "ok").all(), rows["error"].tolist()
    said = rows.loc[[each.question_id for each in gold], ["answer", "evidence_pages"]]
    answers = said["answer"].astype(object).where(said["answer"].notna(), None)
    return compared(list(zip(answers, said["evidence_pages"], strict=True)), gold)


def compared(said: Sequence[tuple[object, Sequence[int]]], gold: Sequence[Gold]) -> Read:
    """Compare answers and the pages they name with what is right, in the same order."""
    right = [answer == each.answer for (answer, _), each in zip(said, gold, strict=True)]
    named = [
        list(pages) == ([each.page] if each.page else []) for (_, pages), each in zip(said, gold, strict=True)
    ]
    absent = [each.answer is None for each in gold]
    return Read(
        share([ok for ok, is_absent in zip(right, absent, strict=True) if not is_absent]),
        share(named),
        share([ok for ok, is_absent in zip(right, absent, strict=True) if is_absent]),
    )


def share(right: Sequence[bool]) -> float:
    """Return the share that is right, of at least one."""
    return sum(right) / len(right)
