"""What learns: a Hugging Face model with its pooling, and the head an objective puts on it.

Weights stay in single precision; products are computed in bfloat16 where that is asked for and pays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from pipelines.core.forward import Forward


class TextNetwork(nn.Module):
    """Sequences of tokens to vectors, with gradients; what `core.forward` does for reading only."""

    def __init__(
        self,
        model: Any,  # noqa: ANN401 - transformers has no types
        pooling: Literal["mean", "cls", "last"],
        pad: int,
        *,
        pack: bool = True,
    ) -> None:
        """Take a model on its device; `pad` fills up where texts are not packed one behind the other."""
        super().__init__()
        self.model = model
        self._forward = Forward(model, pooling, 0, pad, pack=pack)

    @property
    def n_dimensions(self) -> int:
        """Length of a vector."""
        return int(self.model.config.hidden_size)

    @property
    def is_packed(self) -> bool:
        """Whether texts lie one behind the other, without padding."""
        return self._forward.is_packed

    @property
    def max_tokens(self) -> int | None:
        """Tokens of a sequence that the model can read; None: any number."""
        return self._forward.max_tokens

    def forward(self, batch: Sequence[Sequence[int]]) -> torch.Tensor:
        """(texts, E) pooled states in single precision, in the order of `batch`; each has one token or more."""
        # neighbours of one length are computed together, or padded less
        order = sorted(range(len(batch)), key=lambda i: -len(batch[i]))
        back = torch.empty(len(order), dtype=torch.long)
        back[order] = torch.arange(len(order))
        pooled = self._forward.pooled([batch[i] for i in order])
        return pooled[back.to(pooled.device)]


class Learner(nn.Module):
    """All weights of a fine-tuning: the network's and the head's."""

    def __init__(self, network: TextNetwork, head: nn.Module) -> None:
        """Both on one device; a head of nothing is `nn.Identity`."""
        super().__init__()
        self.network: TextNetwork = network
        self.head = head

    def forward(self, batch: Sequence[Sequence[int]]) -> torch.Tensor:
        """What the head makes of the network's answer."""
        out: torch.Tensor = self.head(self.network(batch))
        return out
