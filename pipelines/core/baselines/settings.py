"""Every number a baseline can be tuned by; the evaluation fills them from its configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipelines.core.config import Config, Positive, Section, Strength

Amount = Annotated[float, Field(ge=0.0, le=1e6)]


class BaselineSettings(Section):
    """What the baselines are fitted with."""

    n_factors: Positive = Field(128, description="length of a factor, for every baseline that has factors")
    n_threads: Positive = Field(1, description="threads of the libraries' own loops")
    own_text_items: Amount = Field(
        1.0, description="a user's own words count as this many liked items (bm25, content, als_text)"
    )
    query_items: Amount = Field(3.0, description="a query counts as this many liked items")
    history_power: Annotated[float, Field(ge=0, le=2)] = Field(
        0.5, description="a profile of n liked items is their sum over (1 + n) to this power"
    )
    bm25_k1: Strength = Field(1.2, description="bm25: how fast a repeated word stops counting")
    bm25_b: Annotated[float, Field(ge=0, le=1)] = Field(
        0.75, description="bm25: how much a long text is held against its words"
    )
    bm25_terms: Positive = Field(
        200, description="bm25: terms kept of a history, the heaviest, as Rocchio's expansion does"
    )
    iterations: Positive = Field(15, description="als, als_text: passes over users and items")
    als_alpha: Strength = Field(10.0, description="als, als_text: confidence = 1 + alpha * |weight|")
    als_regularization: Strength = Field(30.0, description="als, als_text: regularization of both sides")
    als_text_ridge: Strength = Field(
        3.0, description="als_text: regularization of the maps from text to factors"
    )
    irspack_alpha0: Strength = Field(0.1, description="irspack: weight of a pair that was not observed")
    irspack_reg: Strength = Field(
        0.007, description="irspack: regularization, scaled by evidence to the power nu"
    )
    irspack_nu: Annotated[float, Field(ge=0, le=2)] = Field(
        1.0, description="irspack: power of the evidence in the regularization"
    )
    irspack_epochs: Positive = Field(16, description="irspack: passes over users and items")
    irspack_item_ridge: Strength = Field(1.0, description="irspack: regularization of the item features' map")
    irspack_user_ridge: Strength = Field(30.0, description="irspack: the same for user features")
    cmfrec_lambda: Strength = Field(20.0, description="cmfrec: regularization of every matrix")
    cmfrec_alpha: Strength = Field(10.0, description="cmfrec: confidence = 1 + alpha * weight")
    cmfrec_w_item: Strength = Field(30.0, description="cmfrec: weight of the item texts in the objective")
    cmfrec_w_user: Strength = Field(3.0, description="cmfrec: weight of the users' text profiles")
    cmfrec_iterations: Positive = Field(10, description="cmfrec: passes over all matrices")


def baseline_settings(config: Config) -> BaselineSettings:
    """What the evaluation fits baselines with: what they share with the model is the model's unless set."""
    return BaselineSettings.model_validate(
        {
            "n_factors": config.factorize.n_factors,
            "own_text_items": config.blend.own_text_items,
            "query_items": config.blend.query_items,
            "history_power": config.blend.history_power,
        }
        | config.evaluate.baseline_settings
    )
