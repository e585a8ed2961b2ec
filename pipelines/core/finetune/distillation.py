"""A smaller encoder learns to say what the whole one says: no behaviour and no labels, only texts.

Two things are asked of a text's vector: that it lies where the whole encoder's does, and that the cosines of a batch's
texts among one another are the same. Of its first numbers alone, for each length of `matryoshka`, the second is asked,
so that a vector may be cut there (Kusupati et al. 2022; the loss on cosines as in Park et al. 2019).

Dimensions: n examples of a batch, E of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import nn
from torch.nn import functional

from pipelines.core.config import FinetuneConfig
from pipelines.core.encoder import resolve_dtype
from pipelines.core.errors import InputError
from pipelines.core.finetune.augment import Augmentation
from pipelines.core.finetune.network import Network, TextNetwork
from pipelines.core.finetune.objective import Draws, Encode, Prepared
from pipelines.core.finetune.reading import reader
from pipelines.core.finetune.tokens import Template, TokenTable

TABLE, ROW = "table", "row"
"""Columns of an example: number of its token table, and row there."""
_NEIGHBOURS = 10
_TEXTS_PER_HELD = 10
_LEAST_HELD = 2
"""A single text has no neighbours."""
_OF_COSINES = 20.0
"""Weight of the cosines' squared errors, a few hundredths, beside the distance to the whole encoder's vector."""


@dataclass(frozen=True)
class Distillation:
    """The objective; examples have the columns table and row.

    Attributes:
        tables: token tables, in the order of their numbers.
        template: of the model.
        teacher: the whole encoder, which does not learn; on the learner's device.
        settings: of the fine-tuning.

    """

    tables: tuple[TokenTable, ...]
    template: Template
    teacher: TextNetwork
    settings: FinetuneConfig

    metric = f"neighbours@{_NEIGHBOURS}"
    compares_examples = True

    def head(self, network: Network) -> nn.Module:  # noqa: ARG002 - one shape for all objectives
        """None: the vectors themselves are what is wanted."""
        return nn.Identity()

    def prepare(self, rows: pa.Table, draws: Draws | None) -> Prepared:
        """One text of each example, and what the whole encoder makes of it."""
        s = self.settings
        augment = Augmentation(s.token_dropout, s.span_dropout, s.field_dropout)
        whole, read = [], []
        for place, (table, row) in enumerate(self._places(rows)):
            tokens = self.tables[table][row]
            whole.append(self.template.one(tokens, s.max_tokens))
            changed = tokens if draws is None else augment(self.tables[table], row, draws(place))
            read.append(self.template.one(changed, s.max_tokens))
        return Prepared(read, {"teacher": self._taught(whole)})

    def loss(self, outputs: torch.Tensor, columns: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Distance to the whole encoder's vectors and, for each length, of the cosines to its own; summed."""
        own, wanted = outputs[:, 0], columns["teacher"].to(outputs.device)
        lost = (1 - functional.cosine_similarity(own, wanted, dim=1)).sum()
        cosines = wanted @ wanted.T
        lengths = (own.shape[1], *self.settings.matryoshka)
        for length in lengths:
            short = functional.normalize(own[:, :length], dim=1)
            errors = (short @ short.T - cosines).square().mean(dim=1).sum()
            lost = lost + _OF_COSINES * errors / len(lengths)
        return lost

    def disagreement(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """1 - cosine, summed over sequences."""
        return (1 - functional.cosine_similarity(one, other, dim=-1)).sum()

    def measure(self, encode: Encode, rows: pa.Table) -> dict[str, float]:
        """Share of a text's 10 nearest in `rows`, by the whole encoder, that are so by this one; and the mean cosine.

        For each length of `matryoshka` the share by so many numbers as well.
        """
        texts = [
            self.template.one(self.tables[t][r], self.settings.max_tokens) for t, r in self._places(rows)
        ]
        vectors, wanted = functional.normalize(encode(texts), dim=1), self._taught(texts)
        expected = _nearest(wanted)
        found = {self.metric: _overlap(expected, _nearest(vectors))}
        for length in self.settings.matryoshka:
            short = functional.normalize(vectors[:, :length], dim=1)
            found[f"{self.metric} of {length}"] = _overlap(expected, _nearest(short))
        return found | {"cosine": float((vectors * wanted).sum(dim=1).mean())}

    def _places(self, rows: pa.Table) -> list[tuple[int, int]]:
        return list(zip(rows.column(TABLE).to_pylist(), rows.column(ROW).to_pylist(), strict=True))

    def _taught(self, sequences: list[list[int]]) -> torch.Tensor:
        """(n, E) vectors of length 1 by the whole encoder, on the CPU."""
        bfloat16 = resolve_dtype(self.settings.precision) == "bfloat16"
        return functional.normalize(reader(self.teacher, bfloat16=bfloat16)(sequences), dim=1)


def text_rows(tables: Sequence[TokenTable], settings: FinetuneConfig) -> tuple[pa.Table, pa.Table]:
    """Rows of training and of validation: every text that has any tokens, in a random order.

    Raises:
        InputError: there are too few.

    """
    places = [(t, r) for t, table in enumerate(tables) for r in range(len(table)) if len(table[r])]
    least = _LEAST_HELD * _TEXTS_PER_HELD
    if len(places) < least:
        raise InputError(
            f"finetune.objective = 'distillation': {len(places)} texts of items and users; expected {least} or more, "
            f"of which one in {_TEXTS_PER_HELD} is held out."
        )
    held = min(max(settings.validation_rows, _LEAST_HELD), len(places) // _TEXTS_PER_HELD)
    shuffled = np.random.default_rng([settings.seed, 4]).permutation(np.array(places, dtype=np.int64))
    rows = pa.table({TABLE: shuffled[:, 0], ROW: shuffled[:, 1]})
    return rows.slice(held), rows.slice(0, held)


def _nearest(vectors: torch.Tensor) -> npt.NDArray[np.bool_]:
    """(n, n) whether a text is among the nearest of another."""
    scores = vectors @ vectors.T
    scores.fill_diagonal_(-torch.inf)
    near = torch.zeros(scores.shape, dtype=torch.bool)
    near.scatter_(1, scores.topk(min(_NEIGHBOURS, max(len(vectors) - 1, 0)), dim=1).indices, value=True)
    return near.numpy()


def _overlap(expected: npt.NDArray[np.bool_], found: npt.NDArray[np.bool_]) -> float:
    return float((expected & found).sum() / expected.sum()) if expected.any() else float("nan")
