"""Items that one user wants belong together: InfoNCE over the items of a batch.

An example is one item that a user wanted. Its query is another item of theirs, or several as one text; every item
of the batch is an answer, this one the right one. What is right for other reasons is masked: items the user also
wanted, and the query's own. Popular items are in more batches than others are, so their logit is reduced by the log
of how often (Bengio and Senecal 2003; Yi et al. 2019).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import nn
from torch.nn import functional

from pipelines.core.config import FinetuneConfig
from pipelines.core.finetune.augment import Augmentation
from pipelines.core.finetune.network import Network
from pipelines.core.finetune.objective import Draws, Encode, Prepared
from pipelines.core.finetune.tokens import Template, TokenTable

_K = 20
_PADDING = -1
SLICE = "slice"
_LONGEST_PROFILE = 50
"""Items of a history that a validation looks at."""


@dataclass(frozen=True)
class Contrastive:
    """The objective; examples have the columns item_idx and history (list): other items of the same user.

    Attributes:
        items: their texts.
        template: of the model.
        popularity: (I,) share of the examples whose item this is; 0 counts as the least of the others.
        neighbours: (I, m) items whose text is like an item's, nearest first; None without hard negatives.
        settings: of the fine-tuning.

    """

    items: TokenTable
    template: Template
    popularity: npt.NDArray[np.float64]
    neighbours: npt.NDArray[np.int64] | None
    settings: FinetuneConfig

    metric = "ndcg@20"
    compares_examples = True

    def head(self, network: Network) -> nn.Module:  # noqa: ARG002 - one shape for all objectives
        """None: the vectors themselves are what is wanted."""
        return nn.Identity()

    @property
    def _augment(self) -> Augmentation:
        s = self.settings
        return Augmentation(s.token_dropout, s.span_dropout, s.field_dropout)

    def prepare(self, rows: pa.Table, draws: Draws | None) -> Prepared:
        """Query, answer and hard negatives of each example, and who must not count as wrong."""
        s = self.settings
        answers = rows.column("item_idx").to_numpy()
        histories = rows.column("history").to_pylist()
        sequences: list[list[int]] = []
        columns: dict[str, list[list[int]]] = {"answers": [], "wanted": []}
        widest = s.max_history
        for place, (answer, history) in enumerate(zip(answers.tolist(), histories, strict=True)):
            rng = draws(place) if draws is not None else np.random.default_rng(place)
            asked = rng.permutation(history)[: widest if rng.random() < s.history_share else 1].tolist()
            wrong = self._hard(answer, {answer, *history}, rng)
            texts = [self._tokens(row, rng, chance=draws is not None) for row in (*asked, answer, *wrong)]
            query, others = texts[: len(asked)], texts[len(asked) :]
            sequences.append(self.template.several(query, s.max_tokens))
            sequences += [self.template.one(t, s.max_tokens) for t in others]
            columns["answers"].append([answer, *wrong])
            columns["wanted"].append([*asked, *history])
        return Prepared(sequences, {name: _padded(lists) for name, lists in columns.items()})

    def _tokens(self, row: int, rng: np.random.Generator, *, chance: bool) -> npt.NDArray[np.int32]:
        return self._augment(self.items, row, rng) if chance else self.items[row]

    def _hard(self, answer: int, wanted: set[int], rng: np.random.Generator) -> list[int]:
        """Similar items the user has not touched; any others where there are too few."""
        n = self.settings.hard_negatives
        if not n or self.neighbours is None:
            return []
        near = [i for i in self.neighbours[answer].tolist() if i not in wanted]
        chosen: list[int] = rng.permutation(near)[:n].tolist()
        while len(chosen) < n:
            chosen.append(int(rng.integers(len(self.items))))
        return chosen

    def loss(self, outputs: torch.Tensor, columns: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Cross-entropy of each query over all items of the batch, summed; with `matryoshka` the mean over lengths."""
        lengths = (outputs.shape[-1], *self.settings.matryoshka)
        losses = [self._of(functional.normalize(outputs[..., :n], dim=-1), columns) for n in lengths]
        return torch.stack(losses).mean()

    def _of(self, vectors: torch.Tensor, columns: Mapping[str, torch.Tensor]) -> torch.Tensor:
        queries, candidates = vectors[:, 0], vectors[:, 1:].flatten(0, 1)
        answers, wanted = (columns[name].to(vectors.device) for name in ("answers", "wanted"))
        items = answers.flatten()
        logits = queries @ candidates.T / self.settings.temperature
        logits = logits - self._log_share(items).to(logits.device)[None, :]
        row = torch.arange(len(queries), device=vectors.device)
        right = row * answers.shape[1]
        # beside what the user wants, the same item as another example's answer
        false = _occurs(torch.cat([wanted, answers[:, :1]], dim=1), items)
        false[row, right] = False
        return self._cross_entropy(logits.masked_fill(false, -torch.inf), right)

    def _cross_entropy(self, logits: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Summed; label smoothing spreads its share over what is not masked, where torch's own would be infinite."""
        eps = self.settings.label_smoothing
        logs = functional.log_softmax(logits, dim=1)
        own = logs.gather(1, right[:, None])[:, 0]
        if not eps:
            return -own.sum()
        possible = torch.isfinite(logits)
        spread = logs.masked_fill(~possible, 0.0).sum(dim=1) / possible.sum(dim=1)
        return -((1 - eps) * own + eps * spread).sum()

    def _log_share(self, items: torch.Tensor) -> torch.Tensor:
        """(n,) what frequent items are reduced by."""
        share = self.popularity[items.cpu().numpy()]
        least = self.popularity[self.popularity > 0].min(initial=1.0)
        log = np.log(np.maximum(share, least))
        return torch.as_tensor(self.settings.popularity_correction * log, dtype=torch.float32)

    def disagreement(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """1 - cosine, summed over sequences."""
        return (1 - functional.cosine_similarity(one, other, dim=-1)).sum()

    def measure(self, encode: Encode, rows: pa.Table) -> dict[str, float]:
        """Recall and NDCG at 20 of each example's item among the items of its slice in `rows` that the user has not.

        The user is the mean of the vectors of their history, as a text profile is. With a column `slice` (cold, warm),
        the figures are the mean over slices, as a build measures each by itself; without, all rows are one.
        """
        histories = [h[:_LONGEST_PROFILE] for h in rows.column("history").to_pylist()]
        answers = rows.column("item_idx").to_numpy()
        needed = np.unique(np.concatenate([answers, *[np.asarray(h, dtype=np.int64) for h in histories]]))
        candidates = np.unique(answers)
        vectors = functional.normalize(
            encode([self.template.one(self.items[i], self.settings.max_tokens) for i in needed.tolist()]),
            dim=1,
        ).numpy()
        at = {item: place for place, item in enumerate(needed.tolist())}
        profiles = np.stack([vectors[[at[i] for i in h]].mean(axis=0) for h in histories])
        scores = profiles @ vectors[[at[i] for i in candidates.tolist()]].T
        column = {item: place for place, item in enumerate(candidates.tolist())}
        own = np.array([column[a] for a in answers.tolist()])
        for row, history in enumerate(histories):
            scores[row, [column[i] for i in history if i in column and i != answers[row]]] = -np.inf
        kinds = np.array(rows.column(SLICE).to_pylist() if SLICE in rows.column_names else [""] * len(rows))
        means = []
        for kind in np.unique(kinds):
            mine = kinds == kind
            others = np.setdiff1d(np.arange(len(candidates)), own[mine])
            scores[np.ix_(mine, others)] = -np.inf
            rank = (scores[mine] > scores[mine, own[mine]][:, None]).sum(axis=1)
            gain = np.where(rank < _K, 1 / np.log2(rank + 2.0), 0.0)
            means.append(((rank < _K).mean(), gain.mean()))
        recall, ndcg = np.mean(means, axis=0)
        return {f"recall@{_K}": float(recall), f"ndcg@{_K}": float(ndcg)}


def _occurs(lists: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """(n, m) whether each of `items` (m,) is in each list (n, w); through the distinct ones, in n (w + m) steps."""
    distinct, which = torch.unique(items, return_inverse=True)
    place = torch.searchsorted(distinct, lists).clamp(max=len(distinct) - 1)
    row, column = torch.nonzero(distinct[place] == lists, as_tuple=True)
    found = torch.zeros(len(lists), len(distinct), dtype=torch.bool, device=items.device)
    found[row, place[row, column]] = True
    return found[:, which]


def _padded(lists: list[list[int]]) -> torch.Tensor:
    """(n, widest) with -1 where a list is shorter."""
    width = max((len(x) for x in lists), default=0)
    return torch.tensor([[*x, *[_PADDING] * (width - len(x))] for x in lists], dtype=torch.long).reshape(
        len(lists), width
    )
