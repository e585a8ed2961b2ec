"""Settings of the release gate."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipelines.core.sections.base import Positive, Section, Seed, Share


class ReleaseConfig(Section):
    """When a rebuild takes the place of the version in service; says nothing about a build. See docs/decisions/0027."""

    margin: Share = Field(
        0.01,
        description="share of the figure of the version in service by which the new one may be worse; refused is what "
        "is surely worse than that",
    )
    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = Field(
        0.99, description="of the intervals that say so"
    )
    min_users: Annotated[int, Field(ge=2)] = Field(
        50, description="of a slice with fewer users nothing is told, and nothing refused"
    )
    max_users: Positive = Field(2000, description="users asked per slice; more are drawn from by user id")
    cold_coverage: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.9,
        description="share of the cold items that the version in service lists which the new one must reach",
    )
    calibration: Annotated[float, Field(ge=0.0, le=100.0)] = Field(
        0.25,
        description="by how much the calibration gap of cold and known items may grow, see docs/metrics.md; refused is "
        "what surely grows by more",
    )
    resamples: Annotated[int, Field(ge=200)] = Field(
        2000, description="of users, behind each interval of a difference"
    )
    seed: Seed = Field(0, description="of the users drawn and of the resamples")
