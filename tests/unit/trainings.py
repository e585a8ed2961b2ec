"""Small trainings for tests of the loop: who watches, and an objective that is easy to check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import torch
from torch import nn
from torch.nn import functional

from pipelines.core.finetune import checkpoint
from pipelines.core.finetune.augment import Augmentation
from pipelines.core.finetune.checkpoint import Point, State
from pipelines.core.finetune.network import TextNetwork
from pipelines.core.finetune.objective import Draws, Encode, Prepared
from pipelines.core.finetune.tokens import Template, TokenTable


class Recorder:
    """Remembers losses, and states as they are on storage where there is a folder."""

    def __init__(self, folder: Path | None = None, after_step: Callable[[], None] | None = None) -> None:
        """`after_step` is called when the weights have moved."""
        self.losses: list[float] = []
        self.folder, self._after_step = folder, after_step
        self.states: dict[int, State] = {}
        self.reasons: dict[int, str] = {}

    def on_step(self, step: int, loss: float) -> None:  # noqa: ARG002 - a watch is told both
        """Keep the loss."""
        self.losses.append(loss)
        if self._after_step is not None:
            self._after_step()

    def on_validation(self, point: Point, state: State | None) -> str | None:
        """Write the state, read it again."""
        if self.folder is not None and state is not None:
            folder = self.folder / str(point.step)
            folder.mkdir(exist_ok=True)  # a second time where a training broke off
            checkpoint.save(folder, state)
            self.states[point.step] = checkpoint.load(folder)
        return self.reasons.get(point.step)


class Numbers:
    """Text to a number: squared error of a linear head; an example's loss is its own."""

    metric = "agreement"
    compares_examples = False

    def __init__(
        self, items: TokenTable, template: Template, values: list[float], augment: Augmentation | None = None
    ) -> None:
        """Values of the items."""
        self._items, self._template, self._values = items, template, values
        self._augment = augment or Augmentation()

    def head(self, network: TextNetwork) -> nn.Module:
        """One number."""
        return nn.Linear(network.n_dimensions, 1)

    def prepare(self, rows: pa.Table, draws: Draws | None) -> Prepared:
        """One text of each."""
        items = rows.column("item_idx").to_pylist()
        texts = [
            self._items[i] if draws is None else self._augment(self._items, i, draws(place))
            for place, i in enumerate(items)
        ]
        values = torch.tensor([[self._values[i]] for i in items])
        return Prepared([self._template.one(text, 32) for text in texts], {"values": values})

    def loss(self, outputs: torch.Tensor, columns: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Squared error."""
        return functional.mse_loss(outputs[:, 0], columns["values"], reduction="sum")

    def disagreement(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Squared difference."""
        return functional.mse_loss(one, other, reduction="sum")

    def measure(self, encode: Encode, rows: pa.Table) -> dict[str, float]:
        """Mean squared error, negative."""
        prepared = self.prepare(rows, None)
        gap = encode(prepared.sequences) - prepared.columns["values"]
        return {self.metric: float(-gap.square().mean())}
