"""Whose rules a score follows: those of mistral-evals, of the official evaluations, or our own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pipeline.errors import SettingsError
from pipeline.evaluating.metrics import anls, chartqa, exact, relaxed, vqa
from pipeline.viewing import gold

Metric = Callable[[str, Sequence[str]], float]
Name = tuple[str, str]
"""Profile and metric: scores of different profiles are never compared."""

OWN = "docbatch"


def contained(prediction: str, golds: Sequence[str]) -> float:
    """Return 1 where an answer says what a gold answer does, whatever it says besides; else 0."""
    return float(any(gold.holds(prediction, each) for each in golds))


def _anls(rule: anls.Rule) -> Metric:
    return lambda prediction, golds: anls.anls(prediction, golds, rule)


PROFILES: Mapping[str, Mapping[str, Metric]] = {
    "official": {
        "anls": _anls(anls.OFFICIAL),
        "anls_paper": _anls(anls.PAPER),
        "chartqa": chartqa.chartqa,
        "vqa_accuracy": vqa.vqa_accuracy,
    },
    "mistral_evals": {
        "anls": _anls(anls.MISTRAL_EVALS),
        "vqa_match": vqa.vqa_match,
        "relaxed": relaxed.relaxed,
        "relaxed_explicit": relaxed.relaxed_explicit,
        "relaxed_anywhere": relaxed.relaxed_anywhere,
    },
    OWN: {"contained": contained, "exact_match": exact.exact_match, "token_f1": exact.token_f1},
}


def chosen(profile: str) -> dict[Name, Metric]:
    """Return the metrics of a profile, and after them our own. Raises SettingsError for another name."""
    if profile == OWN or profile not in PROFILES:
        known = ", ".join(name for name in PROFILES if name != OWN)
        raise SettingsError(f"profile={profile}: must be one of {known}")
    return {(name, metric): PROFILES[name][metric] for name in (profile, OWN) for metric in PROFILES[name]}


def named(metric: str, profile: str) -> Name:
    """Return the metric of that name in a profile, or else of our own. Raises SettingsError without one."""
    metrics = chosen(profile)
    for name in metrics:
        if name[1] == metric:
            return name
    raise SettingsError(f"metric={metric}: must be one of {', '.join(name for _, name in metrics)}")
