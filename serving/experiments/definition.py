"""What an experiment is: variants, of which the first is the control, and the metrics by which they are compared."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from pipelines.core.config import Section
from pipelines.core.experiments.assignment import N_SLOTS, Slots, owner_of, reallocate, slot_of
from pipelines.core.sections.base import distinct

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Version = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,99}$")]
"""A folder below bundles/, and no way out of it."""
Traffic = Annotated[float, Field(ge=1 / N_SLOTS, le=1)]
"""Less than a slot is nobody."""


class VariantSettings(Section):
    """What a variant answers by in place of what the service has; what is absent stays as it is."""

    diversity: float | None = Field(None, ge=0, le=1, description="in place of serve.diversity")
    gamma: float | None = Field(None, ge=0, le=1e6, description="in place of the version's blend.gamma")
    version: Version | None = Field(None, description="a published version that is kept, in place of CURRENT")


class Variant(Section):
    """One way to answer."""

    name: Name
    share: float = Field(1.0, ge=1e-3, le=1000, description="of the experiment's users, beside the others'")
    settings: VariantSettings = VariantSettings()


class Metric(Section):
    """A number of each user, of what they do in a fixed time after they first saw the experiment."""

    name: Name
    measure: Literal["events", "users", "weight", "ratio"] = Field(
        "events",
        description="events: how many a user has; users: share with one or more; weight: sum of their weights; "
        "ratio: events over events of the kind `per`, of all users together",
    )
    event: str | None = Field(None, max_length=64, description="the kind that counts; absent: every kind")
    per: str | None = Field(None, max_length=64, description="of a ratio: the kind below the line")
    within_hours: float = Field(
        24.0, gt=0, le=2160, description="after the first exposure; who has not had it yet is not counted"
    )

    @model_validator(mode="after")
    def _check_per(self) -> Metric:
        if (self.per is not None) != (self.measure == "ratio"):
            raise ValueError("`per` belongs to measure = 'ratio', which wants one")
        return self


class Definition(Section):
    """An experiment, as it is begun."""

    name: Name = Field(description="used once: results stay under it")
    variants: tuple[Variant, ...] = Field(
        min_length=2, max_length=10, description="the first is the control and has no settings"
    )
    metrics: tuple[Metric, ...] = Field(
        min_length=1, max_length=20, description="the first decides, the others inform"
    )
    traffic: Traffic = Field(1.0, description="share of all users; may be changed while it runs")
    planned_users: int = Field(
        10_000,
        ge=200,
        le=10**9,
        description="at which always-valid intervals are narrowest; `plan` says how many",
    )

    @model_validator(mode="after")
    def _check(self) -> Definition:
        distinct(tuple(variant.name for variant in self.variants))
        distinct(tuple(metric.name for metric in self.metrics))
        for variant in self.variants:
            if not sum(end - first for first, end in self.slots.get(variant.name, ())):
                raise ValueError(
                    f"variant '{variant.name}' has a share of {variant.share:g}, of which no user is left beside the "
                    f"others: expected at least one of {N_SLOTS:,}. Give it more"
                )
        control = self.variants[0]
        if control.settings != VariantSettings():
            raise ValueError(
                f"the control '{control.name}', the first variant, has settings; it is the service as it is. "
                "Give it none, or put a variant without settings first"
            )
        return self

    @property
    def slots(self) -> dict[str, Slots]:
        """What each variant holds of the experiment's slots; not every last one, where shares are no round numbers."""
        return _share_out(tuple((variant.name, variant.share) for variant in self.variants))

    def variant_of(self, salt: str, user_id: str) -> Variant | None:
        """Which of them a user of the experiment sees, always the same; None: the rounding of shares left none."""
        name = owner_of(self.slots, slot_of(salt, user_id))
        return next((variant for variant in self.variants if variant.name == name), None)


@lru_cache(maxsize=256)
def _share_out(shares: tuple[tuple[str, float], ...]) -> dict[str, Slots]:
    """Asked at every request, and always the same."""
    total = sum(share for _, share in shares)
    return reallocate({}, {name: share / total for name, share in shares})
