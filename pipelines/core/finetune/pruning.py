"""An encoder of fewer layers: those that are kept lie evenly between the first and the last.

Neighbouring layers do similar work, so that what lies between two kept ones is missed least (Sanh et al. 2019; Sajjad
et al. 2023). Without any teaching afterwards the vectors are poor: see `core.finetune.distillation`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from pipelines.core.errors import ConfigError


def keep_layers(model: Any, n: int) -> None:  # noqa: ANN401 - transformers has no types
    """Leave `n` layers in a Hugging Face model, in place; it is saved and loaded like any other of that depth.

    Raises:
        ConfigError: it has fewer, or keeps them where they are not found, as ALBERT, whose layers are one, or a layer
            depends on its number.

    """
    depth = int(model.config.num_hidden_layers)
    if n > depth:
        raise ConfigError(
            f"finetune.keep_layers = {n}, and the encoder has {depth} layers. Lower it, or set 0 to keep all."
        )
    if n < depth and getattr(model.config, "scale_attn_by_inverse_layer_idx", False):
        raise ConfigError(
            "finetune.keep_layers: this encoder scales attention by the number of a layer "
            "(scale_attn_by_inverse_layer_idx), which would be another one afterwards. Set it to 0."
        )
    holder, name = _layers(model, depth)
    kept = np.linspace(0, depth - 1, n).round().astype(int).tolist()
    layers = nn.ModuleList([getattr(holder, name)[i] for i in kept])
    setattr(holder, name, layers)
    for number, layer in enumerate(layers):
        for module in layer.modules():
            if "layer_idx" in vars(module):  # where a decoder keeps the layer's keys and values
                vars(module)["layer_idx"] = number
    # decoders list what each layer is like beside how many there are
    listed = {k: v for k, v in vars(model.config).items() if isinstance(v, list) and len(v) == depth}
    for key, values in listed.items():
        setattr(model.config, key, [values[i] for i in kept])
    model.config.num_hidden_layers = n


def _layers(model: nn.Module, depth: int) -> tuple[nn.Module, str]:
    """The module that holds the list of layers, and its name there."""
    for module in model.modules():
        for name, child in module.named_children():
            if (
                isinstance(child, nn.ModuleList)
                and len(child) == depth
                and len({type(c) for c in child}) == 1
            ):
                return module, name
    raise ConfigError(
        f"finetune.keep_layers: no list of {depth} layers is found in a {type(model).__name__}. Set it to 0."
    )
