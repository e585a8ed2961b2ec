"""Settings of what is measured and searched."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from pipelines.core.sections.base import Positive, Section, Seed, distinct

BaselineName = Literal["popularity", "bm25", "content", "als", "als_text", "irspack", "cmfrec"]


class EvaluateConfig(Section):
    """What is measured."""

    ks: tuple[Positive, ...] = Field((5, 10, 20, 50), min_length=1, description="list lengths of the metrics")
    baselines: tuple[BaselineName, ...] = Field(
        ("popularity", "bm25", "content", "als", "als_text"),
        description="measured beside the model on the same slices; irspack and cmfrec need kindling[bench]",
    )
    bootstrap: Annotated[int, Field(ge=0)] = Field(
        1000, description="resamples of users behind each 95 % interval; 0: none"
    )
    seed: Seed = Field(0, description="of the bootstrap")
    baseline_settings: dict[str, float] = Field(
        default_factory=dict,
        description="of the baselines, e.g. {als_alpha = 40.0, als_regularization = 100.0}; tune them too, or the "
        "comparison flatters the model",
    )
    max_users: Positive = Field(
        100_000, description="users measured per slice; a larger slice is sampled by user id"
    )
    users_per_task: Positive = Field(2048, description="users ranked in one task")

    @property
    def k(self) -> int:
        """The length that is shown first, and of coverage, novelty and the like: the one of `ks` nearest to 20."""
        return min(self.ks, key=lambda k: (abs(k - 20), k))

    @field_validator("ks", "baselines")
    @classmethod
    def _are_distinct(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        return distinct(values)

    @field_validator("baseline_settings")
    @classmethod
    def _are_of_baselines(cls, values: dict[str, float]) -> dict[str, float]:
        if values:
            from pipelines.core.baselines.settings import BaselineSettings  # noqa: PLC0415 - it is a Section itself

            for name in values:
                if name not in BaselineSettings.model_fields:
                    known = ", ".join(BaselineSettings.model_fields)
                    raise ValueError(f"{name} is no setting of a baseline; expected some of {known}")
            BaselineSettings.model_validate(values)
        return values


class TuneConfig(Section):
    """What `kindling tune` tries, and what counts as better; says nothing about a build. See docs/decisions/0008."""

    trials: Positive = Field(
        40,
        description="settings tried in all, the present ones first; raise it to go on with a finished study",
    )
    objective: dict[str, Annotated[float, Field(gt=0, le=1000)]] = Field(
        default_factory=lambda: {"cold": 1.0, "warm": 1.0, "all": 1.0},
        min_length=1,
        description="validation slice = weight; of cold, warm, all, text_only, query_only, revealed_1, revealed_3, "
        "revealed_5, revealed_10, the last six of which need a second fit per trial; --stage finetune maximises the "
        "figure of its own objective",
    )
    metrics: tuple[str, ...] = Field(
        ("recall@20", "ndcg@20"),
        min_length=1,
        description="averaged, as logarithms, in each slice; not of --stage finetune",
    )
    search: dict[str, Any] = Field(
        default_factory=dict,
        description='setting = [low, high] (logarithmic), [low, high, "linear"] or {choices = [...]}, '
        'e.g. {"factorize.alpha" = [1.0, 60.0]}; empty: the space of docs/decisions/0008',
    )
    passes: Positive = Field(
        12,
        description="of one trial at most; each is measured and the best becomes factorize.iterations. A fine-tuning's "
        "are its validations",
    )
    grace: Positive = Field(3, description="passes before a trial may be stopped for being worse than others")
    patience: Positive = Field(
        4,
        description="passes without anything better after which a trial ends; a fine-tuning has finetune.patience",
    )
    max_users: Positive = Field(
        4000, description="users measured per slice; a larger slice is sampled by user id"
    )
    max_concurrent: Annotated[int, Field(ge=0)] = Field(0, description="trials at once; 0: one per CPU")
    timeout_minutes: Annotated[float, Field(ge=0)] = Field(
        0.0, description="after this no trial goes on; a later run takes the study up again; 0: no limit"
    )
    seed: Seed = Field(0, description="of what is suggested")

    @field_validator("search", mode="before")
    @classmethod
    def _can_be_searched(cls, search: object) -> object:
        if not isinstance(search, dict) or not search:
            return search
        from pipelines.core.search_space import flatten, parse_axis  # noqa: PLC0415 - it is made of these sections

        flat = flatten(search)
        for name, axis in flat.items():
            parse_axis(name, axis)
        return flat

    @field_validator("objective")
    @classmethod
    def _are_slices(cls, weights: dict[str, float]) -> dict[str, float]:
        from pipelines.core.slices import SLICES  # noqa: PLC0415 - it reads what this configures

        for name in weights:
            if name not in SLICES:
                raise ValueError(f"{name} is no slice; expected some of {', '.join(SLICES)}")
        return weights

    @field_validator("metrics")
    @classmethod
    def _are_metrics(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        from pipelines.core.metrics import RANK_METRICS  # noqa: PLC0415

        for name in names:
            kind, _, k = name.partition("@")
            if kind not in RANK_METRICS or not k.isascii() or not k.isdigit() or int(k) < 1:
                raise ValueError(
                    f"{name} is no metric; expected one of {', '.join(RANK_METRICS)}, then @ and a length"
                )
        return names
