"""Settings of fine-tuning: what the encoder is taught, how, and when to stop."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipelines.core.sections.base import Positive, Section, Seed, Share, Weight

VECTOR_OBJECTIVES = ("contrastive", "distillation")
"""Those that shape vectors to be compared; what others leave is a model of its own, which does not embed."""
Rate = Annotated[float, Field(gt=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]


class FinetuneConfig(Section):
    """Teaching the encoder from behaviour or labels, before texts are embedded."""

    objective: Literal[
        "none", "contrastive", "distillation", "rating", "purchase", "classification", "next_behaviour"
    ] = Field(
        "none",
        description="none: the encoder as it is; contrastive: items of one user belong together; distillation: a "
        "smaller encoder says what the whole one says; rating, purchase: user and item text to a number or a "
        "probability; classification: text to label; next_behaviour: a decoder reads on",
    )
    steps: Positive = Field(300, description="optimizer steps at most")
    batch_size: Annotated[int, Field(ge=2)] = Field(128, description="examples of one step, over all workers")
    micro_batch: Count = Field(
        0,
        description="texts computed at a time by one worker, to save memory; the result is the same; 0: all at once",
    )
    max_tokens: Annotated[int, Field(ge=4)] = Field(
        64, description="of a text while training; embedding reads on"
    )
    workers: Count = Field(
        0, description="processes that share each batch; 0: one per GPU, else one (its threads use all CPUs)"
    )
    seed: Seed = Field(
        0, description="of the order of examples, of what is drawn for each, and of new weights"
    )

    # optimizer
    learning_rate: Rate = Field(5e-5, description="highest, of the encoder's last layer")
    head_learning_rate: Rate = Field(1e-3, description="highest, of weights that are new")
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="each layer learns this much slower than the one after it"
    )
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.01, description="of AdamW; not of biases and norms"
    )
    warmup: Share = Field(0.1, description="share of the steps over which the rate rises from zero")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="how the rate falls after it"
    )
    clip: Annotated[float, Field(ge=0.0)] = Field(1.0, description="largest norm of a gradient; 0: any")
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto",
        description="of products; auto: bfloat16 where the hardware multiplies it; weights stay in float32",
    )
    checkpoint_activations: bool = Field(
        False, description="compute the forward pass twice to save its memory"
    )

    # what learns
    train: Literal["all", "layers", "top", "head", "gradual"] = Field(
        "layers",
        description="all; layers: all but the table of words; top: the last top_layers; head: new weights only; "
        "gradual: from the top down, one more layer at a time over the first half of the steps",
    )
    top_layers: Positive = Field(2, description="layers that learn where train = 'top'")
    lora_rank: Count = Field(
        0, description="learn additions of this rank to the layers' matrices instead; 0: no LoRA"
    )
    lora_alpha: Annotated[float, Field(gt=0.0)] = Field(
        16.0, description="LoRA's additions weigh alpha / rank"
    )
    lora_targets: tuple[str, ...] = Field(
        (), description="names of the matrices; none: peft's choice for the model"
    )

    # a smaller encoder
    keep_layers: Count = Field(
        0,
        description="layers that are kept, evenly between the first and the last, before anything is learnt; 0: all",
    )
    matryoshka: tuple[Positive, ...] = Field(
        (),
        description="contrastive, distillation: lengths at which a vector's first numbers are to do as well as all of "
        "them, for encoder.dimensions",
    )

    # against learning by heart; all off
    dropout: Share = Field(0.0, description="inside the encoder")
    token_dropout: Share = Field(0.0, description="share of tokens left out of a text")
    span_dropout: Share = Field(0.0, description="share of a text left out as one piece")
    field_dropout: Share = Field(
        0.0, description="chance of each field but the first to be left out of an item's text"
    )
    synonyms: str | None = Field(
        None,
        description="JSON file {word: [words]}: words replaced at random before tokenising, see synonym_share",
    )
    synonym_share: Share = Field(0.1, description="of the words that have synonyms, where synonyms is set")
    fgm: Weight = Field(
        0.0, description="length of an adversarial step on word vectors (fast gradient method); 0: none"
    )
    r_drop: Weight = Field(
        0.0, description="weight of agreement between two passes with dropout (R-Drop); 0: none"
    )
    label_smoothing: Share = Field(
        0.0, description="classification and contrastive: share of the target spread evenly"
    )

    # contrastive
    temperature: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.05, description="cosines are divided by it"
    )
    history_share: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.5, description="share of the queries that are a history of several items; the others are one item"
    )
    max_history: Positive = Field(5, description="items of a history")
    popularity_correction: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        1.0, description="power of popularity by which frequent negatives are discounted (logQ)"
    )
    hard_negatives: Count = Field(
        0, description="similar items that the user has not touched, beside each positive"
    )

    # labels
    labels: str | None = Field(
        None, description="classification: Parquet, JSON Lines or CSV file with columns `text` and `label`"
    )
    class_weights: bool = Field(False, description="rare classes weigh as much as frequent ones")
    negatives: Positive = Field(
        4,
        description="purchase: items without interaction beside each one with; next_behaviour: see candidate_loss",
    )

    # ratings and purchases
    pair: Literal["together", "apart"] = Field(
        "apart",
        description="rating, purchase; together: user and item in one sequence, every word of one meets every word of "
        "the other; apart: each text by itself, the user the mean of theirs, more from few pairs",
    )

    # next behaviour
    candidate_loss: Weight = Field(
        0.0,
        description="weight of telling the next item from `negatives` others by likelihood, beside the language "
        "model's own loss; 0: that alone",
    )
    discount: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.0,
        description="how much of an item's likelihood without any history is taken off its score, so that common words "
        "do not win; 1: pointwise mutual information",
    )

    # watching
    evaluate_every: Positive = Field(
        50, description="steps between validations, each of which leaves a checkpoint"
    )
    patience: Count = Field(0, description="validations without a better one before it stops; 0: never")
    validation_rows: Positive = Field(1000, description="examples of a validation at most")
    candidates: Positive = Field(
        100,
        description="next_behaviour: items among which a validation looks for the right one; 100 at most are read",
    )
    max_forgetting: Annotated[float, Field(ge=0.0, le=2.0)] = Field(
        0.0,
        description="stop when 1 - rank correlation with the base model's similarities of general texts is above this; "
        "0: report only",
    )
    continue_from: Literal["base", "published"] = Field(
        "base", description="start from encoder.model, or from the encoder of the version in service"
    )
    replay_share: Share = Field(
        0.0, description="continue_from = 'published': share of the examples drawn from before it was made"
    )
    mlflow: str | None = Field(None, description="address of an MLflow server to report to as well")
    wandb: str | None = Field(None, description="Weights & Biases project to report to as well")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.r_drop and not self.dropout:
            raise ValueError(
                f"r_drop = {self.r_drop} compares two passes that differ by dropout; set dropout too"
            )
        if self.fgm and (self.train != "all" or self.lora_rank):
            raise ValueError(
                f"fgm = {self.fgm} follows the gradient of word vectors, which do not learn here; set train = 'all' "
                "and lora_rank = 0"
            )
        if self.objective == "classification" and not self.labels:
            raise ValueError("objective = 'classification' needs labels: a file with columns text and label")
        shapes_vectors = self.objective in VECTOR_OBJECTIVES
        if shapes_vectors and self.train == "head":
            raise ValueError(
                f"train = 'head': objective = '{self.objective}' has no head; nothing would learn"
            )
        if self.matryoshka and not shapes_vectors:
            raise ValueError(
                f"matryoshka: objective = '{self.objective}' does not shape vectors to be compared"
            )
        if self.objective == "distillation" and not (self.keep_layers or self.matryoshka):
            raise ValueError(
                "objective = 'distillation' teaches a smaller encoder what the whole one knows; say what is smaller: "
                "set keep_layers or matryoshka"
            )
        if self.lora_rank and self.train != "all":
            raise ValueError(f"lora_rank = {self.lora_rank} chooses what learns; set train = 'all'")
        return self
