"""Every knob of a build, frozen and validated; `kindling config` prints them all with their comments."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import phonenumbers
import tomlkit
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pipelines.core.errors import ConfigError

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(ge=1)]
Strength = Annotated[float, Field(ge=1e-6, le=1e6)]
"""Beyond these single precision gives out."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """Base of all sections: immutable, finite, and an unknown key is an error rather than a surprise."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(Section):
    """What the tables mean."""

    items: str = Field("items", description="name of the items table in --data, without its ending")
    users: str = Field("users", description="name of the users table; the table itself is optional")
    interactions: str = Field("interactions", description="name of the interactions table")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description='our name = your column, e.g. {item_id = "asin", weight = "stars"}; applies to every table',
    )
    item_text: tuple[str, ...] = Field(
        ("title", "brand", "categories", "description"),
        description="item columns that make its text, in this order; absent ones are passed over",
    )
    user_text: tuple[str, ...] = Field(("description",), description="user columns that make their text")
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
    text_only: bool = Field(
        False, description="true: build without behaviour when there are no interactions, from text alone"
    )
    csv_delimiter: str = Field(",", description="between the columns of .csv files; .tsv always uses a tab")

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
    seed: Seed = Field(42, description="of the random split")

    @model_validator(mode="after")
    def _leaves_something(self) -> SplitConfig:
        if self.validation + self.test >= 1.0:
            raise ValueError(
                f"split.validation {self.validation} + split.test {self.test} leaves nothing to train on; "
                "their sum must be below 1"
            )
        return self


class EncoderConfig(Section):
    """The text encoder."""

    model: str = Field(
        "all-MiniLM-L6-v2",
        description="a folder, a Hugging Face name, or all-MiniLM-L6-v2, which is packaged and never downloaded",
    )
    pooling: Literal["mean", "cls", "last"] = Field(
        "mean", description="mean, cls or last token of each text"
    )
    max_tokens: Annotated[int, Field(ge=4)] = Field(256, description="tokens beyond this are cut")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where the processor multiplies it natively, else float32"
    )
    tokens_per_batch: Positive = Field(
        8192, description="texts of like length share a batch up to this many tokens"
    )
    prefix: str = Field("", description='put before every text, for encoders that want one, e.g. "passage: "')
    trust_remote_code: bool = Field(
        False, description="run model code that comes with the weights; only for folders you trust"
    )


class EmbedConfig(Section):
    """How embedding is spread."""

    actors: Annotated[int, Field(ge=0)] = Field(
        0, description="encoder processes; 0: one per GPU, or one per CPU when there is none"
    )
    texts_per_task: Positive = Field(2048, description="texts an actor sorts by length and encodes in one go")


class FactorizeConfig(Section):
    """Implicit ALS whose factors start from what the text predicts."""

    n_factors: Positive = Field(128, description="length of a factor")
    user_regularization: Strength = Field(
        10.0, description="pull of a user's factor to its text's prediction"
    )
    item_regularization: Strength = Field(
        90.0, description="pull of an item's factor to its text's prediction"
    )
    alpha: Strength = Field(10.0, description="confidence = 1 + alpha * weight")
    text_weight: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="share of the text's prediction used; 0 is plain implicit ALS"
    )
    user_ridge: Strength = Field(1.0, description="regularization of the map from a user's text to factors")
    item_ridge: Strength = Field(
        3.0, description="the same for items; raise it when there are few interactions per item"
    )
    iterations: Positive = Field(8, description="passes over users and items")
    solver: Literal["cholesky", "cg"] = Field(
        "cholesky", description="cholesky is exact; cg takes cg_steps steps and is faster above 128 factors"
    )
    cg_steps: Positive = Field(3, description="conjugate gradient steps per row and pass")
    shards: Annotated[int, Field(ge=0)] = Field(0, description="row shards of each side; 0: one per CPU")
    seed: Seed = Field(0, description="of the initial item factors, drawn per item id")


class BlendConfig(Section):
    """How text and behaviour add up in a score: x_u . y_i + gamma * P_u . P_i."""

    gamma: Annotated[float, Field(ge=0, le=1e6)] = Field(
        0.2, description="weight of the text-text term; tune it"
    )
    history_power: Annotated[float, Field(ge=0, le=2)] = Field(
        0.5, description="a profile of n liked items is their sum over (1 + n) to this power; 1 is the mean"
    )
    own_text_items: Annotated[float, Field(ge=0)] = Field(
        1.0, description="a user's own words count as this many liked items"
    )
    query_items: Annotated[float, Field(ge=0)] = Field(
        3.0, description="a query counts as this many liked items"
    )


class EvaluateConfig(Section):
    """What is measured."""

    ks: tuple[Positive, ...] = Field((5, 10, 20, 50), min_length=1, description="list lengths of the metrics")
    baselines: tuple[Literal["popularity", "content", "als"], ...] = Field(
        ("popularity", "content", "als"), description="measured beside the model on the same slices"
    )
    bootstrap: Annotated[int, Field(ge=0)] = Field(
        1000, description="resamples of users behind each 95 % interval; 0: none"
    )
    seed: Seed = Field(0, description="of the bootstrap")
    als_regularization: Strength = Field(
        30.0, description="of the plain ALS baseline; tune it too, or the comparison flatters the model"
    )
    als_alpha: Strength = Field(10.0, description="alpha of the plain ALS baseline")
    max_users: Positive = Field(
        100_000, description="users measured per slice; a larger slice is sampled by user id"
    )
    users_per_task: Positive = Field(2048, description="users ranked in one task")


class PublishConfig(Section):
    """What is put into service."""

    refit: bool = Field(
        True, description="publish a model fitted on every row; false: the one the figures were measured on"
    )
    keep: Positive = Field(3, description="published versions kept for rollback, the newest first")


class ServeConfig(Section):
    """The HTTP service."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="port to listen on")
    replicas: Positive = Field(1, description="processes that answer; two or more survive a crash unnoticed")
    max_body_bytes: Positive = Field(1_000_000, description="largest request; beyond it the answer is 413")
    max_n: Positive = Field(500, description="longest list a request may ask for")
    max_text_chars: Positive = Field(4000, description="longest text a request may carry")
    max_events: Positive = Field(500, description="most events a request may carry")
    max_ids: Positive = Field(10_000, description="most ids in exclude_ids")
    max_ongoing_requests: Positive = Field(64, description="answered at once by one replica")
    max_queued_requests: Positive = Field(256, description="beyond this the answer is 503")
    request_timeout_s: Annotated[float, Field(gt=0)] = Field(
        5.0, description="seconds before a request is given up"
    )
    reload_seconds: Annotated[float, Field(gt=0)] = Field(
        2.0, description="how often a replica looks for a newly published version"
    )


class RayConfig(Section):
    """Where the work runs."""

    address: str = Field(
        "",
        description='of a running cluster, "auto" to find one; empty: RAY_ADDRESS if set, else this machine',
    )
    num_cpus: Annotated[int, Field(ge=0)] = Field(
        0, description="logical CPUs of a local start; 0: those of the machine, at least 4 so nothing starves"
    )
    object_store_mb: Annotated[int, Field(ge=0)] = Field(
        0, description="shared memory of a local start in MiB; 0: Ray's choice"
    )


class Config(Section):
    """One build."""

    data: DataConfig = DataConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    split: SplitConfig = SplitConfig()
    encoder: EncoderConfig = EncoderConfig()
    embed: EmbedConfig = EmbedConfig()
    factorize: FactorizeConfig = FactorizeConfig()
    blend: BlendConfig = BlendConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    publish: PublishConfig = PublishConfig()
    serve: ServeConfig = ServeConfig()
    ray: RayConfig = RayConfig()

    def fingerprint(self, *sections: str, exclude: frozenset[str] = frozenset()) -> str:
        """Hash of the named sections; `exclude` holds `section.field` names that cannot change a result."""
        chosen = {
            f"{s}.{k}": v
            for s in sections
            for k, v in self.model_dump(mode="json")[s].items()
            if f"{s}.{k}" not in exclude
        }
        return hashlib.blake2b(json.dumps(chosen, sort_keys=True).encode(), digest_size=12).hexdigest()


def load_config(path: Path | None) -> Config:
    """Read a TOML file over the defaults.

    Raises:
        ConfigError: unreadable file, bad TOML, unknown key or value out of range, all of them named.

    """
    if path is None:
        return Config()
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(
            f"cannot read the configuration {path}: {e}. Give the path of a UTF-8 TOML file."
        ) from e
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(
            f"{path} is not valid TOML: {e}. `kindling config` prints a complete example."
        ) from e
    return parse_config(raw, str(path))


def parse_config(raw: dict[str, Any], source: str) -> Config:
    """Validate `raw`; `source` is named in the message.

    Raises:
        ConfigError: every problem on a line of its own.

    """
    try:
        return Config.model_validate(raw)
    except ValidationError as e:
        lines = []
        for error in e.errors():
            key = ".".join(str(part) for part in error["loc"])
            if error["type"] == "extra_forbidden":
                lines.append(f"  {key}: no such setting; `kindling config` lists them all")
            else:
                lines.append(f"  {key} = {error['input']!r}: {error['msg'].removeprefix('Value error, ')}")
        raise ConfigError(f"{source}: {len(lines)} setting(s) cannot be used:\n" + "\n".join(lines)) from e


def to_toml(config: Config) -> str:
    """All settings of `config` with their descriptions as comments; `load_config` reads it back the same."""
    document = tomlkit.document()
    for name in type(config).model_fields:
        section: Section = getattr(config, name)
        table = tomlkit.table()
        table.comment((type(section).__doc__ or "").strip())
        for key, info in type(section).model_fields.items():
            value = getattr(section, key)
            table.add(tomlkit.comment(info.description or ""))
            if value is None:
                table.add(tomlkit.comment(f"{key} = (unset)"))
            elif isinstance(value, dict):
                inline = tomlkit.inline_table()
                inline.update(value)
                table.add(key, inline)
            else:
                table.add(key, list(value) if isinstance(value, tuple) else value)
        document.add(name, table)
        document.add(tomlkit.nl())
    return tomlkit.dumps(document)
