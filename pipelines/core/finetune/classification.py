"""A text to one of several classes: sentiment, risk, intent, from as few as a hundred examples.

Dimensions: n examples, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from scipy.special import softmax
from sklearn.metrics import accuracy_score, f1_score, log_loss
from torch import nn
from torch.nn import functional

from pipelines.core.config import FinetuneConfig
from pipelines.core.finetune.augment import Augmentation
from pipelines.core.finetune.calibration import Calibration, DoubleArray, temperature, top_class_error
from pipelines.core.finetune.examples import LABEL
from pipelines.core.finetune.head import linear_head
from pipelines.core.finetune.labels import TEXT_IDX
from pipelines.core.finetune.network import Network
from pipelines.core.finetune.objective import Draws, Encode, Prepared
from pipelines.core.finetune.tokens import Template, TokenTable

IntArray = npt.NDArray[np.int64]
_LABELS = "labels"


@dataclass(frozen=True)
class Classification:
    """The objective; examples have the columns text_idx and label, a class number.

    Attributes:
        texts: that have labels.
        template: of the model.
        weights: (C,) of the classes; ones where all rows weigh the same, see `class_weights`.
        settings: of the fine-tuning.

    """

    texts: TokenTable
    template: Template
    weights: npt.NDArray[np.float32]
    settings: FinetuneConfig

    metric = "macro_f1"
    compares_examples = False

    def head(self, network: Network) -> nn.Module:
        """A logit for each class, at first all alike."""
        return linear_head(network.n_dimensions, [0.0] * len(self.weights))

    def prepare(self, rows: pa.Table, draws: Draws | None) -> Prepared:
        """One sequence an example."""
        s = self.settings
        augment = Augmentation(s.token_dropout, s.span_dropout, s.field_dropout)
        numbers = rows.column(TEXT_IDX).to_pylist()
        sequences = [
            self.template.one(
                self.texts[row] if draws is None else augment(self.texts, row, draws(place)), s.max_tokens
            )
            for place, row in enumerate(numbers)
        ]
        return Prepared(sequences, {_LABELS: torch.tensor(_labels(rows))})

    def loss(self, outputs: torch.Tensor, columns: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Cross-entropy, each class with its weight, summed."""
        return functional.cross_entropy(
            outputs[:, 0], columns[_LABELS].to(outputs.device), torch.from_numpy(self.weights).to(outputs),
            label_smoothing=self.settings.label_smoothing, reduction="sum",
        )  # fmt: skip

    def disagreement(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Mean of both Kullback-Leibler divergences, summed (Liang et al. 2021)."""
        p, q = functional.log_softmax(one, dim=-1), functional.log_softmax(other, dim=-1)
        return 0.5 * ((p.exp() - q.exp()) * (p - q)).sum()

    def logits(self, encode: Encode, rows: pa.Table) -> DoubleArray:
        """(n, C) outputs of the network."""
        outputs: DoubleArray = encode(self.prepare(rows, None).sequences).double().numpy()
        return outputs.reshape(-1, len(self.weights))

    def measure(self, encode: Encode, rows: pa.Table) -> dict[str, float]:
        """Macro-F1 over all C classes, accuracy, log loss, and calibration error of the likeliest class."""
        return class_figures(_labels(rows), self.logits(encode, rows))

    def calibrated(self, encode: Encode, rows: pa.Table) -> Calibration:
        """The temperature of a finished network, from examples it has not learnt."""
        return temperature(self.logits(encode, rows), _labels(rows))


def class_figures(labels: IntArray, logits: DoubleArray) -> dict[str, float]:
    """How well logits (n, C) meet labels (n,); NaN where there are none. No row counts more than another."""
    if not len(labels):
        return dict.fromkeys((Classification.metric, "accuracy", "log_loss", "ece"), float("nan"))
    classes, guess = np.arange(logits.shape[1]), logits.argmax(axis=1)
    probabilities: DoubleArray = softmax(logits, axis=1)
    return {
        Classification.metric: float(
            f1_score(labels, guess, labels=classes, average="macro", zero_division=0.0)
        ),
        "accuracy": float(accuracy_score(labels, guess)),
        "log_loss": float(log_loss(labels, probabilities, labels=classes)),
        "ece": top_class_error(labels, probabilities),
    }


def class_weights(labels: IntArray, n_classes: int) -> npt.NDArray[np.float32]:
    """(C,) such that all classes weigh the same in sum and the mean over `labels` is 1; 0 for one without rows."""
    counts = np.bincount(labels, minlength=n_classes)
    present = counts > 0
    return np.where(present, len(labels) / (present.sum() * np.maximum(counts, 1)), 0.0).astype(np.float32)


def _labels(rows: pa.Table) -> IntArray:
    found: IntArray = rows.column(LABEL).to_numpy().astype(np.int64)
    return found
