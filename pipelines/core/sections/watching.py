"""Settings of what watches over rebuilds: how far a build may drift from the one before, and who is told."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator

from pipelines.core.sections.base import Positive, Section

Bound = Annotated[float, Field(ge=0.0, le=1e6)]


class DriftConfig(Section):
    """How far a rebuild may lie from the version in service before it is held back; 0: measured, not bounded."""

    items_gone: Bound = Field(0.2, description="share of the former items that are no longer there")
    items_new: Bound = Field(0.5, description="share of the items that were not there before")
    items_hidden: Bound = Field(0.2, description="by how much the share of hidden items may rise")
    users_gone: Bound = Field(0.3, description="share of the former users who are no longer there")
    users_new: Bound = Field(0.5, description="share of the users who were not there before")
    texts_empty: Bound = Field(0.1, description="by how much the share of items without a text may rise")
    text_length: Bound = Field(
        0.25, description="population stability index of the texts' lengths; 0.1 is little, 0.25 is much"
    )
    texts_changed: Bound = Field(0.5, description="share of the items in both builds whose text is another")
    text_mean: Bound = Field(
        0.1, description="1 - cosine of the mean embeddings of all texts; where the encoder is the same"
    )
    text_vectors: Bound = Field(
        0.2, description="mean of 1 - cosine of the texts' vectors of one item; where the encoder is the same"
    )
    han: Bound = Field(
        0.2, description="by how much the share of items with Chinese characters may rise or fall"
    )
    rejected: Bound = Field(0.05, description="by how much the share of rejected rows may rise")
    interactions_lost: Bound = Field(
        0.3, description="by how large a share the interactions may become fewer"
    )
    interactions_gained: Bound = Field(
        1.0, description="by how large a share the interactions may become more; 1: twice as many"
    )
    pairs_per_user: Bound = Field(
        1.0,
        description="population stability index of how many items a user has touched; 0.6 where each of 200 users with "
        "15 items in the mean touched two more",
    )
    histories_lost: Bound = Field(
        0.5, description="share of what users did before that is not among what they did now"
    )
    popularity: Bound = Field(
        0.1, description="Jensen-Shannon divergence (bits, 0 to 1) of how interactions fall on items"
    )
    top_item: Bound = Field(
        0.05, description="by how much the share, by weight, of the most touched item may rise"
    )
    top_items: Bound = Field(
        0.15, description="by how much the share of the most touched 1 % of items may rise"
    )
    top_user: Bound = Field(0.05, description="by how much the share of the busiest user may rise")
    scores: Bound = Field(
        0.2, description="Kolmogorov-Smirnov distance (0 to 1) of the scores of the same users and items"
    )
    lists_changed: Bound = Field(
        0.8, description="share of the places in users' lists that other items take than before"
    )
    coverage_lost: Bound = Field(
        0.5, description="by how large a share fewer items may stand in anybody's list"
    )
    exposure: Bound = Field(
        0.15, description="by how much the Gini index of how list places fall on items may rise"
    )
    sample_items: Positive = Field(
        20_000,
        description="items whose texts, vectors and scores are looked at; the same ones in both builds",
    )
    sample_users: Positive = Field(1000, description="users whose scores and lists are looked at")


class AlertsConfig(Section):
    """Who is told when a rebuild fails or is held back, or the model has become old."""

    webhook: str = Field(
        "",
        description="address that alerts are posted to; it lies readable in every version: an address that is itself a "
        "secret (Slack, Teams) belongs in the environment, KINDLING_ALERT_WEBHOOK; empty: that, or nobody is told",
    )
    name: str = Field("", description="what alerts call this shop; empty: the name of the folder OUT")
    stale_hours: Annotated[float, Field(ge=0, lt=1e6)] = Field(
        48.0, description="age of the version in service at which it counts as old; 0: it never does"
    )
    timeout_seconds: Annotated[float, Field(gt=0, le=300)] = Field(
        10.0, description="to connect, and to wait for an answer"
    )
    retries: Annotated[int, Field(ge=0, le=10)] = Field(
        3, description="further tries after no answer, 429 or an error of the server (5xx)"
    )
    backoff_seconds: Annotated[float, Field(ge=0, le=60)] = Field(
        1.0, description="before the second further try; twice as long before each one after it"
    )

    @field_validator("webhook")
    @classmethod
    def _check_webhook(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#@]*)?", value):
            raise ValueError(
                "expected http://host/path or https://..., without a user or a query; an address with a secret in it "
                "goes into KINDLING_ALERT_WEBHOOK"
            )
        return value
