"""The documents of a run, and the plan that lists them, where one does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.config import RunSettings
from pipeline.reading import source
from pipeline.records import Document


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a run is to answer questions about."""

    documents: Iterator[Document]
    sources: Sequence[str]
    """Their names, and those of other shards' documents, which are known before any is opened."""
    count: int
    """How many documents there are."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Files beside them that are no input, by ending."""
    plan_id: str | None = None
    plan_settings_hash: str | None = None
    """Settings that the plan was made with: tasks with others would answer other questions."""


def find_inputs(settings: RunSettings, balance: source.Balance) -> Inputs:
    """Find the inputs that the settings name. Raises SettingsError when there is none."""
    found = source.find(settings.input, settings.source, settings.shard, balance, settings.raster.scratch)
    return Inputs(found.documents, found.all_sources, len(found.sources), Counter(found.ignored_by_ending))
