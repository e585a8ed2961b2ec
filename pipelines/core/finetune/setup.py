"""A fine-tuning put together from a build's files and settings, and taken apart again into an encoder's folder."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from safetensors.torch import save_file

from pipelines.core.blend import normalize
from pipelines.core.config import Config, FinetuneConfig
from pipelines.core.encoder import load_pretrained
from pipelines.core.errors import ConfigError
from pipelines.core.finetune.checkpoint import Weights, set_weights
from pipelines.core.finetune.classification import Classification, class_weights
from pipelines.core.finetune.continuation import ContinuationNetwork
from pipelines.core.finetune.contrastive import Contrastive
from pipelines.core.finetune.distillation import Distillation
from pipelines.core.finetune.examples import HISTORY, LABEL, popularity
from pipelines.core.finetune.files import ExampleFiles
from pipelines.core.finetune.forgetting import GeneralTexts
from pipelines.core.finetune.loop import Training, Watch
from pipelines.core.finetune.network import Learner, Network, TextNetwork
from pipelines.core.finetune.next_behaviour import NextBehaviour, Reading
from pipelines.core.finetune.objective import Encode, Objective
from pipelines.core.finetune.order import BATCHES_PER_WINDOW, Order
from pipelines.core.finetune.pairwise import Pairwise, Purchase, Rating, labels_of
from pipelines.core.finetune.parallel import Workers
from pipelines.core.finetune.plain import baselines
from pipelines.core.finetune.pruning import keep_layers
from pipelines.core.finetune.reading import reader
from pipelines.core.finetune.tokens import Template, TokenTable
from pipelines.core.finetune.trainable import add_lora, learnable, recompute_activations, set_dropout
from pipelines.core.schema import ITEM_IDX, USER_IDX
from pipelines.core.storage import read_json

_MOST_FOR_REGRESSIONS = 10_000
"""Training rows that the baseline and a head's first weights learn from."""


@dataclass(frozen=True)
class Setup:
    """What is trained.

    Attributes:
        learner: network and head on their device.
        objective: what they learn.
        tokenizer: of the encoder.
        adapter: what merges LoRA into the model; None without.
        whole: the encoder that layers were taken from, or that teaches; None where it is the learner's own.

    """

    learner: Learner
    objective: Objective
    tokenizer: Any
    adapter: Any
    whole: TextNetwork | None

    def training(
        self, settings: FinetuneConfig, files: ExampleFiles, watch: Watch, workers: Workers | None = None
    ) -> Training:
        """The loop over examples in files; by default on this worker alone."""
        window = settings.batch_size * BATCHES_PER_WINDOW
        order = Order(files.count("train"), settings.batch_size, window, settings.seed)
        makes_vectors = isinstance(self.learner.network, TextNetwork)
        general = GeneralTexts.of(self.tokenizer) if makes_vectors else None

        def begin(encode: Encode) -> None:
            assert isinstance(self.objective, Pairwise)  # noqa: S101 - nobody else is asked
            some = files.take(np.arange(min(files.count("train"), _MOST_FOR_REGRESSIONS)))
            self.objective.begin(self.learner.head, encode, some)

        return Training(
            self.learner, self.objective, settings, order, files.validation(), workers or Workers(), watch, general,
            self.whole if makes_vectors else None,
            begin if isinstance(self.objective, Pairwise) else None,
        )  # fmt: skip


def prepare(config: Config, files: ExampleFiles, device: str = "cpu") -> Setup:
    """Load the encoder and make the objective; the same on every worker.

    Raises:
        ConfigError: the encoder cannot be loaded, or settings do not fit it.

    """
    settings = config.finetune
    is_decoder = settings.objective == "next_behaviour"
    tokenizer, model = load_pretrained(config.encoder, "float32", causal=is_decoder)
    pad = tokenizer.pad_token_id or 0
    whole = None
    if not is_decoder and (settings.keep_layers or settings.objective == "distillation"):
        set_dropout(model, 0.0)
        whole = TextNetwork(copy.deepcopy(model).to(device), config.encoder.pooling, pad)
        whole.eval().requires_grad_(requires_grad=False)
    if settings.keep_layers:
        depth = model.config.num_hidden_layers
        keep_layers(model, settings.keep_layers)
        if settings.objective == "distillation" and settings.keep_layers == depth and not settings.matryoshka:
            raise ConfigError(
                f"finetune.keep_layers = {depth} are all the layers of this encoder: distillation would teach it what "
                "it knows. Lower it, or set finetune.matryoshka."
            )
    set_dropout(model, settings.dropout)
    torch.manual_seed(settings.seed)  # of LoRA's and the head's first weights
    adapter = add_lora(model, settings) if settings.lora_rank else None
    if settings.checkpoint_activations:
        recompute_activations(model)
    model.to(device)
    objective = _objective(config, files, tokenizer, whole)
    network = ContinuationNetwork(model) if is_decoder else TextNetwork(model, config.encoder.pooling, pad)
    if network.max_tokens is not None and settings.max_tokens > network.max_tokens:
        raise ConfigError(
            f"finetune.max_tokens = {settings.max_tokens}, and this encoder reads {network.max_tokens} tokens at most. "
            "Lower it."
        )
    longest = max(settings.matryoshka, default=0)
    if longest > network.n_dimensions:
        raise ConfigError(
            f"finetune.matryoshka = {longest}, and a vector of this encoder has {network.n_dimensions} numbers. "
            "Lower it."
        )
    learner = Learner(network, objective.head(network).to(device))
    learnable(learner, settings)  # raises where there is nothing
    return Setup(learner, objective, tokenizer, adapter, whole)


def _objective(
    config: Config,
    files: ExampleFiles,
    tokenizer: Any,  # noqa: ANN401
    whole: TextNetwork | None,
) -> Objective:
    settings = config.finetune
    if settings.objective == "next_behaviour":
        return NextBehaviour(files.texts("items"), Reading.of(tokenizer), settings)
    template = Template.of(tokenizer, config.encoder.prefix)
    if settings.objective == "classification":
        labels = files.all_rows("train").column(LABEL).to_numpy()
        n_classes = len(read_json(files.classes))
        weights = (
            class_weights(labels, n_classes)
            if settings.class_weights
            else np.ones(n_classes, dtype=np.float32)
        )
        return Classification(files.texts("labelled"), template, weights, settings)
    items = files.texts("items")
    if settings.objective in ("rating", "purchase"):
        mean = float(labels_of(files.all_rows("train")).mean())
        make = Rating if settings.objective == "rating" else Purchase
        return make(items, files.texts("users"), template, mean, settings)
    if settings.objective == "distillation":
        tables = (items, files.texts("users"))
        return Distillation(tables, template, cast(TextNetwork, whole), settings)
    shares = popularity(files.all_rows("train"), len(items))
    return Contrastive(items, template, shares, files.neighbours(), settings)


def beside(config: Config, setup: Setup, files: ExampleFiles, weights: Weights) -> dict[str, object]:
    """For a report: what needs no fine-tuning on the same validation rows, and how outputs should be read.

    Nothing for an objective that only shapes vectors.
    """
    objective, rows = setup.objective, files.validation()
    if not isinstance(objective, Rating | Purchase | Classification) or not len(rows):
        return {}
    found: dict[str, object] = {}
    if not isinstance(objective, Classification):  # first, while the network is the base model
        train = files.take(np.arange(min(files.count("train"), _MOST_FOR_REGRESSIONS)))
        network = setup.whole or setup.learner.network
        asked = pa.concat_tables([train, rows])
        items = _vectors(network, objective.items, _items_of(asked), objective)
        people = asked.column(USER_IDX).to_numpy()
        users = None if objective.users is None else _vectors(network, objective.users, people, objective)
        outputs = baselines(objective, train, rows, items, users)
        found["baselines"] = {n: objective.figures(labels_of(rows), raw) for n, raw in outputs.items()}
    set_weights(learnable(setup.learner, config.finetune), weights)
    setup.learner.eval()
    found["calibration"] = vars(objective.calibrated(reader(setup.learner, bfloat16=False), rows))
    return found


def _vectors(
    network: Network, table: TokenTable, wanted: npt.NDArray[np.int64], objective: Pairwise
) -> npt.NDArray[np.float32]:
    """(texts of `table`, E) vectors of length 1 of the rows that are wanted; zeros for others and for empty texts."""
    vectors = np.zeros((len(table), network.n_dimensions), dtype=np.float32)
    needed = [row for row in np.unique(wanted).tolist() if len(table[row])]
    if needed:
        texts = [objective.template.one(table[row], objective.settings.max_tokens) for row in needed]
        vectors[needed] = normalize(reader(network, bfloat16=False)(texts).numpy())
    return vectors


def _items_of(rows: pa.Table) -> npt.NDArray[np.int64]:
    own = rows.column(ITEM_IDX).to_numpy()
    return np.concatenate([own, rows.column(HISTORY).combine_chunks().flatten().to_numpy()])


def export(setup: Setup, weights: Weights, encoder: Path, head: Path, config: Config) -> None:
    """Write the encoder with these weights as a folder like any other's, LoRA merged, and the head if there is one.

    Args:
        setup: of the fine-tuning; of no more use afterwards.
        weights: of what learns.
        encoder: empty folder.
        head: file for the head's weights.
        config: of the build.

    """
    set_weights(learnable(setup.learner, config.finetune), weights)
    model = setup.learner.network.model
    if setup.adapter is not None:
        model = setup.adapter.merge_and_unload()
    if config.finetune.checkpoint_activations:
        model.gradient_checkpointing_disable()
    model.set_attn_implementation("eager")  # not ours, which only this program knows
    model.save_pretrained(encoder)
    setup.tokenizer.save_pretrained(encoder)
    of_head = {
        name: tensor.detach().cpu().contiguous() for name, tensor in setup.learner.head.state_dict().items()
    }
    if of_head:
        save_file(of_head, head)
