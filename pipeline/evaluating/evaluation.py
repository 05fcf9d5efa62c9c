"""What an evaluation has found: an item of each column for each answer of which something is known."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.evaluating import profiles
from pipeline.evaluating.golden import GoldRow
from pipeline.evaluating.metrics.sets import Found
from pipeline.evaluating.profiles import Metric, MetricOfItem, Name
from pipeline.evaluating.statistics import Codes, Floats
from pipeline.tables.evaluation import AnswerRow


@dataclass(frozen=True, slots=True)
class Rules:
    """What answers are scored by."""

    profile: str
    metric: str
    """The metric that says whether an answer is right."""
    right_from: float
    """The score from which it is."""

    @property
    def name(self) -> Name:
        """The metric with its profile. Raises SettingsError where there is none of that name."""
        return profiles.named(self.metric, self.profile)


@dataclass(slots=True)
class Labels:
    """A column of texts, each kept once."""

    numbers: dict[str, int] = field(default_factory=dict)
    """The number of each text, from 0 in the order in which they came."""
    column: array[int] = field(default_factory=lambda: array("q"))

    def extend(self, labels: Sequence[str]) -> Sequence[int]:
        """Add labels, and return their numbers."""
        for label in dict.fromkeys(labels):
            self.numbers.setdefault(label, len(self.numbers))
        added = list(map(self.numbers.__getitem__, labels))
        self.column.extend(added)
        return added

    @property
    def codes(self) -> Codes:
        """The number of each item."""
        return np.frombuffer(self.column, np.int64)

    @property
    def texts(self) -> list[str]:
        """The text of each item."""
        names = list(self.numbers)
        return [names[number] for number in self.column]


@dataclass(slots=True)
class Counts:
    """How much answers found of what there is to find, with the number of each answer's document."""

    right: array[int] = field(default_factory=lambda: array("q"))
    found: array[int] = field(default_factory=lambda: array("q"))
    wanted: array[int] = field(default_factory=lambda: array("q"))
    documents: array[int] = field(default_factory=lambda: array("q"))

    def add(self, counted: Found, document: int) -> None:
        """Add what one answer found."""
        self.right.append(counted.right)
        self.found.append(counted.found)
        self.wanted.append(counted.wanted)
        self.documents.append(document)


@dataclass(slots=True)
class Evaluation:
    """The scores of all answers of which something is known."""

    rules: Rules
    metrics: Mapping[Name, Metric]
    of_items: Mapping[Name, MetricOfItem]
    """Of a data set, beside them."""
    scores: dict[Name, array[float]]
    has_keys: bool = False
    """Whether answers are to be known again: in another run, or in what a calibration was fitted on."""
    right: array[int] = field(default_factory=lambda: array("b"))
    documents: Labels = field(default_factory=Labels)
    confidence: array[float] = field(default_factory=lambda: array("d"))
    engine_confidence: array[float] = field(default_factory=lambda: array("d"))
    """Before calibration."""
    decided: array[float] = field(default_factory=lambda: array("f"))
    """The score of each answer by which it is right or not."""
    keys: array[int] = field(default_factory=lambda: array("q"))
    """What was asked: see `key`. Empty unless `has_keys`."""
    abstains: array[int] = field(default_factory=lambda: array("b"))
    unanswerable: array[int] = field(default_factory=lambda: array("b"))
    failed: dict[str, array[int]] = field(
        default_factory=lambda: {name: array("b") for name in ("error", "parse_failure", "truncated")}
    )
    groups: dict[str, Labels] = field(
        default_factory=lambda: {
            name: Labels() for name in ("page_quality", "kind", "task", "judged_by", "group")
        }
    )
    pages: Counts = field(default_factory=Counts)
    """Of answers whose pages are known."""
    boxes: Counts = field(default_factory=Counts)
    fields: dict[str, Found] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    """Some of the wrong answers, a line each."""
    missing: list[GoldRow] = field(default_factory=list)
    """Of the golden set: not answered, though the document is an input. They count as wrong."""
    outside: int = 0
    """Rows of the golden set about documents that are no input of this run."""
    without_gold: int = 0

    def __len__(self) -> int:
        """How many answers are judged."""
        return len(self.right)

    def values(self, name: Name) -> Floats:
        """Return the scores by one metric; not a number where it has nothing to compare with."""
        return np.frombuffer(self.scores[name], np.float32).astype(float)

    @property
    def right_values(self) -> Floats:
        """1 for each right answer, 0 for each other."""
        return np.frombuffer(self.right, np.int8).astype(float)

    @property
    def codes(self) -> Codes:
        """The number of each answer's document."""
        return self.documents.codes


def key(row: AnswerRow) -> int:
    """Return 63 bits that identify what was asked, the same in every run and process."""
    asked = f"{row.question}\0{row.source}\0{row.page}".encode("utf-8", "surrogateescape")
    # Without its highest bit it fits the signed numbers of `keys`.
    return int.from_bytes(hashlib.blake2b(asked, digest_size=8).digest()) >> 1
