"""Settle what a run asks, how, and of which engine, before anything is opened."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pipeline import store
from pipeline.answering import calibration
from pipeline.asking import largest, prompt, questions, schema
from pipeline.asking.selection import Selection
from pipeline.config import ModelSettings, RunSettings
from pipeline.engines import choose
from pipeline.engines.base import Served
from pipeline.errors import SettingsError
from pipeline.flow import identity
from pipeline.flow.inputs import Inputs
from pipeline.records import Json
from pipeline.tables import layout

log = logging.getLogger("pipeline")

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Decided:
    """What is settled."""

    questions: int
    """How many there are, whatever they are asked of."""
    selection: Selection
    envelope: dict[str, Json] | None
    """JSON schema of a reply; None for tasks that want plain text."""
    field_kinds: dict[str, str]
    engine: str
    model: ModelSettings
    """With no more context than the largest request of the task takes."""
    system_prompt_template: str
    identity: identity.Identity
    calibration: calibration.Calibration | None
    served: Served | None
    """What the servers of the run serve, where they are its engine."""


def decide(settings: RunSettings) -> Decided:
    """Settle what is asked. Raises SettingsError for what cannot be asked."""
    asked = questions.questions(settings.task)
    selection = Selection(asked)
    envelope = schema.envelope(settings.task)
    template = prompt.system_prompt_template(settings.model)
    model = largest.model_for(settings, asked, envelope, template)
    engine, reason = choose.choose(settings.engine, model)
    # Before identity, which reads the same file and cannot say what is wrong with it.
    fitted = _calibration(settings.engine.calibration, engine)
    log.info("engine=%s: %s", engine, reason)
    # Tables are made of stored replies when no server runs any more: what they served is remembered.
    told = layout.Layout(store.folder(settings.output), settings.shard).served()
    served = choose.served(engine, settings.engine, Served(*told) if told else None)
    return Decided(
        questions=len(asked),
        selection=selection,
        envelope=envelope,
        field_kinds=schema.field_kinds(settings.task),
        engine=engine,
        model=model,
        system_prompt_template=template,
        identity=identity.of(settings, engine, envelope, template, served),
        calibration=fitted,
        served=served,
    )


def _calibration(file: str | None, engine: str) -> calibration.Calibration | None:
    """Return what confidence is worth. Raises SettingsError for another engine's, which says nothing here."""
    if file is None:
        return None
    found = calibration.read(file)
    if found.engine != engine:
        raise SettingsError(
            f"engine.calibration={file}: was fitted on answers of engine={found.engine}, not of {engine};"
            " fit one on answers of this engine"
        )
    return found


def check_questions(settings: RunSettings, decided: Decided, inputs: Inputs) -> list[str]:
    """Return the document patterns that match no input. Raises SettingsError when no question has any."""
    if inputs.plan_id is not None:  # the plan was checked; a shard need not have every question's document
        return []
    unmatched = decided.selection.unmatched(inputs.sources)
    patterns = list(dict.fromkeys(question.document for question in unmatched))
    if not patterns:
        return []
    named = ", ".join(patterns[:_MOST_NAMED]) + (", …" if len(patterns) > _MOST_NAMED else "")
    told = (
        f"{len(unmatched)} of {decided.questions} questions name documents that are not in {settings.input}"
    )
    if len(unmatched) == decided.questions:
        raise SettingsError(
            f"task.questions={settings.task.questions}: {told}: {named}; `document` is a path or glob"
            f" relative to input, such as {inputs.sources[0] if inputs.sources else 'a.pdf'}"
        )
    log.warning("%s: %s", told, named)
    return patterns


def check_plan(settings: RunSettings, inputs: Inputs, known_as: identity.Identity) -> None:
    """Refuse to work on a plan that was made for other answers."""
    if inputs.plan_settings_hash not in (None, known_as.settings_hash):
        raise SettingsError(
            f"output={settings.output}: plan.parquet was made with other settings of model, task or"
            f" engine (here: {settings.model.name}, {settings.task.name}); repeat those or plan again"
        )
