"""The new weights that turn a text's vector into numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


class PairHead(nn.Module):
    """(2n, E) vectors of user and item in turn to (2n, 2 + 2E): what `score_of_pairs` adds up.

    With u and v their directions, of length sqrt(E) so that a weight suits any E: a . u + b . v + w . (u * v) + offset,
    the numbers of each and a product whose dimensions weigh differently. Weights begin at zero, every pair at `start`.
    """

    def __init__(self, n_dimensions: int, start: float) -> None:
        """Weights (E,) three times."""
        super().__init__()
        self.user, self.item, self.product = (nn.Parameter(torch.zeros(n_dimensions)) for _ in range(3))
        self.offset = nn.Parameter(torch.tensor([start]))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """For each: its number as a user, its number as an item, its direction, and that times the weights."""
        directions = self.directions(vectors)
        numbers = torch.stack([directions @ self.user + self.offset, directions @ self.item], dim=1)
        return torch.cat([numbers, directions, directions * self.product], dim=1)

    @staticmethod
    def directions(vectors: torch.Tensor) -> torch.Tensor:
        """(n, E) of length sqrt(E)."""
        found: torch.Tensor = functional.normalize(vectors.float(), dim=1) * vectors.shape[1] ** 0.5
        return found

    def features(self, vectors: torch.Tensor) -> torch.Tensor:
        """(n, 3E) of vectors (2n, E): what the weights, one behind the other, are multiplied with."""
        user, item = self.directions(vectors).view(len(vectors) // 2, 2, -1).unbind(dim=1)
        return torch.cat([user, item, user * item], dim=1)

    def begin(self, weights: torch.Tensor, offset: float) -> None:
        """Set them: (3E,) and a number."""
        with torch.no_grad():
            for own, given in zip((self.user, self.item, self.product), weights.chunk(3), strict=True):
                own.copy_(given)
            self.offset.fill_(offset)


def score_of_pairs(outputs: torch.Tensor) -> torch.Tensor:
    """(n,) from outputs (n, 1, 1) of pairs read together, or (n, 2, 2 + 2E) of users and items."""
    if outputs.shape[1] == 1:
        return outputs[:, 0, 0]
    user, item = outputs.unbind(dim=1)
    n_dimensions = (outputs.shape[2] - 2) // 2
    product = user[:, 2 : 2 + n_dimensions] * item[:, 2 + n_dimensions :]
    return user[:, 0] + item[:, 1] + product.sum(dim=1)


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
