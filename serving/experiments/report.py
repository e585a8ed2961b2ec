"""What came of an experiment, so far or in the end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, Field

from pipelines.core.experiments.assignment import share_of
from pipelines.core.experiments.comparison import (
    LEAST_SHARE_P,
    Comparison,
    Sums,
    compare,
    estimate,
    sample_ratio_p,
)
from serving.experiments.definition import Metric
from serving.store.experiments import Experiment, Experiments

ALPHA = 0.05
LEAST_USERS = 200
"""Of each variant before there is an always-valid interval: its promise is one of large numbers."""
Interval = tuple[float, float]
Verdict = Literal["better", "worse", "undecided", "mismatch"]


class VariantUsers(BaseModel):
    """How many have seen a variant."""

    variant: str
    users: int
    merged: int = Field(description="who had another id before, and may have seen another variant under it")


class Figure(BaseModel):
    """A metric of one variant."""

    variant: str
    users: int = Field(description="whose time is over")
    value: float | None = Field(None, description="absent: not two users yet, or nothing below the line")
    interval: Interval | None = None


class Difference(BaseModel):
    """A variant less the control."""

    variant: str
    difference: float
    interval: Interval = Field(description="for one look, at a time fixed beforehand")
    p_value: float
    always_interval: Interval | None = Field(
        None, description=f"whenever one looks; absent below {LEAST_USERS} users of each"
    )
    always_p: float | None = None
    lift: float | None = Field(None, description="difference over the control's value")
    lift_interval: Interval | None = Field(None, description="for one look")


class MetricReport(BaseModel):
    """One metric of all variants."""

    name: str
    figures: list[Figure]
    differences: list[Difference]


class Report(BaseModel):
    """All that is known of an experiment's outcome."""

    name: str
    control: str
    until: float = Field(description="seconds since 1970, UTC; of what was seen until then")
    confidence: float = Field(description="of each interval of a difference: 95 % for all variants together")
    users: list[VariantUsers]
    sample_ratio_p: float = Field(
        description=f"below {LEAST_SHARE_P}: numbers of users do not fit the shares, and nothing here is to be believed"
    )
    metrics: list[MetricReport] = Field(description="the first decides")
    verdicts: dict[str, Verdict] = Field(
        description="of each variant by the first metric's always-valid interval; larger is better. mismatch: by none"
    )


def make_report(experiments: Experiments, name: str, *, is_patient: bool = False) -> Report:
    """Read what users have done and compare variants.

    Args:
        experiments: of the store.
        name: of one of them.
        is_patient: wait for the store however long it takes.

    Raises:
        InputError: there is no such experiment.

    """
    experiment = experiments.get(name)
    metrics = experiment.definition.metrics
    until = time.time() if experiment.stopped_at is None else experiment.stopped_at
    counts, sums = experiments.outcomes(name, metrics, until, is_patient=is_patient)
    names = [variant.name for variant in experiment.definition.variants]
    users = [VariantUsers(variant=v, users=n, merged=m) for v in names for n, m in [counts.get(v, (0, 0))]]
    # each variant has a part of the risk, so that all of them together are wrong in one experiment of twenty
    alpha = ALPHA / (len(names) - 1)
    measured = [
        _measure(metric, names, found, alpha, experiment) for metric, found in zip(metrics, sums, strict=True)
    ]
    shares = [share_of(experiment.definition.slots[v]) for v in names]
    ratio_p = sample_ratio_p([u.users for u in users], shares)
    return Report(
        name=name,
        control=names[0],
        until=until,
        confidence=1 - alpha,
        users=users,
        sample_ratio_p=ratio_p,
        metrics=measured,
        verdicts=_verdicts(names[1:], measured[0], is_fair=ratio_p >= LEAST_SHARE_P),
    )


def _measure(
    metric: Metric, names: list[str], sums: Mapping[str, Sums], alpha: float, experiment: Experiment
) -> MetricReport:
    found = {name: estimate(sums[name]) if name in sums else None for name in names}
    figures = []
    for name in names:
        users, value = sums[name].n if name in sums else 0, found[name]
        figures.append(Figure(variant=name, users=users))
        if value is not None:
            figures[-1] = Figure(variant=name, users=users, value=value.value, interval=value.interval(ALPHA))
    control = found[names[0]]
    differences = [
        _difference(name, compare(control, other, alpha, _planned(experiment, name), LEAST_USERS))
        for name in names[1:]
        if control is not None and (other := found[name]) is not None
    ]
    return MetricReport(name=metric.name, figures=figures, differences=differences)


def _planned(experiment: Experiment, name: str) -> int:
    """Of the planned users, those of the control and one variant."""
    variants = experiment.definition.variants
    two = variants[0].share + next(v.share for v in variants if v.name == name)
    return max(1, round(experiment.definition.planned_users * two / sum(v.share for v in variants)))


def _difference(name: str, found: Comparison) -> Difference:
    return Difference(
        variant=name,
        difference=found.difference,
        interval=found.interval,
        p_value=found.p_value,
        always_interval=found.always,
        always_p=found.always_p,
        lift=found.lift,
        lift_interval=found.lift_interval,
    )


def _verdicts(names: list[str], decisive: MetricReport, *, is_fair: bool) -> dict[str, Verdict]:
    if not is_fair:
        return dict.fromkeys(names, "mismatch")
    verdicts: dict[str, Verdict] = dict.fromkeys(names, "undecided")
    for difference in decisive.differences:
        low, high = difference.always_interval or (0.0, 0.0)
        if low > 0:
            verdicts[difference.variant] = "better"
        elif high < 0:
            verdicts[difference.variant] = "worse"
    return verdicts
