"""What every objective offers, so that one loop trains them all.

Dimensions: n examples of a batch, k sequences an example, E dimensions of what comes out of a sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from pipelines.core.finetune.network import Network

Sequences = Sequence[Any]
"""What a network reads: a list of tokens each, or whatever its own network takes."""
Encode = Callable[[Sequences], torch.Tensor]
"""Sequences to (sequences, E) outputs without gradients, shared among all workers; the same on each of them."""
Draws = Callable[[int], np.random.Generator]
"""Random numbers of the example at a place of a table; see `draws_of`."""


@dataclass(frozen=True)
class Prepared:
    """A batch on its way into the network.

    Attributes:
        sequences: n * k, those of an example one after the other.
        columns: what the loss needs beside them, each with n rows.

    """

    sequences: Sequences
    columns: dict[str, torch.Tensor]


class Objective(Protocol):
    """A task for the network: what it reads, what that costs, how well it does."""

    metric: str
    """Of `measure`: larger is better; decides on the best checkpoint and on stopping."""

    compares_examples: bool
    """Whether an example's loss depends on the others of its batch, wherever they are computed."""

    def head(self, network: Network) -> nn.Module:
        """New weights on top of the network; `nn.Identity` for none."""

    def prepare(self, rows: pa.Table, draws: Draws | None) -> Prepared:
        """Sequences of examples; `draws` of each row by its place in the table, None for no chance at all."""

    def loss(self, outputs: torch.Tensor, columns: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Sum over examples (), from outputs (n, k, E); with `compares_examples`, of the whole batch."""

    def disagreement(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Sum over examples () of how far two outputs (n, k, E) for the same texts are apart (R-Drop)."""

    def measure(self, encode: Encode, rows: pa.Table) -> dict[str, float]:
        """Figures of validation examples, `metric` among them."""


def draws_of(seed: int, first: int) -> Draws:
    """Random numbers of examples that follow one another from place `first` of all that are ever met.

    They depend on neither the worker nor the batch.
    """
    return lambda place: np.random.default_rng([seed, first + place])
