"""Settings of what comes in: tables, privacy, what is held out."""

from __future__ import annotations

from typing import Annotated, Literal

import phonenumbers
from pydantic import Field, field_validator, model_validator

from pipelines.core.sections.base import Positive, Section, Seed, Share, Weight


class DataConfig(Section):
    """What the tables mean."""

    items: str = Field("items", description="name of the items table in --data, without its ending")
    users: str = Field("users", description="name of the users table; the table itself is optional")
    interactions: str = Field("interactions", description="name of the interactions table")
    relations: str = Field("relations", description="name of the relations table, which is optional too")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description='our name = your column, e.g. {item_id = "asin", weight = "stars"}; applies to every table',
    )
    item_text: tuple[str, ...] = Field(
        ("title", "brand", "categories", "description"),
        description="item columns that make its text, in this order; absent ones are passed over",
    )
    user_text: tuple[str, ...] = Field(("description",), description="user columns that make their text")
    vectors: dict[str, Weight] = Field(
        default_factory=dict,
        description="item columns of precomputed numbers = their weight beside the text's 1, e.g. {image = 0.5}; "
        "an item without one has zeros",
    )
    max_text_chars: Positive = Field(
        20_000, description="longer texts are cut here, and counted in the report"
    )
    event_weights: dict[str, float] = Field(
        default_factory=lambda: {
            "view": 1.0,
            "click": 1.0,
            "cart": 2.0,
            "like": 2.0,
            "purchase": 3.0,
            "dislike": -1.0,
        },
        description="multiplies a row's weight by its event; below zero means the user does not want the item",
    )
    like_threshold: float | None = Field(
        None,
        description="for explicit ratings: rows with weight >= this become likes of weight 1, the rest are "
        "left out and counted; unset: weights are taken as they are",
    )
    max_reject_share: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.05, description="the build stops when a larger share of a table's rows is rejected"
    )
    service_events: bool = Field(
        True,
        description="take events from the service's store into a build; false: the tables have them already, all that "
        "the store has when the build begins",
    )
    text_only: bool = Field(
        False, description="true: build without behaviour when there are no interactions, from text alone"
    )
    csv_delimiter: str = Field(",", description="between the columns of .csv files; .tsv always uses a tab")

    @model_validator(mode="after")
    def _vectors_are_no_text(self) -> DataConfig:
        taken = {"item_id", "text", "is_hidden", *self.item_text}.intersection(self.vectors)
        if taken:
            raise ValueError(f"data.vectors names {min(taken)}, which is no column of numbers; leave it out")
        return self

    @field_validator("csv_delimiter")
    @classmethod
    def _one_mark(cls, mark: str) -> str:
        if (
            len(mark) != 1
            or not mark.isascii()
            or mark.isalnum()
            or mark in '"\n\r'
            or (mark < " " and mark != "\t")
        ):
            raise ValueError("expected one character such as , ; | or a tab")
        return mark


class PrivacyConfig(Section):
    """What is taken out of user text before anything else sees it."""

    scrub_user_text: bool = Field(
        True, description="replace e-mail addresses, phone, card and ID numbers in user text by placeholders"
    )
    phone_regions: tuple[str, ...] = Field(
        ("US", "GB", "CN"), description="countries whose national phone formats are recognised"
    )

    @field_validator("phone_regions")
    @classmethod
    def _known_regions(cls, regions: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [r for r in regions if r not in phonenumbers.SUPPORTED_REGIONS]
        if unknown:
            raise ValueError(
                f"{', '.join(unknown)}: no such country; expected ISO 3166 codes such as US or CN"
            )
        return regions


class SplitConfig(Section):
    """How interactions are held out for the figures."""

    kind: Literal["random", "time"] = Field(
        "random",
        description="random: by item for the cold slice and by pair for the warm; "
        "time: everything after a moment is held out, needs timestamps",
    )
    cold_items: Share = Field(
        0.2, description="random: share of items never shown to training, half for validation"
    )
    validation: Share = Field(0.1, description="share of (warm) interactions held out for choosing settings")
    test: Share = Field(0.1, description="share of (warm) interactions held out for the final figures")
    newcomers: Share = Field(
        0.2,
        description="random: share of users hidden whole from one more model, to measure strangers and few clicks, "
        "half for validation; 0: not measured. time: those who come after the cut",
    )
    seed: Seed = Field(42, description="of the random split")

    @property
    def hides_users(self) -> bool:
        """Whether a model of its own is fitted that some users are hidden from."""
        return self.kind == "random" and self.newcomers > 0

    @model_validator(mode="after")
    def _leaves_something(self) -> SplitConfig:
        if self.validation + self.test >= 1.0:
            raise ValueError(
                f"split.validation {self.validation} + split.test {self.test} leaves nothing to train on; "
                "their sum must be below 1"
            )
        return self
