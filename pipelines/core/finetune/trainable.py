"""Which weights learn, and how fast: freezing, LoRA, rates by layer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from pipelines.core.config import FinetuneConfig
from pipelines.core.errors import ConfigError
from pipelines.core.finetune.network import Learner

_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
_BELOW = re.compile(r"emb|wte|wpe|shared")
_HEAD, _LORA = "head.", "lora_"
_UNUSED = re.compile(r"pooler|mask_emb|seg_embed|r_s_bias")
"""Take no part in any of our poolings, or (XLNet) only in what a sequence of one text has not: no gradient."""
_UNFREEZE_OVER = 0.5
"""Share of the steps after which gradual unfreezing has reached the lowest layer."""


def n_layers(learner: Learner) -> int:
    """Layers of the network, by the names of its weights."""
    numbers = (_LAYER.search(name) for name, _ in learner.named_parameters())
    return 1 + max((int(found.group(1)) for found in numbers if found), default=0)


def _layer(name: str, depth: int) -> int:
    """Layer of a weight: -1 below all of them, `depth` for the head; what follows the last one counts as it."""
    if name.startswith(_HEAD):
        return depth
    found = _LAYER.search(name)
    if found:
        return int(found.group(1))
    return -1 if _BELOW.search(name) else depth - 1


def set_dropout(model: nn.Module, share: float) -> None:
    """Give every dropout of a model this share, whatever its configuration calls them.

    Some models keep it in modules, some as numbers beside them (Llama and its kin, OPT). Attention's own dropout is a
    function's argument, which packed attention ignores: packed, it stays off, and a model that has no other, such as
    Llama, has none at all.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
            continue
        for name, value in vars(module).items():
            if isinstance(value, float) and "dropout" in name:
                setattr(module, name, share)


def recompute_activations(model: Any) -> None:  # noqa: ANN401 - transformers has no types
    """Let a model forget its layers' activations and compute them again for the backward pass; call before packing.

    Raises:
        ConfigError: its architecture cannot, as XLNet.

    """
    try:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    except ValueError as e:
        raise ConfigError(
            f"finetune.checkpoint_activations: {e} Set it to false, and finetune.micro_batch to save memory."
        ) from e


def add_lora(model: Any, settings: FinetuneConfig) -> Any:  # noqa: ANN401 - transformers and peft have no types
    """Put LoRA into a model, in place; what is returned knows how to merge it (`merge_and_unload`).

    Raises:
        ConfigError: peft does not know which matrices of this model to choose.

    """
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - a second

    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        target_modules=list(settings.lora_targets) or None,
    )
    try:
        return get_peft_model(model, config)
    except ValueError as e:
        matrices = sorted(
            {n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, nn.Linear)}
        )
        raise ConfigError(
            f"finetune.lora_rank = {settings.lora_rank}: {e} Name matrices in finetune.lora_targets, of: "
            f"{', '.join(matrices)}."
        ) from e


def learnable(learner: Learner, settings: FinetuneConfig) -> dict[str, nn.Parameter]:
    """Weights that learn at some time, by name.

    Raises:
        ConfigError: there are none.

    """
    found = dict(_learnable(learner, settings))
    if not found:
        raise ConfigError(
            f"finetune.train = '{settings.train}' leaves nothing to learn in this model. Set 'all'."
        )
    return found


def _learnable(learner: Learner, settings: FinetuneConfig) -> Iterator[tuple[str, nn.Parameter]]:
    depth = n_layers(learner)
    lowest = {
        "all": -1,
        "layers": 0,
        "gradual": 0,
        "top": max(depth - settings.top_layers, 0),
        "head": depth,
    }[settings.train]
    for name, weight in learner.named_parameters():
        if _UNUSED.search(name):
            continue
        frozen_by_lora = settings.lora_rank > 0 and not name.startswith(_HEAD) and _LORA not in name
        if not frozen_by_lora and (_LORA in name or _layer(name, depth) >= lowest):
            yield name, weight


def freeze(learner: Learner, settings: FinetuneConfig, step: int) -> bool:
    """Let exactly those weights learn that do at this step; whether that changed anything."""
    named = learnable(learner, settings)
    if settings.train == "gradual":
        depth = n_layers(learner)
        reached = int(step / max(_UNFREEZE_OVER * settings.steps, 1) * depth)
        named = {n: w for n, w in named.items() if _layer(n, depth) >= depth - 1 - reached}
    changed = False
    for name, weight in learner.named_parameters():
        changed |= weight.requires_grad != (name in named)
        weight.requires_grad_(name in named)
    return changed


def optimizer(learner: Learner, settings: FinetuneConfig) -> torch.optim.AdamW:
    """AdamW over what learns, a group for each rate and decay; `highest` is its rate after the warm-up."""
    depth = n_layers(learner)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weight in learnable(learner, settings).items():
        if name.startswith(_HEAD):
            rate = settings.head_learning_rate
        else:
            rate = settings.learning_rate * settings.layer_decay ** (depth - 1 - _layer(name, depth))
        # XLNet has biases of two dimensions
        decay = settings.weight_decay if weight.ndim > 1 and not name.endswith("bias") else 0.0
        groups.setdefault((rate, decay), []).append(weight)
    return torch.optim.AdamW(
        [
            {"params": weights, "lr": rate, "highest": rate, "weight_decay": decay}
            for (rate, decay), weights in groups.items()
        ],
        fused=True,
    )


def rate_at(step: int, settings: FinetuneConfig) -> float:
    """Factor of all rates at a step: up over the warm-up, then down to zero at the last."""
    warm = int(settings.warmup * settings.steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    done = (step - warm) / max(settings.steps - warm, 1)
    if settings.schedule == "cosine":
        return 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * done))))
    return 1.0 if settings.schedule == "constant" else 1.0 - done
