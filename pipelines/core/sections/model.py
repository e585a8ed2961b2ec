"""Settings of the model: the fit, and how its parts add up."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipelines.core.sections.base import Positive, Power, Section, Seed, Strength


class FactorizeConfig(Section):
    """Implicit ALS whose factors start from what the text predicts."""

    n_factors: Positive = Field(128, description="length of a factor")
    user_regularization: Strength = Field(5.0, description="pull of a user's factor to its text's prediction")
    item_regularization: Strength = Field(
        60.0, description="pull of an item's factor to its text's prediction"
    )
    alpha: Strength = Field(15.0, description="confidence = 1 + alpha * weight")
    text_weight: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="share of the text's prediction used; 0 is plain implicit ALS"
    )
    user_frequency_power: Power = Field(
        0.5, description="a user of n interactions has user_regularization * (1 + n) to this power"
    )
    item_frequency_power: Power = Field(0.25, description="the same for items")
    user_text_fade: Annotated[float, Field(ge=0, le=1e6)] = Field(
        100.0,
        description="interactions after which half a user's text prediction is left; 0: all of it, always",
    )
    item_text_fade: Annotated[float, Field(ge=0, le=1e6)] = Field(10.0, description="the same for items")
    user_ridge: Strength = Field(5.0, description="regularization of the map from a user's text to factors")
    item_ridge: Strength = Field(
        0.3, description="the same for items; raise it when there are few interactions per item"
    )
    cold_ridge: Annotated[float, Field(ge=0, le=1e6)] = Field(
        1.0, description="of the map that places items without interactions, fitted last; 0: item_ridge"
    )
    evidence_power: Power = Field(
        0.5, description="in the items' maps an item of n interactions weighs n to this power"
    )
    exposure_power: Power = Field(
        1.0,
        description="an item's pairs that were not observed weigh the share of the interactions since its "
        "created_at to this power; 0: 1, however young it is",
    )
    iterations: Positive = Field(8, description="passes over users and items")
    solver: Literal["cholesky", "cg"] = Field(
        "cholesky", description="cholesky is exact; cg takes cg_steps steps, in less than half the time"
    )
    cg_steps: Positive = Field(3, description="conjugate gradient steps per row and pass")
    shards: Annotated[int, Field(ge=0)] = Field(0, description="row shards of each side; 0: one per CPU")
    seed: Seed = Field(0, description="of the initial item factors, drawn per item id")


class BlendConfig(Section):
    """How text and behaviour add up in a score: (x_u . y_i + gamma_i * P_u . P_i) * scale_i."""

    gamma: Annotated[float, Field(ge=0, le=1e6)] = Field(
        0.1, description="weight of the text-text term; tune it"
    )
    text_fade: Power = Field(
        0.2, description="gamma of an item of n interactions is gamma / (1 + n) to this power"
    )
    cold_scale: Annotated[float, Field(ge=0.01, le=100)] = Field(
        1.0,
        description="factor on the score of an item without interactions, so that cold and warm items can be compared",
    )
    history_power: Annotated[float, Field(ge=0, le=2)] = Field(
        0.3, description="a profile of n liked items is their sum over (1 + n) to this power; 1 is the mean"
    )
    own_text_items: Annotated[float, Field(ge=0)] = Field(
        3.0, description="a user's own words count as this many liked items"
    )
    unwanted_items: Annotated[float, Field(ge=0, le=1)] = Field(
        0.25, description="an unwanted item takes this much of what a liked one adds out of a profile"
    )
    query_items: Annotated[float, Field(ge=0)] = Field(
        6.0,
        description="a query counts as this many liked items: 1 is a hint of taste, 6 a wish for what is named",
    )
