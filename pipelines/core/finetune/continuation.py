"""A decoder as a function of two texts: how likely it is to go on with the second after the first.

Word scores are computed at the places of the second text only: over a vocabulary of 50,000 they cost more than the
layers do. Texts are padded, not packed: places after a text's end change nothing in a causal network, so it needs no
mask, and reads one prompt before many continuations once.

Dimensions: m pairs, T tokens of the longest, E numbers of a state, V words.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from pipelines.core.errors import ConfigError
from pipelines.core.finetune.network import Network

Pair = tuple[Sequence[int], Sequence[int]]
"""Tokens of a prompt and of what follows, each one or more."""

_STATES_AT_ONCE = 1024
"""Their word scores are held together: 200 MB at 50,000 words."""
_PAIRS_AT_ONCE = 256
_TOLERANCE = 1e-3


class ContinuationNetwork(Network):
    """Pairs of prompt and target to (m, 2): log-likelihood of the target's tokens, summed, and their number."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - transformers has no types
        """Take a causal language model on its device.

        Raises:
            ConfigError: it is no causal one, or its word scores are more than a product of states.

        """
        super().__init__(model)
        model.config.use_cache = False
        self._check()

    @property
    def max_tokens(self) -> int | None:
        """Tokens of prompt and target together that the model can read; None: any number."""
        limit = getattr(self.model.config, "max_position_embeddings", None)
        return None if limit is None or limit < 0 else int(limit)

    def forward(self, batch: Sequence[Pair]) -> torch.Tensor:
        """(m, 2) log-likelihood and number of tokens; a prompt is read once for neighbours that share it."""
        if torch.is_grad_enabled():
            return self._apart(batch)
        groups = [list(group) for _, group in itertools.groupby(batch, key=lambda pair: list(pair[0]))]
        if len(groups) == len(batch):
            return self._apart(batch)
        return torch.cat([self._after_one(group[0][0], [target for _, target in group]) for group in groups])

    def read(self, batch: Sequence[Pair]) -> torch.Tensor:
        """The same of any number of pairs, without gradients and on the CPU."""
        starts = range(0, len(batch), _PAIRS_AT_ONCE)
        with torch.inference_mode():
            parts = [self(batch[start : start + _PAIRS_AT_ONCE]).cpu() for start in starts]
        return torch.cat(parts) if parts else torch.zeros(0, 2)

    def _apart(self, batch: Sequence[Pair]) -> torch.Tensor:
        """Each pair as a sequence of its own."""
        ids = self._padded([[*prompt, *target] for prompt, target in batch])
        states = self._body(input_ids=ids).last_hidden_state
        # the state before a token is what foretells it
        places = [range(len(prompt) - 1, len(prompt) + len(target) - 1) for prompt, target in batch]
        row = torch.tensor([i for i, place in enumerate(places) for _ in place])
        column = torch.tensor([p for place in places for p in place])
        return self._summed(states[row, column], [target for _, target in batch])

    def _after_one(self, prompt: Sequence[int], targets: Sequence[Sequence[int]]) -> torch.Tensor:
        """Many targets after one prompt, whose keys and values are kept."""
        before = self._body(input_ids=self._padded([prompt]), use_cache=True)
        states = before.last_hidden_state[:, -1:].expand(len(targets), -1, -1)
        if max(map(len, targets)) > 1:
            kept = before.past_key_values
            kept.batch_repeat_interleave(len(targets))
            ids = self._padded([target[:-1] for target in targets])
            after = self._body(input_ids=ids, past_key_values=kept, use_cache=True).last_hidden_state
            states = torch.cat([states, after], dim=1)
        taken = [states[i, : len(target)] for i, target in enumerate(targets)]
        return self._summed(torch.cat(taken), targets)

    def _summed(self, states: torch.Tensor, targets: Sequence[Sequence[int]]) -> torch.Tensor:
        """(m, 2) from the states (tokens of all targets, E) that foretell them."""
        words = torch.tensor(list(itertools.chain.from_iterable(targets)), device=states.device)
        scores = self.model.get_output_embeddings()
        logs = [
            -functional.cross_entropy(scores(part).float(), right, reduction="none")
            for part, right in zip(
                torch.split(states, _STATES_AT_ONCE), torch.split(words, _STATES_AT_ONCE), strict=True
            )
        ]
        lengths = torch.tensor([len(target) for target in targets], device=states.device)
        summed = torch.segment_reduce(torch.cat(logs), "sum", lengths=lengths)
        return torch.stack([summed, lengths.to(summed.dtype)], dim=1)

    @property
    def _body(self) -> Any:  # noqa: ANN401
        return self.model.get_decoder()

    def _padded(self, batch: Sequence[Sequence[int]]) -> torch.Tensor:
        width = max(map(len, batch))
        rows = [[*tokens, *[0] * (width - len(tokens))] for tokens in batch]
        return torch.tensor(rows, device=self.model.device)

    def _check(self) -> None:
        name = type(self.model).__name__
        if self.model.get_output_embeddings() is None:
            raise ConfigError(f"{name} foretells no words. Give encoder.model a causal language model.")
        prompt, target = [1, 2, 3], [4, 5]
        with torch.no_grad():
            found = float(self._apart([(prompt, target[:1])])[0, 0])
            scores = self.model(input_ids=self._padded([[*prompt, *target]])).logits[0, len(prompt) - 1]
            expected = float(functional.log_softmax(scores.float(), dim=-1)[target[0]])
        if abs(found - expected) > _TOLERANCE * abs(found):
            raise ConfigError(
                f"{name} looks ahead, or changes word scores after its last matrix: a token's log-likelihood is "
                f"{found:.4f} by the states before it and {expected:.4f} by the model. Give encoder.model a causal "
                "language model such as GPT-2, Llama or Qwen2."
            )
