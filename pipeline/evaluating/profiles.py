"""Whose rules a score follows: those of mistral-evals, of the official evaluations, or our own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from pipeline.errors import SettingsError
from pipeline.evaluating.metrics import ai2d, anls, chartqa, exact, mathvista, mmmu, relaxed, vqa
from pipeline.records import Json
from pipeline.viewing import gold

Metric = Callable[[Sequence[str], Sequence[Sequence[str]]], Iterable[float]]
"""Scores of answers, each by its own gold answers: of many at a time, which there are."""
About = Mapping[str, Json]
"""What is known of a question besides: its options, the type of its answer."""
MetricOfItem = Callable[[str, Sequence[str], About], float]
"""Not a number for a question that it is not made for."""
Name = tuple[str, str]
"""Profile and metric: scores of different profiles are never compared."""

OWN = "docbatch"


def contained(prediction: str, golds: Sequence[str]) -> float:
    """Return 1 where an answer says what a gold answer does, whatever it says besides; else 0."""
    return float(any([gold.holds(prediction, each) for each in golds]))


def _anls(rule: anls.Rule) -> Metric:
    return lambda predictions, golds: anls.anls_of_many(predictions, golds, rule)


def _each(metric: Callable[[str, Sequence[str]], float]) -> Metric:
    return lambda predictions, golds: map(metric, predictions, golds)


PROFILES: Mapping[str, Mapping[str, Metric]] = {
    "official": {
        "anls": _anls(anls.OFFICIAL),
        "anls_paper": _anls(anls.PAPER),
        "chartqa": _each(chartqa.chartqa),
        "vqa_accuracy": _each(vqa.vqa_accuracy),
    },
    "mistral_evals": {
        "anls": _anls(anls.MISTRAL_EVALS),
        "vqa_match": _each(vqa.vqa_match),
        "relaxed": _each(relaxed.relaxed),
        "relaxed_explicit": _each(relaxed.relaxed_explicit),
        "relaxed_anywhere": _each(relaxed.relaxed_anywhere),
    },
    OWN: {
        "contained": _each(contained),
        "exact_match": exact.exact_match_of_many,
        "token_f1": exact.token_f1_of_many,
    },
}


def _options(about: About) -> dict[str, str]:
    options = about.get("options")
    return {letter: str(text) for letter, text in options.items()} if isinstance(options, dict) else {}


def _exact_choice(prediction: str, golds: Sequence[str], about: About) -> float:
    return ai2d.choice_exact(prediction, golds) if _options(about) else math.nan


def _inferred(prediction: str, golds: Sequence[str], about: About) -> float:
    options = _options(about)
    return ai2d.choice_inferred(prediction, golds, options) if options else math.nan


def _mmmu(prediction: str, golds: Sequence[str], about: About) -> float:
    if "answer_type" in about or "question_type" not in about:
        return math.nan
    if about["question_type"] != "multiple-choice":
        return mmmu.mmmu_open(prediction, golds)
    options = _options(about)
    # A reply that chooses nothing is wrong: the reference would guess, and score by luck.
    return mmmu.mmmu_choice(prediction, golds, mmmu.Choices(list(options), options))


def _mathvista(prediction: str, golds: Sequence[str], about: About) -> float:
    """Score the final answer of a reply; the reference has a language model extract it."""
    if "answer_type" not in about:
        return math.nan
    form = mathvista.form(about)
    said = mathvista.shortcut(prediction, form)
    answer = relaxed.final_answer(prediction) if said is None else said
    return mathvista.mathvista(answer, [str(about.get("answer"))], form)


OF_ITEMS: Mapping[str, Mapping[str, MetricOfItem]] = {
    "official": {
        "choice_exact": _exact_choice,
        "choice_inferred": _inferred,
        "mmmu": _mmmu,
        "mathvista": _mathvista,
    }
}
"""Metrics that have to know more of a question: of data sets alone."""


def chosen(profile: str) -> dict[Name, Metric]:
    """Return the metrics of a profile, and after them our own. Raises SettingsError for another name."""
    if profile == OWN or profile not in PROFILES:
        known = ", ".join(name for name in PROFILES if name != OWN)
        raise SettingsError(f"profile={profile}: must be one of {known}")
    return {(name, metric): PROFILES[name][metric] for name in (profile, OWN) for metric in PROFILES[name]}


def of_items(profile: str) -> dict[Name, MetricOfItem]:
    """Return the metrics of a profile that have to know more of a question."""
    return {(profile, name): metric for name, metric in OF_ITEMS.get(profile, {}).items()}


def named(metric: str, profile: str) -> Name:
    """Return the metric of that name in a profile, or else of our own. Raises SettingsError without one."""
    metrics = [*chosen(profile), *of_items(profile)]
    for name in metrics:
        if name[1] == metric:
            return name
    raise SettingsError(f"metric={metric}: must be one of {', '.join(name for _, name in metrics)}")
