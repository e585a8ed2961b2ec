"""What all sections share."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(ge=1)]
Strength = Annotated[float, Field(ge=1e-6, le=1e6)]
"""Beyond these single precision gives out."""
Weight = Annotated[float, Field(ge=0.0, le=100.0)]
Power = Annotated[float, Field(ge=0.0, le=2.0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
T = TypeVar("T")


class Section(BaseModel):
    """Base of all sections: immutable, finite, and an unknown key is an error rather than a surprise."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    """The values as they are.

    Raises:
        ValueError: one is there twice.

    """
    twice = [v for i, v in enumerate(values) if v in values[:i]]
    if twice:
        raise ValueError(f"{twice[0]} is named twice; name it once")
    return values
