"""A seeded, made-up shop in two languages, with known tastes and believable behaviour.

The text of an item tells of part of its taste and the rest is hidden, so that text helps a cold item by a
known amount, and behaviour still has something to add (see `tastes`).
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.core.catalogue.behaviour import MIN_INTERACTIONS, draw_created_at, draw_interactions
from pipelines.core.catalogue.listing import list_items, list_users
from pipelines.core.catalogue.tastes import Floats, draw_items, draw_users, tastes

MIN_ITEMS = 20
MAX_PAIR_SHARE = 0.3


class GeneratorConfig(BaseModel):
    """How large a shop to make, in what languages, and how much its text gives away."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_items: int = Field(default=2000, description=f"Number of items, at least {MIN_ITEMS}.")
    n_users: int = Field(default=3000, description="Number of users, at least 1.")
    n_interactions: int = Field(
        default=60_000,
        description=f"Number of distinct user-item pairs: at least {MIN_INTERACTIONS} for each user, and at "
        f"most {MAX_PAIR_SHARE:.0%} of all pairs.",
    )
    chinese_share: float = Field(
        default=0.3, ge=0.0, le=1.0, description="Share of items, and of users, whose text is Chinese."
    )
    text_signal: float = Field(
        default=0.85,
        ge=0.0,
        le=1.0,
        description="Share of the variance of affinity that the text could tell of; the rest is hidden.",
    )
    seed: int = Field(default=7, ge=0, description="Seed of every random draw.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.n_items < MIN_ITEMS:
            raise ValueError(
                f"n_items is {self.n_items}; expected at least {MIN_ITEMS}, so that tastes can differ. "
                "Raise n_items."
            )
        if self.n_users < 1:
            raise ValueError(f"n_users is {self.n_users}; expected at least 1. Raise n_users.")
        fewest = MIN_INTERACTIONS * self.n_users
        if self.n_interactions < fewest:
            raise ValueError(
                f"n_interactions is {self.n_interactions}; expected at least {fewest}, which is "
                f"{MIN_INTERACTIONS} for each of {self.n_users} users. Raise n_interactions or lower n_users."
            )
        most = int(MAX_PAIR_SHARE * self.n_items * self.n_users)
        if self.n_interactions > most:
            raise ValueError(
                f"n_interactions is {self.n_interactions}; expected at most {most}, which is "
                f"{MAX_PAIR_SHARE:.0%} of {self.n_users} users x {self.n_items} items. "
                "Lower n_interactions, or raise n_users or n_items."
            )
        return self


@dataclass(frozen=True)
class Catalogue:
    """A generated shop.

    `items_df`: item_id, title, description, brand, categories (a list: category, and mostly subcategory),
    price, created_at (seconds UTC). `users_df`: user_id, description, language ("en" or "zh").
    `interactions_df`: user_id, item_id, weight (1.0), timestamp (seconds UTC), event; oldest first, pairs
    distinct. `item_tastes` (n_items x t) and `user_tastes` (n_users x t) are in the order of those tables;
    their product is the affinity in logits, popularity aside, which no recommender gets to see.
    """

    items_df: pd.DataFrame
    users_df: pd.DataFrame
    interactions_df: pd.DataFrame
    item_tastes: Floats
    user_tastes: Floats


def generate(config: GeneratorConfig) -> Catalogue:
    """Make the shop that `config` describes: the same one every time."""
    # One stream for each concern: a change of wording leaves the behaviour as it was.
    trait_rng, text_rng, user_rng, behaviour_rng = np.random.default_rng(config.seed).spawn(4)
    items = draw_items(config.n_items, config.chinese_share, trait_rng)
    users = draw_users(config.n_users, config.chinese_share, trait_rng)
    item_tastes, user_tastes = tastes(items, users, config.text_signal)
    created_at = draw_created_at(config.n_items, behaviour_rng)
    items_df = list_items(items, created_at, text_rng)
    users_df = list_users(users, user_rng)
    interactions_df = draw_interactions(
        user_tastes, item_tastes, created_at, config.n_interactions, behaviour_rng
    )
    interactions_df.insert(0, "user_id", users_df["user_id"].to_numpy()[interactions_df.pop("user_idx")])
    interactions_df.insert(1, "item_id", items_df["item_id"].to_numpy()[interactions_df.pop("item_idx")])
    return Catalogue(items_df, users_df, interactions_df, item_tastes, user_tastes)


def write(catalogue: Catalogue, directory: Path) -> dict[str, Path]:
    """Write items.parquet, users.parquet and interactions.parquet; the tastes stay secret.

    Creates the directory. Each file is complete or absent, whenever the process dies. Gives the path of each
    table by its name.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tables = {
        "items": catalogue.items_df,
        "users": catalogue.users_df,
        "interactions": catalogue.interactions_df,
    }
    paths = {}
    for name, table_df in tables.items():
        path = directory / f"{name}.parquet"
        # In the same directory, because a rename is atomic only within one file system.
        part = directory / f".{name}.parquet.{os.getpid()}.part"
        try:
            table_df.to_parquet(part, index=False)
            os.replace(part, path)  # noqa: PTH105 - the promise is os.replace's
        finally:
            part.unlink(missing_ok=True)
        paths[name] = path
    return paths
