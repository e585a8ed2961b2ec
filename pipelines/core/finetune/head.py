"""The new weights that turn a text's vector into numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

_PACE = 20.0
"""Of the weight of a product of two directions: a rate that suits numbers is slow for a cosine, which varies little."""


class PairHead(nn.Module):
    """(n, E) to (n, 2 + E): a number, the weight of a product, and a direction of length 1.

    Of texts that are encoded apart the numbers are added, and the directions, which are the encoder's own, multiplied:
    `score_of_pairs`. The weight begins at zero, so that at first every pair has the same score.
    """

    def __init__(self, n_dimensions: int, start: float) -> None:
        """`start` is what each number is at first."""
        super().__init__()
        self.number = linear_head(n_dimensions, [start])
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """See above."""
        weight = (_PACE * self.weight).expand(len(vectors), 1).to(vectors)
        return torch.cat([self.number(vectors), weight, functional.normalize(vectors, dim=1)], dim=1)


def score_of_pairs(outputs: torch.Tensor) -> torch.Tensor:
    """(n,) from outputs (n, k, 1) of one text or several, or (n, k, 2 + E), the last two of which are user and item."""
    total = outputs[..., 0].sum(dim=1)
    if outputs.shape[2] > 1:
        user, item = outputs[:, -2], outputs[:, -1]
        total = total + item[:, 1] * (user[:, 2:] * item[:, 2:]).sum(dim=1)
    return total


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
