"""The new weights that turn a text's vector into numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def linear_head(n_dimensions: int, bias: Sequence[float]) -> nn.Module:
    """(n, E) to (n, len(bias)); answers `bias` before it has learnt anything.

    The weights begin at zero, so that the first steps do not carry chance back into the encoder. Vectors are brought to
    one scale first: encoders differ in theirs by orders of magnitude, and a rate of learning should suit them all.
    """
    linear = nn.Linear(n_dimensions, len(bias))
    nn.init.zeros_(linear.weight)
    with torch.no_grad():
        linear.bias.copy_(torch.tensor(bias, dtype=torch.float32))
    return nn.Sequential(nn.LayerNorm(n_dimensions, elementwise_affine=False), linear)
