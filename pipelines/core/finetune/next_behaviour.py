"""What comes next, in words: a decoder reads the titles of a history in order of time and goes on with the next one.

It is taught as a language model, on the next item's tokens only, and optionally to tell that item from others. An
item's score is the mean log-likelihood of its tokens after the history; `discount` takes off a share of the same
without any history, so that titles of common words do not win (at 1, pointwise mutual information per token).

Dimensions: n examples, k = 1 + negatives targets of each; the right one is first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import nn
from torch.nn import functional

from pipelines.core.config import FinetuneConfig
from pipelines.core.errors import ConfigError
from pipelines.core.finetune.augment import Augmentation
from pipelines.core.finetune.continuation import Pair
from pipelines.core.finetune.network import Network
from pipelines.core.finetune.objective import Draws, Encode, Prepared
from pipelines.core.finetune.tokens import TokenArray, TokenTable

FloatArray = npt.NDArray[np.float64]

_K = 20
_CANDIDATES_OF_A_QUERY = 100
"""In a validation, at most: each is a pass through a decoder."""
_OF_A_TARGET = 3
"""One part in so many of a sequence's tokens is kept for the item that comes next."""


@dataclass(frozen=True)
class Reading:
    """How a history becomes a prompt.

    Attributes:
        tokenizer: of the model.
        start: where every prompt begins: the beginning-of-text token, or the end-of-text token of one before.
        separator: after each text: a new line, or the end-of-text token where the tokenizer has none.

    """

    tokenizer: Any
    start: tuple[int, ...]
    separator: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Any) -> Self:  # noqa: ANN401 - transformers has no types
        """Found out from the tokenizer.

        Raises:
            ConfigError: it has no token to begin with.

        """
        first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if first is None:
            raise ConfigError(
                f"the tokenizer {type(tokenizer).__name__} has no token that begins or ends a text. Give encoder.model "
                "a causal language model such as GPT-2."
            )
        line = tokenizer("\n", add_special_tokens=False)["input_ids"]
        known = line and tokenizer.unk_token_id not in line
        return cls(tokenizer, (first,), tuple(line) if known else (first,))

    def tokens(self, text: str) -> list[int]:
        """Of a query."""
        found: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def prompt(self, texts: Sequence[TokenArray | Sequence[int]], most: int) -> list[int]:
        """Texts, oldest first, in at most `most` tokens: the oldest make room; the newest is cut if it has none."""
        room = most - len(self.start)
        kept: list[int] = []
        for text in reversed(texts):
            if kept and len(text) + len(self.separator) > room - len(kept):
                break
            kept = [*map(int, text[: max(room - len(self.separator), 0)]), *self.separator, *kept]
        return [*self.start, *kept]

    def target(self, text: TokenArray, most: int) -> list[int]:
        """What comes next; of an item without text, a separator."""
        return [*map(int, text[:most])] or list(self.separator)


@dataclass(frozen=True)
class NextBehaviour:
    """The objective; examples have the columns item_idx and history (list): items before it, oldest first.

    Attributes:
        items: their titles.
        reading: of the model.
        settings: of the fine-tuning.

    """

    items: TokenTable
    reading: Reading
    settings: FinetuneConfig

    metric = f"ndcg@{_K}"
    compares_examples = False

    def head(self, network: Network) -> nn.Module:  # noqa: ARG002 - one shape for all objectives
        """None: the language model's own."""
        return nn.Identity()

    def prepare(self, rows: pa.Table, draws: Draws | None) -> Prepared:
        """Pairs of each example, k of them; augmentation touches what is read, never what is to be said."""
        s = self.settings
        augment = Augmentation(s.token_dropout, s.span_dropout, s.field_dropout)
        pairs: list[Pair] = []
        answers, histories = rows.column("item_idx").to_pylist(), rows.column("history").to_pylist()
        for place, (answer, history) in enumerate(zip(answers, histories, strict=True)):
            rng = draws(place) if draws is not None else np.random.default_rng(place)
            read = history[-s.max_history :]
            texts = [self.items[i] if draws is None else augment(self.items, i, rng) for i in read]
            prompt = self.reading.prompt(texts, self._of_prompt)
            pairs += [(prompt, self._target(item)) for item in (answer, *self._others(answer, history, rng))]
        return Prepared(pairs, {})

    @property
    def _of_prompt(self) -> int:
        return self.settings.max_tokens - self.settings.max_tokens // _OF_A_TARGET

    def _target(self, item: int) -> list[int]:
        return self.reading.target(self.items[item], self.settings.max_tokens // _OF_A_TARGET)

    def _others(self, answer: int, history: Sequence[int], rng: np.random.Generator) -> list[int]:
        """Any items but these, to be told from the right one."""
        if not self.settings.candidate_loss:
            return []
        others = np.setdiff1d(np.arange(len(self.items)), [answer, *history])
        n = self.settings.negatives
        chosen: list[int] = rng.choice(
            others if len(others) else [answer], n, replace=len(others) < n
        ).tolist()
        return chosen

    def loss(self, outputs: torch.Tensor, columns: Mapping[str, torch.Tensor]) -> torch.Tensor:  # noqa: ARG002
        """Mean negative log-likelihood of the right item's tokens, summed over examples; outputs are (n, k, 2)."""
        mean = outputs[..., 0] / outputs[..., 1]
        loss = -mean[:, 0].sum()
        if mean.shape[1] > 1:
            right = torch.zeros(len(mean), dtype=torch.long, device=mean.device)
            told_apart = functional.cross_entropy(mean, right, reduction="sum")
            loss = loss + self.settings.candidate_loss * told_apart
        return loss

    def disagreement(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Squared difference of mean log-likelihoods, averaged over the k of an example and summed over examples."""
        gap = one[..., 0] / one[..., 1] - other[..., 0] / other[..., 1]
        return gap.square().mean(dim=-1).sum()

    def measure(self, encode: Encode, rows: pa.Table) -> dict[str, float]:
        """Recall and NDCG at 20 of each example's item, and the language model's loss.

        An item is ranked among at most 100 of the items of `rows`, drawn for each example, and at most
        `settings.candidates`: a decoder reads each of them. Figures are higher than among all items. Equal scores,
        such as of equal titles, share the mean of their ranks. `ndcg@20_discounted` is with all of the likelihood
        without history taken off, for choosing `discount`; `ndcg@20_plain` with none.
        """
        answers, histories = rows.column("item_idx").to_pylist(), rows.column("history").to_pylist()
        asked = [self._drawn(answers, row, histories[row]) for row in range(len(answers))]
        distinct = sorted(set(answers))
        alone = self._likelihood(encode, [(list(self.reading.start), item) for item in distinct])
        at = {item: place for place, item in enumerate(distinct)}
        prompts = [self._prompt(history) for history in histories]
        pairs = [(p, item) for p, drawn in zip(prompts, asked, strict=True) for item in drawn]
        after = np.split(self._likelihood(encode, pairs), np.cumsum([len(d) for d in asked])[:-1])
        before = [alone[[at[item] for item in drawn]] for drawn in asked]
        found = {"loss": -float(np.mean([scores[0] for scores in after]))}
        for name, discount in (("", self.settings.discount), ("_plain", 0.0), ("_discounted", 1.0)):
            ranks = np.array([_rank(a - discount * b) for a, b in zip(after, before, strict=True)])
            gain = np.where(ranks < _K, 1 / np.log2(ranks + 2.0), 0.0)
            found |= {
                f"recall@{_K}{name}": float((ranks < _K).mean()),
                f"ndcg@{_K}{name}": float(gain.mean()),
            }
        return found

    def _drawn(self, answers: Sequence[int], row: int, history: Sequence[int]) -> list[int]:
        """The right item first, then others of the validation that the user has not met."""
        others = np.setdiff1d(answers, [answers[row], *history])
        most = min(self.settings.candidates, _CANDIDATES_OF_A_QUERY) - 1
        if len(others) > most:
            others = np.random.default_rng([self.settings.seed, row]).choice(others, most, replace=False)
        return [answers[row], *others.tolist()]

    def _prompt(self, history: Sequence[int]) -> list[int]:
        read = history[-self.settings.max_history :]
        return self.reading.prompt([self.items[i] for i in read], self._of_prompt)

    def _likelihood(self, encode: Encode, pairs: Sequence[tuple[list[int], int]]) -> FloatArray:
        """Mean log-likelihood of items' tokens after prompts."""
        if not pairs:
            return np.zeros(0)
        found = encode([(prompt, self._target(item)) for prompt, item in pairs]).double().numpy()
        mean: FloatArray = found[:, 0] / found[:, 1]
        return mean

    def answer(
        self, encode: Encode, query: str | Sequence[int], n: int, among: Sequence[int] | None = None
    ) -> list[tuple[int, float]]:
        """The n items most likely to come next, best first, with their scores.

        Args:
            encode: such as `ContinuationNetwork.read`.
            query: words of somebody new, or a history of items, oldest first.
            n: items at most.
            among: items to choose from, such as the first hundreds of a search; all of them by default, which takes
                a pass through the decoder for each.

        """
        if isinstance(query, str):
            prompt = self.reading.prompt([self.reading.tokens(query)], self._of_prompt)
        else:
            prompt = self._prompt(query)
        known = set() if isinstance(query, str) else set(query)
        items = [i for i in (range(len(self.items)) if among is None else among) if i not in known]
        scores = self._likelihood(encode, [(prompt, item) for item in items])
        if self.settings.discount:
            start = list(self.reading.start)
            scores = scores - self.settings.discount * self._likelihood(encode, [(start, i) for i in items])
        best = np.argsort(-scores, kind="stable")[:n]
        return [(items[i], float(scores[i])) for i in best]


def _rank(scores: FloatArray) -> float:
    """Place of the first, from 0; the mean of their places where scores are equal."""
    return float((scores[1:] > scores[0]).sum() + 0.5 * (scores[1:] == scores[0]).sum())
