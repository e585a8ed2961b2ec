"""Settings of what becomes of texts: encoder, words, relations, attributes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pipelines.core.sections.base import Positive, Section, Share, Weight, distinct

_LEAST_TAGS = 0.001
"""Per item and attribute; less is nothing."""


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
    dtype: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        "auto",
        description="auto: bfloat16 where the processor multiplies it natively, else float32; int8: on a CPU without "
        "bfloat16, faster than float32, at some loss",
    )
    dimensions: Annotated[int, Field(ge=0)] = Field(
        0,
        description="numbers of a vector that are kept, from the first on, of encoders that were taught for it "
        "(Matryoshka, see finetune.matryoshka); 0: all",
    )
    tokens_per_batch: Annotated[int, Field(ge=0)] = Field(
        0,
        description="texts of like length share a batch up to this many tokens; 0: 2,048 on a CPU, whose caches hold "
        "that, 65,536 on a GPU",
    )
    prefix: str = Field("", description='put before every text, for encoders that want one, e.g. "passage: "')
    trust_remote_code: bool = Field(
        False, description="run model code that comes with the weights; only for folders you trust"
    )


class LexicalConfig(Section):
    """Which words a text uses, beside what the encoder makes of it: TF-IDF reduced by an SVD."""

    weight: Annotated[float, Field(ge=0, le=10)] = Field(
        0.6, description="of the words' vector beside the encoder's, which has length 1; 0: no words"
    )
    n_dims: Positive = Field(256, description="length of the words' vector, at most")
    max_terms: Positive = Field(50_000, description="most frequent terms that are looked at")
    min_texts: Positive = Field(2, description="terms in fewer texts than this are passed over")
    max_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="terms in a larger share of the texts than this are passed over"
    )
    fit_texts: Positive = Field(
        100_000, description="texts of known items that terms and directions are taken from, at most"
    )


class EmbedConfig(Section):
    """How embedding is spread."""

    actors: Annotated[int, Field(ge=0)] = Field(
        0, description="encoder processes; 0: one per GPU, or one per CPU when there is none"
    )
    texts_per_task: Positive = Field(2048, description="texts an actor sorts by length and encodes in one go")


class RelationsConfig(Section):
    """What an item's text profile takes over from related items, see docs/decisions/0007."""

    weight: Share = Field(
        0.0,
        description="share of an item's text profile that comes from its neighbours; 0: relations are not read",
    )
    weights: dict[str, Weight] = Field(
        default_factory=dict,
        description="weight of each relation against the others, 1 where none is given, "
        "e.g. {brand = 1.0, cites = 2.0}",
    )
    columns: tuple[str, ...] = Field(
        (),
        description='item columns whose values relate the items that share them, e.g. ["brand", "categories"]; '
        "a list relates by each of its values",
    )
    max_group: Annotated[int, Field(ge=2)] = Field(
        500, description="values of those columns shared by more items than this are passed over"
    )
    symmetric: bool = Field(True, description="a row of the relations table holds in both directions")

    @field_validator("columns")
    @classmethod
    def _are_distinct(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return distinct(names)


class AttributesConfig(Section):
    """Zero-shot attributes: the encoder tags items with labels from here; off while there are none."""

    labels: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description='attribute = labels, e.g. {style = ["modern", "rustic"], audience = ["children", "adults"]}; '
        "each attribute becomes a column to filter by; empty: the stage does nothing",
    )
    prompts: tuple[str, ...] = Field(
        ("{label}", "{label} {attribute}", "This is a {label} {attribute}."),
        min_length=1,
        description="what the encoder reads for a label, averaged; {label} and {attribute} are filled in",
    )
    wordings: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description='label = words read in its place, e.g. {"Sci-Fi" = ["science fiction", "space"]}; worth the effort',
    )
    exclusive: tuple[str, ...] = Field(
        (), description="attributes of which an item has one label at most, such as price level"
    )
    tags_per_item: dict[str, float] = Field(
        default_factory=dict,
        description="attribute = how many of its labels an item has on average; 1 where not given (at most half of "
        "them). Sets thresholds and the mean of the confidences where no known tags do",
    )
    known: dict[str, str] = Field(
        default_factory=dict,
        description="attribute = item column with true tags on some items, to calibrate by; best one that is not part "
        "of data.item_text",
    )
    known_separator: str = Field(
        "|", min_length=1, description="between the tags of a known column that holds strings, not lists"
    )
    min_known: Positive = Field(
        100, description="known items below which an attribute is calibrated without them"
    )
    min_confidence: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="no tag below this, wherever the thresholds come out"
    )
    feature_weight: Annotated[float, Field(ge=0, le=1e6)] = Field(
        0.0,
        description="weight of the confidences as extra features of an item; 0: filters and metadata only",
    )

    @model_validator(mode="after")
    def _labels_are_distinct(self) -> AttributesConfig:
        columns = [c for name in self.labels for c in (name, f"{name}_confidence")]
        if len(set(columns)) < len(columns) or not all(name.strip() for name in self.labels):
            raise ValueError(
                f"the attributes {', '.join(map(repr, self.labels))} make the columns {', '.join(columns)}; expected "
                "names that are not empty and columns that differ"
            )
        for name, labels in self.labels.items():
            if not labels or len({label.strip().casefold() for label in labels} - {""}) < len(labels):
                raise ValueError(f"labels of {name}: {list(labels)}; expected some, different, none empty")
        if not all("{label}" in prompt for prompt in self.prompts):
            raise ValueError(f"prompts {list(self.prompts)}; expected {{label}} in each")
        return self

    @model_validator(mode="after")
    def _settings_are_of_these_labels(self) -> AttributesConfig:
        named = {"exclusive": self.exclusive, "tags_per_item": self.tags_per_item, "known": self.known}
        for key, names in named.items():
            for name in names:
                if name not in self.labels:
                    raise ValueError(f"{key}: {name} is no attribute of labels ({', '.join(self.labels)})")
        every = {label for labels in self.labels.values() for label in labels}
        for label, words in self.wordings.items():
            if label not in every or not words or not all(word.strip() for word in words):
                raise ValueError(f"wordings: {label} = {list(words)}; expected a label of labels, and words")
        for name, n in self.tags_per_item.items():
            if not _LEAST_TAGS <= n < len(self.labels[name]):
                raise ValueError(
                    f"tags_per_item: {name} = {n}; expected {_LEAST_TAGS} or more, and less than its "
                    f"{len(self.labels[name])} labels"
                )
        return self
