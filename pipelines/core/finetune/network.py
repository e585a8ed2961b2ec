"""What learns: a Hugging Face model with its pooling, and the head an objective puts on it.

Weights stay in single precision; products are computed in bfloat16 where that is asked for and pays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import nn
from torch.nn import functional

from pipelines.core.forward import Forward

Several = tuple[Sequence[int], ...]
"""Texts of which the mean is asked."""


class Network(nn.Module):
    """A Hugging Face model and how it is asked."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - transformers has no types
        """Take a model on its device."""
        super().__init__()
        self.model: Any = model

    at_once = 256
    """Entries of one call that only reads."""

    @property
    def n_dimensions(self) -> int:
        """Length of the model's states."""
        return int(self.model.config.hidden_size)


class TextNetwork(Network):
    """Sequences of tokens to vectors, with gradients; what `core.forward` does for reading only."""

    at_once = 65_536  # cut here, once equal texts are found

    def __init__(
        self,
        model: Any,  # noqa: ANN401 - transformers has no types
        pooling: Literal["mean", "cls", "last"],
        pad: int,
        *,
        pack: bool = True,
    ) -> None:
        """Take a model on its device; `pad` fills up where texts are not packed one behind the other.

        A model that computes activations again is not packed: by then attention's layout of the batch is gone.
        """
        super().__init__(model)
        recomputes = any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
        self._forward = Forward(model, pooling, 0, pad, pack=pack and not recomputes)

    @property
    def n_dimensions(self) -> int:
        """Length of a vector; not always what the model's configuration calls its width, as with OPT."""
        with torch.no_grad():
            return self._forward.pooled([[0]]).shape[1]

    @property
    def is_packed(self) -> bool:
        """Whether texts lie one behind the other, without padding."""
        return self._forward.is_packed

    @property
    def max_tokens(self) -> int | None:
        """Tokens of a sequence that the model can read; None: any number."""
        return self._forward.max_tokens

    def forward(self, batch: Sequence[Sequence[int] | Several]) -> torch.Tensor:
        """(n, E) in single precision, in the order of `batch`: the pooled state of a text, the mean of several.

        A text has one token or more. The mean is of directions, so that each of them counts the same.
        """
        if not any(isinstance(entry, tuple) for entry in batch):
            return self._of_texts(cast("Sequence[Sequence[int]]", batch))
        parts = [entry if isinstance(entry, tuple) else (entry,) for entry in batch]
        vectors = self._of_texts([text for entry in parts for text in entry])
        lengths = torch.tensor([len(entry) for entry in parts], device=vectors.device)
        is_mean = torch.tensor([isinstance(entry, tuple) for entry in batch], device=vectors.device)
        vectors = torch.where(
            is_mean.repeat_interleave(lengths)[:, None], functional.normalize(vectors, dim=1), vectors
        )
        return torch.segment_reduce(vectors, "mean", lengths=lengths)

    def _of_texts(self, batch: Sequence[Sequence[int]]) -> torch.Tensor:
        # a text that occurs again is computed once, as popular items do in every batch, but for dropout, which differs
        varies = self.training and _has_dropout(self.model)
        keys = range(len(batch)) if varies else [tuple(tokens) for tokens in batch]
        # neighbours of one length are computed together, or padded less
        first = {key: number for number, key in reversed(list(enumerate(keys)))}
        order = sorted(first, key=lambda key: -len(batch[first[key]]))
        place = {key: number for number, key in enumerate(order)}
        pooled = self._pooled([batch[first[key]] for key in order])
        return pooled[torch.tensor([place[key] for key in keys], device=pooled.device)]

    def _pooled(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Of texts, the longest first."""
        if self.training or torch.is_grad_enabled() or not texts:
            return self._forward.pooled(texts)
        # reading only: any number of texts, in batches that caches hold
        batches = self._forward.batches([len(tokens) for tokens in texts])
        return torch.cat([self._forward.pooled([texts[i] for i in batch]) for batch in batches])


def _has_dropout(model: nn.Module) -> bool:
    """Whether any is on, in a module or in a number beside it (see `trainable.set_dropout`)."""
    return any(
        value > 0
        for module in model.modules()
        for name, value in vars(module).items()
        if isinstance(value, float)
        and ("dropout" in name or (name == "p" and isinstance(module, nn.Dropout)))
    )


class Learner(nn.Module):
    """All weights of a fine-tuning: the network's and the head's."""

    def __init__(self, network: Network, head: nn.Module) -> None:
        """Both on one device; a head of nothing is `nn.Identity`."""
        super().__init__()
        self.network: Network = network
        self.head = head

    @property
    def at_once(self) -> int:
        """Entries of one call that only reads."""
        return self.network.at_once

    def forward(self, batch: Sequence[Any]) -> torch.Tensor:
        """What the head makes of the network's answer."""
        out: torch.Tensor = self.head(self.network(batch))
        return out
