"""Business rules: what a shop wants of every list, whatever the model says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Discriminator, Field, StringConstraints, Tag, field_validator, model_validator

from pipelines.core.sections.base import Positive, Section

Text = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]+$")]
Amount = Annotated[float, Field(gt=0, le=100)]
"""In standard deviations of a user's scores."""
PIN, FRESHNESS = "pin", "freshness"
"""Names of parts of an explanation that no boost may take."""


class Bounds(Section):
    """min <= value <= max; dates as seconds since 1970, UTC."""

    min: float | None = Field(None, description="smallest value")
    max: float | None = Field(None, description="largest value")

    @model_validator(mode="after")
    def _says_something(self) -> Bounds:
        if self.min is None and self.max is None:
            raise ValueError("expected min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}: no item meets that")
        return self


Value = str | int | float | bool


def _form(condition: object) -> str:
    """Of the three that a condition may have; told before it is read, so that an error is about one of them."""
    if isinstance(condition, dict | Bounds):
        return "bounds"
    return "list" if isinstance(condition, list | tuple) else "value"


Condition = Annotated[
    Annotated[Value, Tag("value")]
    | Annotated[tuple[Value, ...], Tag("list")]
    | Annotated[Bounds, Tag("bounds")],
    Discriminator(_form),
]
When = Annotated[dict[Text, Condition], Field(min_length=1)]
"""Column to condition, as `filter` of a request has them."""


class Boost(Section):
    """Raises (boost) or lowers (bury) the score of the items that meet every condition."""

    name: Name = Field(description='its part of an explanation is "rule: NAME"')
    when: When = Field(description='column: value, list of values, or {min, max}, e.g. {brand = "Acme"}')
    amount: Amount = Field(description="in standard deviations of the user's scores over the items")


class Pin(Section):
    """An item at a place of its own."""

    item_id: Text = Field(description="the item; it stays away where it may not be shown")
    place: Annotated[int, Field(ge=1, le=10_000)] = Field(description="from 1")


class Cap(Section):
    """At most so many items of a list share a value."""

    column: Text = Field(description="of the items; where it holds lists, each of their values counts")
    most: Positive = Field(description="items with the same value")
    within: Annotated[int, Field(ge=0)] = Field(
        0, description="first places of the list that it holds for; 0: all"
    )


class Freshness(Section):
    """Raises new items, by less the older they are."""

    column: Text = Field("created_at", description="dates; numbers are seconds since 1970, UTC")
    half_life_days: Annotated[float, Field(ge=0.01, le=36_500)] = Field(
        30.0, description="age at which half of the amount is left"
    )
    amount: Amount = Field(0.5, description="of an item of this moment; an item without a date gets none")


class RulesConfig(Section):
    """What the shop wants of every list; no rules by default. See docs/serving.md."""

    boost: tuple[Boost, ...] = Field(
        (), description='items to raise, e.g. [{name = "own brand", when = {brand = "Acme"}, amount = 0.5}]'
    )
    bury: tuple[Boost, ...] = Field((), description="items to lower, likewise")
    freshness: Freshness | None = Field(
        None,
        description='new items to raise, e.g. {column = "created_at", half_life_days = 30, amount = 0.5}',
    )
    pin: tuple[Pin, ...] = Field(
        (), description='items at places of their own, e.g. [{item_id = "item-7", place = 1}]'
    )
    cap: tuple[Cap, ...] = Field(
        (),
        description='most items of a list with one value, e.g. [{column = "brand", most = 2, within = 20}]',
    )
    stock: str = Field(
        "", description="column that must be true or above 0 for an item to be shown; empty: none"
    )
    hide_seen: bool = Field(True, description="leave out what the user has touched")
    hide_events: tuple[str, ...] = Field(
        (),
        description="kinds of stored and given events that count as touched; empty: all. What the tables of the build "
        "say of a user has no kinds any more, and counts",
    )

    @property
    def is_set(self) -> bool:
        """Whether there is any rule."""
        return self != RulesConfig()

    @property
    def columns(self) -> frozenset[str]:
        """Of the items that rules look at."""
        named = {column for rule in (*self.boost, *self.bury) for column in rule.when}
        named |= {cap.column for cap in self.cap}
        named |= {self.freshness.column} if self.freshness is not None else set()
        return frozenset(named | ({self.stock} if self.stock else set()))

    @field_validator("boost", "bury", "pin", "cap", "hide_events", mode="before")
    @classmethod
    def _takes_lists(cls, value: object) -> object:
        if isinstance(value, dict):
            raise ValueError("expected a list: [[rules.NAME]] or NAME = [{...}]")
        return value

    @model_validator(mode="after")
    def _do_not_conflict(self) -> RulesConfig:
        _check_distinct("boost and bury", "name", [rule.name for rule in (*self.boost, *self.bury)])
        for rule in (*self.boost, *self.bury):
            if rule.name in (PIN, FRESHNESS):
                raise ValueError(f"a rule is named '{rule.name}', which explanations use; name it otherwise")
        _check_distinct("pin", "place", [pin.place for pin in self.pin])
        _check_distinct("pin", "item_id", [pin.item_id for pin in self.pin])
        _check_distinct("cap", "column and within", [(cap.column, cap.within) for cap in self.cap])
        _check_distinct("hide_events", "kind", self.hide_events)
        if self.hide_events and not self.hide_seen:
            raise ValueError("hide_events names kinds to leave out, but hide_seen is false; set one of them")
        return self


def _check_distinct(rule: str, field: str, values: Sequence[object]) -> None:
    twice = [v for i, v in enumerate(values) if v in values[:i]]
    if twice:
        raise ValueError(f"{rule}: {field} {twice[0]!r} is there twice; expected each once")
