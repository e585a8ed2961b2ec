"""How much of what an encoder knew before it was taught is left: its similarities of sentences that have no catalogue.

156 pairs of everyday sentences (general_pairs.json: English, Chinese, and one in each; from the same meaning to nothing
in common) are compared by the encoder as it was and as it is. What counts is their order, for fine-tuning may stretch
all similarities without harm: forgetting is 1 - Spearman's correlation of the two. The grades, given by hand, say
whether a change was for the worse.

Dimensions: n pairs, E dimensions of a vector.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import spearmanr
from torch.nn import functional

from pipelines.core.finetune.objective import Encode

DoubleArray = npt.NDArray[np.float64]

_MOST_UNKNOWN = 0.1
"""Share of a pair's tokens that the tokenizer may not know; beyond, the encoder never understood it."""
_LEAST = 10
"""Pairs for a correlation to say anything."""


@dataclass(frozen=True)
class GeneralPair:
    """Two sentences.

    Attributes:
        first: the one.
        second: the other.
        grade: from 0, nothing in common, to 5, the same meaning.
        languages: what they are written in.

    """

    first: str
    second: str
    grade: int
    languages: Literal["en", "zh", "en-zh"]


@cache
def general_pairs() -> tuple[GeneralPair, ...]:
    """The packaged pairs."""
    with (files("pipelines.core.finetune") / "general_pairs.json").open(encoding="utf-8") as handle:
        return tuple(GeneralPair(**pair) for pair in json.load(handle))


@dataclass(frozen=True)
class GeneralTexts:
    """Pairs as an encoder reads them.

    Attributes:
        sequences: 2n, first and second of a pair one after the other.
        grades: (n,).

    """

    sequences: list[list[int]]
    grades: DoubleArray

    @classmethod
    def of(cls, tokenizer: Any, pairs: Sequence[GeneralPair] | None = None) -> Self:  # noqa: ANN401
        """Tokenise the packaged pairs, or others; those the tokenizer does not know the words of are left out."""
        chosen = general_pairs() if pairs is None else pairs
        sequences, grades = [], []
        for pair in chosen:
            both = tokenizer([pair.first, pair.second])["input_ids"]
            tokens = [token for sequence in both for token in sequence]
            unknown = sum(token == tokenizer.unk_token_id for token in tokens)
            if all(both) and unknown <= _MOST_UNKNOWN * len(tokens):
                sequences += both
                grades.append(pair.grade)
        return cls(sequences, np.array(grades, dtype=np.float64))


@dataclass(frozen=True)
class General:
    """What an encoder makes of general texts.

    Attributes:
        similarities: (n,) cosines of the pairs.
        grades: (n,) by hand.
        anisotropy: mean cosine of any two of the texts; towards 1 all vectors point the same way.

    """

    similarities: DoubleArray
    grades: DoubleArray
    anisotropy: float

    @classmethod
    def of(cls, encode: Encode, texts: GeneralTexts) -> Self:
        """Measure by vectors; `encode` must give the network's own, not what a head makes of them."""
        if not texts.sequences:
            return cls(np.zeros(0), np.zeros(0), float("nan"))
        vectors = functional.normalize(encode(texts.sequences).to(torch.float64), dim=1).cpu().numpy()
        cosines = (vectors[::2] * vectors[1::2]).sum(axis=1)
        return cls(cosines, texts.grades, _mean_cosine(vectors))

    def figures(self, base: General | None = None) -> dict[str, float]:
        """For a report, beside the base model's where it is given; what too few pairs cannot tell is left out.

        agreement: rank correlation with the grades. anisotropy: see above. forgetting: 1 - rank correlation with the
        base's similarities: 0 where their order is the same, 1 where they have nothing to do with each other.
        shift: mean of what the similarities have more than the base's.
        """
        found = {"agreement": _correlation(self.similarities, self.grades), "anisotropy": self.anisotropy}
        if base is not None and len(self.grades):
            found["forgetting"] = 1.0 - _correlation(self.similarities, base.similarities)
            found["shift"] = float((self.similarities - base.similarities).mean())
        return {name: value for name, value in found.items() if np.isfinite(value)}


def reason_to_stop(figures: Mapping[str, float], most: float) -> str | None:
    """Why a training must end by finetune.max_forgetting = `most`; 0 is no limit."""
    forgetting = figures.get("forgetting", 0.0)
    return f"forgetting {forgetting:.3f} is above max_forgetting = {most}" if 0 < most < forgetting else None


def _correlation(a: DoubleArray, b: DoubleArray) -> float:
    """Spearman's; NaN with too few pairs, or where all values of one are equal."""
    if len(a) < _LEAST or not np.ptp(a) or not np.ptp(b):
        return float("nan")
    return float(spearmanr(a, b).statistic)


def _mean_cosine(vectors: DoubleArray) -> float:
    """Over all pairs of different rows: |sum v|^2 = n + 2 sum over pairs, for n vectors of length 1."""
    n = len(vectors)
    return float((np.square(vectors.sum(axis=0)).sum() - n) / (n * (n - 1)))
