"""Settings of rebuilds: how much of a new version is made anew."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipelines.core.sections.base import Positive, Section


class RebuildConfig(Section):
    """How a new version is made from the one in service."""

    iterations: Positive = Field(
        2,
        description="passes over users and items of a fit that starts from the version in service; "
        "factorize.iterations is for one that starts from nothing",
    )
    full_every_days: Annotated[int, Field(ge=0, le=3650)] = Field(
        7,
        description="a version that started from nothing is at most so old; 1: every one does; 0: none has to",
    )
