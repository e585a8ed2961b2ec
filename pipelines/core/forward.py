"""Tokens to vectors through a Hugging Face model, a batch at a time.

Where the model allows it the texts of a batch lie one behind the other (packing.py); else they are padded to
the longest. Either way what comes out is the states of all tokens, text after text, and pooling sees no
difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch.nn import functional

from pipelines.core.packing import enable_packing, packed_states

_TOKENS_PER_BATCH = {"cpu": 2048, "cuda": 65_536}
"""Where nothing else is asked for: what a core's caches hold, and what fills a GPU."""


class Forward:
    """Batches of tokens to vectors of length 1, by `model` and one way of pooling.

    `budget` is the tokens of a batch, at most; 0 leaves the choice to the device.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401
        pooling: Literal["mean", "cls", "last"],
        budget: int,
        pad: int,
        *,
        pack: bool = True,
    ) -> None:
        """Take a model that is where it will run; `pad` is the token that fills up, where padding is needed."""
        self.model = model
        model.config.use_cache = (
            False  # decoders would keep keys and values for a next token that never comes
        )
        self.pooling = pooling
        self.budget = budget or _TOKENS_PER_BATCH.get(self.device.type, 2048)
        self.pad = pad
        self.first_position = _first_position(model)
        self.is_packed = pack and enable_packing(model, self.first_position, self.budget)

    @property
    def device(self) -> torch.device:
        """Where the model is; whoever trains it may move it after this was made."""
        found: torch.device = self.model.device
        return found

    @property
    def max_tokens(self) -> int | None:
        """Tokens of a text that the model can read; None: any number, as with the relative positions of XLNet."""
        limit = getattr(self.model.config, "max_position_embeddings", None)
        return None if limit is None or limit < 0 else int(limit) - self.first_position

    def batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Indices of the texts of each batch, longest text first; texts without tokens are in none."""
        return length_batches(lengths, self.budget, padded=not self.is_packed)

    def __call__(self, batch: Sequence[Sequence[int]]) -> torch.Tensor:
        """(texts, E) vectors, single precision, on the model's device, of texts with one token or more each."""
        with torch.inference_mode():
            return functional.normalize(self.pooled(batch), dim=1)

    def pooled(self, batch: Sequence[Sequence[int]]) -> torch.Tensor:
        """The same before they are brought to length 1, and with gradients where those are on."""
        states = (
            packed_states(self.model, batch, self.first_position)
            if self.is_packed
            else self._padded_states(batch)
        )
        lengths = torch.tensor([len(tokens) for tokens in batch], device=self.device)
        ends = lengths.cumsum(0)
        if self.pooling == "cls":
            return states[ends - lengths].float()
        if self.pooling == "last":
            return states[ends - 1].float()
        # summed in single precision: bfloat16 loses digits over a few hundred tokens
        return torch.segment_reduce(states.float(), "mean", lengths=lengths)

    def _padded_states(self, batch: Sequence[Sequence[int]]) -> torch.Tensor:
        """(tokens, E) last hidden states, text after text, by the model's own attention."""
        lengths = torch.tensor([len(tokens) for tokens in batch])
        width = int(lengths.max())
        ids = torch.full((len(batch), width), self.pad)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = torch.tensor(tokens)
        mask = (torch.arange(width)[None, :] < lengths[:, None]).long().to(self.device)
        states: torch.Tensor = self.model(
            input_ids=ids.to(self.device), attention_mask=mask
        ).last_hidden_state
        return states[mask.bool()]


def _first_position(model: Any) -> int:  # noqa: ANN401
    """RoBERTa and its kin count positions from their padding index on: so many are not for tokens."""
    positions = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding: int | None = getattr(positions, "padding_idx", None)
    return 0 if padding is None else padding + 1


def length_batches(lengths: Sequence[int], budget: int, *, padded: bool) -> list[list[int]]:
    """Indices sorted by length, longest first, cut to `budget` tokens, of which padding is a part where there is any.

    A text longer than the budget is a batch of its own; one of no tokens is in none.
    """
    order = sorted((i for i, n in enumerate(lengths) if n), key=lambda i: -lengths[i])
    batches: list[list[int]] = []
    room = width = 0
    for i in order:
        cost = width if padded else lengths[i]
        if not batches or cost > room:
            batches.append([])
            room, width = budget, lengths[i]
            cost = lengths[i]
        batches[-1].append(i)
        room -= cost
    return batches
