"""A fine-tuning put together from a build's files and settings, and taken apart again into an encoder's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from pipelines.core.config import Config
from pipelines.core.encoder import load_pretrained
from pipelines.core.finetune.checkpoint import Weights, set_weights
from pipelines.core.finetune.contrastive import Contrastive
from pipelines.core.finetune.examples import popularity
from pipelines.core.finetune.files import ExampleFiles
from pipelines.core.finetune.network import Learner, TextNetwork
from pipelines.core.finetune.objective import Objective
from pipelines.core.finetune.tokens import Template
from pipelines.core.finetune.trainable import add_lora, learnable, set_dropout


@dataclass(frozen=True)
class Setup:
    """What is trained.

    Attributes:
        learner: network and head on their device.
        objective: what they learn.
        tokenizer: of the encoder.
        adapter: what merges LoRA into the model; None without.

    """

    learner: Learner
    objective: Objective
    tokenizer: Any
    adapter: Any


def prepare(config: Config, files: ExampleFiles, device: str = "cpu") -> Setup:
    """Load the encoder and make the objective; the same on every worker.

    Raises:
        ConfigError: the encoder cannot be loaded, or settings do not fit it.

    """
    settings = config.finetune
    tokenizer, model = load_pretrained(config.encoder, "float32")
    set_dropout(model, settings.dropout)
    torch.manual_seed(settings.seed)  # of LoRA's and the head's first weights
    adapter = add_lora(model, settings) if settings.lora_rank else None
    if settings.checkpoint_activations:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.to(device)
    # packed attention does not remember its layout until the backward pass computes it again
    pack = not settings.checkpoint_activations
    network = TextNetwork(model, config.encoder.pooling, tokenizer.pad_token_id or 0, pack=pack)
    objective = _objective(config, files, Template.of(tokenizer))
    learner = Learner(network, objective.head(network).to(device))
    learnable(learner, settings)  # raises where there is nothing
    return Setup(learner, objective, tokenizer, adapter)


def _objective(config: Config, files: ExampleFiles, template: Template) -> Objective:
    settings, items = config.finetune, files.item_tokens()
    if settings.objective == "contrastive":
        return Contrastive(
            items, template, popularity(files.all_rows("train"), len(items)), files.neighbours(), settings
        )
    raise NotImplementedError(settings.objective)


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
