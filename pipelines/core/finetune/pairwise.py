"""User text and item text to a number: what the user would rate the item, or whether they buy it.

The user is what they say of themselves and the titles they liked, drawn anew each time an example is met. Apart, each
of these texts is read by itself, the user is the mean of their directions, and the head begins as a regression on the
vectors of the encoder as it is (linear probing, then fine-tuning: Kumar et al. 2022): learning starts from what needs
no fine-tuning, and a head of chance does not first undo what the encoder knows. Together, the encoder reads user and
item as one sequence, so that every word of one meets every word of the other. That knows more than two vectors do, has
more to learn, and costs a pass for each pair: it is for few candidates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from scipy.special import expit, logit
from sklearn.metrics import log_loss, roc_auc_score
from torch import nn
from torch.nn import functional

from pipelines.core.config import FinetuneConfig
from pipelines.core.finetune.augment import Augmentation
from pipelines.core.finetune.calibration import (
    Calibration,
    DoubleArray,
    affine,
    expected_calibration_error,
    platt,
    rating_calibration_error,
)
from pipelines.core.finetune.examples import HISTORY, LABEL
from pipelines.core.finetune.head import PairHead, linear_head, score_of_pairs
from pipelines.core.finetune.linear import fit_line, unseen_folds
from pipelines.core.finetune.network import Network, Several
from pipelines.core.finetune.objective import Draws, Encode, Prepared
from pipelines.core.finetune.tokens import Template, TokenArray, TokenTable
from pipelines.core.schema import ITEM_IDX, USER_IDX

_LABELS = "labels"
_LEAST_LABELS = 2
"""Different ones, that a regression can tell apart."""
_LEAST_SHARE = 1e-4
"""A mean label nearer to 0 or 1 than this starts as this far from it, or its logit would be infinite."""


@dataclass(frozen=True)
class Pairwise(ABC):
    """What both objectives share; rows have user_idx, item_idx, label and history (list): other items the user liked.

    Attributes:
        items: their texts; field 0 is the title.
        users: what they say of themselves, by user_idx; None where nobody says anything.
        template: of the model.
        mean: of the training labels; what the head answers before it has learnt anything.
        settings: of the fine-tuning.

    """

    items: TokenTable
    users: TokenTable | None
    template: Template
    mean: float
    settings: FinetuneConfig

    compares_examples = False
    is_logistic: ClassVar[bool]
    """Whether outputs are logits of 0 and 1, or numbers in the unit of the labels."""

    def head(self, network: Network) -> nn.Module:
        """At first the mean label for every pair."""
        if self._is_together:
            return linear_head(network.n_dimensions, [self._start()])
        return PairHead(network.n_dimensions, self._start())

    def begin(self, head: nn.Module, encode: Encode, rows: pa.Table) -> None:
        """Let a head of pairs apart begin as a regression on what the network, without a head, makes of examples."""
        if not isinstance(head, PairHead) or len(np.unique(labels_of(rows))) < _LEAST_LABELS:
            return
        features = head.features(encode(self.prepare(rows, None).sequences)).double().numpy()
        line = fit_line(features, labels_of(rows), unseen_folds(rows), logistic=self.is_logistic)
        head.begin(torch.tensor(line.weights, dtype=torch.float32), line.offset)

    def prepare(self, rows: pa.Table, draws: Draws | None) -> Prepared:
        """One sequence an example, or user and item; without `draws`, of the first titles of each history."""
        columns = (rows.column(c).to_pylist() for c in (USER_IDX, ITEM_IDX, HISTORY))
        sequences = [
            sequence
            for place, (user, item, history) in enumerate(zip(*columns, strict=True))
            for sequence in self._of_row(user, item, history, draws(place) if draws is not None else None)
        ]
        labels = torch.tensor(rows.column(LABEL).to_numpy(), dtype=torch.float32)
        return Prepared(sequences, {_LABELS: labels})

    def _of_row(
        self, user: int, item: int, history: Sequence[int], rng: np.random.Generator | None
    ) -> list[list[int] | Several]:
        liked = history if rng is None else rng.permutation(np.asarray(history, dtype=np.int64)).tolist()
        own: Sequence[int] | TokenArray = [] if self.users is None else self._text(self.users, user, rng)
        return self.sequences(own, liked, self._text(self.items, item, rng))

    def sequences(
        self, words: Sequence[int] | TokenArray, liked: Sequence[int], text: Sequence[int] | TokenArray
    ) -> list[list[int] | Several]:
        """What the encoder reads of one pair: both together, or what tells of the user, and the item.

        Args:
            words: tokens of what the user says.
            liked: items whose titles tell of the user; the first `max_history` are read.
            text: tokens of the item.

        """
        told = [words, *(self._title(i) for i in liked[: self.settings.max_history])]
        parts = [part for part in told if len(part)]
        if self._is_together:
            return [self._together(parts, text)]
        one, most = self.template.one, self.settings.max_tokens
        return [tuple(one(part, most) for part in parts or [[]]), one(text, most)]

    def _together(
        self, parts: Sequence[Sequence[int] | TokenArray], text: Sequence[int] | TokenArray
    ) -> list[int]:
        """User, then item; the item keeps half of the room at least, if it has so much to say."""
        most, middle = self.settings.max_tokens, self.template.middle
        free = max(most - len(self.template.prefix) - len(middle) - len(self.template.suffix), 0)
        room = free - min(len(text), free // 2)
        person = Template((), middle, ()).several(parts, room) if parts else []
        return self.template.several([person, text], most)

    def _text(self, table: TokenTable, row: int, rng: np.random.Generator | None) -> TokenArray:
        s = self.settings
        if rng is None:
            return table[row]
        return Augmentation(s.token_dropout, s.span_dropout, s.field_dropout)(table, row, rng)

    def _title(self, item: int) -> TokenArray:
        title: TokenArray = self.items[item][self.items.fields(item) == 0]
        return title

    def raw(self, encode: Encode, rows: pa.Table) -> DoubleArray:
        """(n,) what the network says: ratings, or logits."""
        return self.said(encode, self.prepare(rows, None).sequences)

    def said(self, encode: Encode, sequences: Sequence[Sequence[int] | Several]) -> DoubleArray:
        """(n,) the same of the sequences of n pairs."""
        if not sequences:
            return np.zeros(0)
        outputs = encode(sequences).double()
        k = 1 if self._is_together else 2
        found: DoubleArray = score_of_pairs(outputs.view(-1, k, outputs.shape[1])).numpy()
        return found

    @property
    def _is_together(self) -> bool:
        return self.settings.pair == "together"

    def measure(self, encode: Encode, rows: pa.Table) -> dict[str, float]:
        """`figures` of what the network says."""
        return self.figures(labels_of(rows), self.raw(encode, rows))

    def calibrated(self, encode: Encode, rows: pa.Table) -> Calibration:
        """How the outputs of a finished network should be read, from examples it has not learnt."""
        return self.line(self.raw(encode, rows), labels_of(rows))

    @abstractmethod
    def _start(self) -> float:
        """Output for the mean label."""

    @abstractmethod
    def figures(self, labels: DoubleArray, raw: DoubleArray) -> dict[str, float]:
        """How well outputs (n,) meet labels (n,); NaN where there are none."""

    @abstractmethod
    def line(self, raw: DoubleArray, labels: DoubleArray) -> Calibration:
        """The calibration that fits this kind of output."""


class Rating(Pairwise):
    """Squared error of a number in the unit of the labels."""

    metric = "negative_mae"
    is_logistic = False

    def _start(self) -> float:
        return self.mean

    def loss(self, outputs: torch.Tensor, columns: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(prediction - rating)^2, summed."""
        return functional.mse_loss(
            score_of_pairs(outputs), columns[_LABELS].to(outputs.device, outputs.dtype), reduction="sum"
        )

    def disagreement(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Squared difference, summed."""
        return functional.mse_loss(score_of_pairs(one), score_of_pairs(other), reduction="sum")

    def figures(self, labels: DoubleArray, raw: DoubleArray) -> dict[str, float]:
        """Mean absolute and root mean square error, and calibration error, in the unit of the labels."""
        gap = raw - labels
        mae = float(np.abs(gap).mean()) if len(gap) else float("nan")
        rmse = float(np.sqrt((gap**2).mean())) if len(gap) else float("nan")
        error = rating_calibration_error(labels, raw)
        return {self.metric: -mae, "mae": mae, "rmse": rmse, "calibration_error": error}

    def line(self, raw: DoubleArray, labels: DoubleArray) -> Calibration:
        """Least squares."""
        return affine(raw, labels)


class Purchase(Pairwise):
    """Binary cross-entropy of a probability; labels are 1 and 0, rows of both are wanted."""

    metric = "auc"
    is_logistic = True

    def _start(self) -> float:
        return float(logit(np.clip(self.mean, _LEAST_SHARE, 1 - _LEAST_SHARE)))

    def loss(self, outputs: torch.Tensor, columns: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """-log of the probability of what happened, summed."""
        labels = columns[_LABELS].to(outputs.device, outputs.dtype)
        return functional.binary_cross_entropy_with_logits(score_of_pairs(outputs), labels, reduction="sum")

    def disagreement(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Mean of both Kullback-Leibler divergences, summed; of two Bernoullis with logits a, b: (p - q)(a - b) / 2."""
        a, b = score_of_pairs(one), score_of_pairs(other)
        return 0.5 * ((torch.sigmoid(a) - torch.sigmoid(b)) * (a - b)).sum()

    def figures(self, labels: DoubleArray, raw: DoubleArray) -> dict[str, float]:
        """Area under the ROC curve (0.5 where all labels are one), log loss and ECE of logits."""
        if not len(labels):
            return dict.fromkeys((self.metric, "log_loss", "ece"), float("nan"))
        probability: npt.NDArray[np.float64] = expit(raw)
        return {
            self.metric: float(roc_auc_score(labels, raw)) if len(np.unique(labels)) > 1 else 0.5,
            "log_loss": float(log_loss(labels, probability, labels=[0.0, 1.0])),
            "ece": expected_calibration_error(labels, probability),
        }

    def line(self, raw: DoubleArray, labels: DoubleArray) -> Calibration:
        """Platt's."""
        return platt(raw, labels)


def labels_of(rows: pa.Table) -> DoubleArray:
    """(n,) labels of examples."""
    found: DoubleArray = rows.column(LABEL).to_numpy().astype(np.float64)
    return found
