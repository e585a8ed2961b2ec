"""Texts that differ a little each time they are read, so that none is learnt by heart.

All of it works on tokens that were made once. What is left out, is left out whole: a masked token would be something
that never occurs when the encoder is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.core.finetune.tokens import TokenArray, TokenTable


@dataclass(frozen=True)
class Augmentation:
    """Shares as in FinetuneConfig.

    Attributes:
        tokens: of the tokens, each left out by itself.
        span: of the text, left out as one piece.
        fields: chance of each field but the first to be left out.

    """

    tokens: float = 0.0
    span: float = 0.0
    fields: float = 0.0

    def __call__(self, table: TokenTable, row: int, rng: np.random.Generator) -> TokenArray:
        """Tokens of one text; one at least, where it has any."""
        table, row = table.wording(row, rng)
        tokens = table[row]
        if not len(tokens) or not (self.tokens or self.span or self.fields):
            return tokens
        kept = np.ones(len(tokens), dtype=bool)
        if self.fields:
            kept &= self._fields(table.fields(row), rng)
        if self.span:
            kept &= self._span(len(tokens), rng)
        if self.tokens:
            kept &= rng.random(len(tokens)) >= self.tokens
        if not kept.any():
            kept[rng.integers(len(tokens))] = True
        return tokens[kept]

    def _fields(self, fields: npt.NDArray[np.int8], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
        present = np.unique(fields)
        dropped = present[1:][rng.random(len(present) - 1) < self.fields]
        return ~np.isin(fields, dropped)

    def _span(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
        length = round(self.span * n)
        start = int(rng.integers(n - length + 1))
        place = np.arange(n)
        return (place < start) | (place >= start + length)
