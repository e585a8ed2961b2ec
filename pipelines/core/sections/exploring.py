"""Settings of exploration: what a list may try, what that may cost, and what is written down of it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipelines.core.sections.base import Positive, Section, Seed, Weight

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class ExploreConfig(Section):
    """Exploration: lists that also try what is not known yet, and the log that they are judged by."""

    policy: Literal["none", "epsilon", "thompson", "ucb"] = Field(
        "none",
        description="none: the best items; epsilon: some places at random; thompson: the best by a draw of what is not "
        "known; ucb: the best by what they might be, the same each time",
    )
    epsilon: Fraction = Field(0.1, description="of epsilon: share of the places that are drawn at random")
    noise: Weight = Field(
        0.2,
        description="of thompson and ucb: standard deviation of what a user does around what their factor says; "
        "larger explores more",
    )
    item_noise: Weight = Field(
        1.0,
        description="of thompson and ucb: how many times as far from what its text predicts an unknown item may lie as "
        "behaviour has moved known ones",
    )
    half_known: Positive = Field(
        20, description="interactions or times shown after which half of that variance of an item is left"
    )
    ucb_width: Weight = Field(1.0, description="of ucb: standard deviations that are added to a score")
    draws: Annotated[int, Field(ge=2, le=4096)] = Field(
        128,
        description="of thompson: lists that are drawn, one of which is shown; propensities are shares of them",
    )
    candidates: Positive = Field(100, description="best items beside those of the list that may be tried")
    cold_share: Fraction = Field(
        0.0, description="share of a list's places that go to items shown less often than cold_impressions"
    )
    cold_impressions: Positive = Field(
        100, description="times that an item without interactions is shown before it has to earn its place"
    )
    cold_candidates: Positive = Field(
        20, description="such items, the best for the user, that are drawn from"
    )
    protected: Annotated[int, Field(ge=0)] = Field(1, description="first places that are never explored")
    margin: Fraction = Field(
        0.5,
        description="an item that is tried may score less than the best by this share of the best score, at most",
    )
    max_loss: Fraction = Field(
        0.2, description="share of its scores' sum, discounted by place, that a list may lose to exploration"
    )
    seed: Seed = Field(0, description="of all draws, with the id of the request")
    passed_weight: Weight = Field(
        0.0,
        description="what a look adds to the confidence that a user does not want an item which they were shown and "
        "passed over; wants log. 0: lists say nothing of a user",
    )
    log: bool = Field(False, description="write down every list that is answered, in the store")
    keep_days: Annotated[float, Field(gt=0, le=36500)] = Field(
        90.0, description="after which lists are deleted from the log"
    )

    @model_validator(mode="after")
    def _explores(self) -> Self:
        if self.cold_share > 0 and self.policy == "none":
            raise ValueError(
                f"cold_share is {self.cold_share}, but policy = 'none' tries nothing; set cold_share to 0, or policy "
                "to 'epsilon' (with epsilon = 0 it tries cold items alone), 'thompson' or 'ucb'"
            )
        if self.cold_share > 0 and not self.log:
            raise ValueError(
                f"cold_share is {self.cold_share}, but without the log nobody knows how often an item was shown; "
                "set log to true, or cold_share to 0"
            )
        if self.passed_weight > 0 and not self.log:
            raise ValueError(
                f"passed_weight is {self.passed_weight}, but without the log nobody knows what was shown; set log to "
                "true, or passed_weight to 0"
            )
        return self
