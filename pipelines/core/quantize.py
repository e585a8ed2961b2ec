"""A model whose products are of 8-bit integers, for CPUs that do not multiply bfloat16.

Weights are rounded once, a scale for each row; activations when they are met, a scale for all tokens of a batch, so
that a text's vector depends on what is computed with it, about as much as on the rounding itself.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from pipelines.core.errors import ConfigError


def to_int8(model: Any) -> None:  # noqa: ANN401 - transformers has no types
    """Put 8-bit linear layers in the place of a model's own; it can only read from now on, on a CPU.

    Raises:
        ConfigError: it has none, as GPT-2, or torch no longer has them.

    """
    if not any(isinstance(module, nn.Linear) for module in model.modules()):
        raise ConfigError(
            f"encoder.dtype = 'int8': a {type(model).__name__} has no linear layers to round. Use bfloat16 or float32."
        )
    try:
        # torchao, its successor, had nothing as fast on a CPU without compiling (0.18, see decision 0015)
        from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic  # noqa: PLC0415
    except ImportError as e:
        raise ConfigError(
            f"encoder.dtype = 'int8': torch {torch.__version__} has no dynamic quantisation. Use bfloat16 or float32."
        ) from e
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its deprecation, in every process
        quantize_dynamic(  # type: ignore[no-untyped-call]
            model, {nn.Linear: per_channel_dynamic_qconfig}, dtype=torch.qint8, inplace=True
        )
