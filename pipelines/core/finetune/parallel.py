"""The workers of one training, and what they tell each other; a single one needs no other."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Workers:
    """Which worker this is, of how many.

    Attributes:
        rank: from 0.
        world: how many.

    """

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this one speaks for all."""
        return self.rank == 0

    def parallel(self, module: nn.Module) -> nn.Module:
        """`module` such that a backward pass leaves the mean of all workers' gradients."""
        if self.world == 1:
            return module
        parallel = DistributedDataParallel(module)
        # constants here, and sharing them at each pass would wait for ever for a worker that has fewer passes to make;
        # as an argument it has another name in torch 2.13 than before
        parallel.broadcast_buffers = False
        return parallel

    def quietly(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Within it, gradients stay one's own."""
        return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()

    def gather(self, own: torch.Tensor) -> torch.Tensor:
        """Rows of all workers, in the order of workers; their numbers of rows, and of columns, may differ by padding.

        Two-dimensional integer tensors of different widths are widened with -1.
        """
        if self.world == 1:
            return own
        shapes: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(shapes, tuple(own.shape))
        most = [max(s[d] for s in shapes) for d in range(own.ndim)]
        padded = own.new_full(most, -1)
        padded[tuple(slice(0, n) for n in own.shape)] = own
        parts = [torch.empty_like(padded) for _ in range(self.world)]
        torch.distributed.all_gather(parts, padded.contiguous())
        return torch.cat([part[: shape[0]] for part, shape in zip(parts, shapes, strict=True)])

    def share(self, values: Sequence[Any]) -> Sequence[Any]:
        """Consecutive part of what all have, for this worker."""
        n = len(values)
        return values[n * self.rank // self.world : n * (self.rank + 1) // self.world]

    def agreed(self, value: Any) -> Any:  # noqa: ANN401 - anything that can be sent
        """What the first worker says: all must decide alike, and rounding differs between processors."""
        if self.world == 1:
            return value
        found: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(found, value)
        return found[0]

    def total(self, value: float) -> float:
        """Sum over all workers."""
        if self.world == 1:
            return value
        found: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(found, value)
        return float(sum(found))
