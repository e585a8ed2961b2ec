"""Which words a text uses, as a short vector: TF-IDF reduced by an SVD (latent semantic analysis).

Dimensions: n texts, V terms, L directions.

A sentence encoder knows what a text means and forgets what it says: model numbers, materials, names. Words know
these and nothing else. Side by side in one profile they place cold items better than either (docs/decisions/0009).
Terms, idf and directions come from the texts of items that the model knows, and from no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp

from pipelines.core.blend import normalize
from pipelines.core.config import LexicalConfig
from pipelines.core.errors import ArtefactError
from pipelines.core.storage import write_table
from pipelines.core.tokens import tokenize

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import CountVectorizer

FloatArray = npt.NDArray[np.float32]

_LEAST_TEXTS = 3
"""With fewer there is no frequency to speak of."""
_LEAST_LENGTH = 1e-4
"""Of what the directions hold of a text whose terms have length 1."""


@cache
def _stop_words() -> frozenset[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS  # noqa: PLC0415 - half a second of every command

    return frozenset(ENGLISH_STOP_WORDS)


def terms_of(text: str) -> list[str]:
    """Tokens of a text that may be terms."""
    stop_words = _stop_words()
    return [t for t in tokenize(text) if t not in stop_words]


@dataclass(frozen=True)
class LexicalModel:
    """Turns texts into vectors.

    Attributes:
        terms: (V,) in the order of the rows of `directions`.
        idf: (V,).
        directions: (V, L); L is 0 where there was nothing to learn terms from.

    """

    terms: list[str]
    idf: FloatArray
    directions: FloatArray

    @property
    def width(self) -> int:
        """L."""
        return int(self.directions.shape[1])

    @cached_property
    def _counter(self) -> CountVectorizer:
        from sklearn.feature_extraction.text import CountVectorizer  # noqa: PLC0415 - as for `_stop_words`

        return CountVectorizer(analyzer=terms_of, vocabulary={t: n for n, t in enumerate(self.terms)})

    def transform(self, texts: Sequence[str]) -> FloatArray:
        """(n, L) vectors of length 1; zeros for a text without any known term, or without any in the directions."""
        if not self.width or not len(texts):
            return np.zeros((len(texts), self.width), dtype=np.float32)
        weighed = _weigh(self._counter.transform(texts), self.idf)
        reduced = np.asarray(weighed @ self.directions, dtype=np.float32)
        # of a text that lies beside all directions rounding is left, which must not be stretched to length 1
        reduced[np.linalg.norm(reduced, axis=1) < _LEAST_LENGTH] = 0.0
        return normalize(reduced)


def fit(texts: Sequence[str], settings: LexicalConfig, seed: int) -> LexicalModel:
    """Learn terms and directions.

    Args:
        texts: of the items that may be learnt from.
        settings: how many terms and directions, which terms are too rare or too common.
        seed: of the randomised SVD.

    Returns:
        A model with L = min(n_dims, what the texts carry); L = 0 where they carry nothing.

    """
    nothing = LexicalModel([], np.zeros(0, dtype=np.float32), np.zeros((0, 0), dtype=np.float32))
    if settings.weight == 0 or len(texts) < _LEAST_TEXTS:
        return nothing
    from sklearn.decomposition import TruncatedSVD  # noqa: PLC0415 - as for `_stop_words`
    from sklearn.feature_extraction.text import CountVectorizer  # noqa: PLC0415

    counter = CountVectorizer(analyzer=terms_of)
    try:
        counts = sp.csr_matrix(counter.fit_transform(texts))
    except ValueError:  # no term in any text
        return nothing
    frequency = np.bincount(counts.indices, minlength=counts.shape[1])
    usable = (frequency >= settings.min_texts) & (
        frequency <= max(settings.max_share * len(texts), settings.min_texts)
    )
    names = counter.get_feature_names_out()
    # the most frequent ones; of equally frequent ones the first in the alphabet, which is their order here
    kept = np.flatnonzero(usable)
    kept = np.sort(kept[np.argsort(-frequency[kept], kind="stable")][: settings.max_terms])
    n_dims = min(settings.n_dims, len(kept) - 1, len(texts) - 1)
    if n_dims < 1:
        return nothing
    idf = (np.log((1.0 + len(texts)) / (1.0 + frequency[kept])) + 1.0).astype(np.float32)
    # texts that are all alike have no variance, of which nothing here wants the shares
    with np.errstate(invalid="ignore"):
        svd = TruncatedSVD(n_dims, random_state=seed).fit(_weigh(counts[:, kept], idf))
    return LexicalModel(list(names[kept]), idf, np.ascontiguousarray(svd.components_.T, dtype=np.float32))


def _weigh(counts: sp.csr_matrix, idf: FloatArray) -> sp.csr_matrix:
    """(1 + log tf) * idf, rows of length 1 (Salton and Buckley 1988)."""
    data = (1.0 + np.log(counts.data.astype(np.float32))) * idf[counts.indices]
    weighed = sp.csr_matrix((data, counts.indices, counts.indptr), shape=counts.shape)
    lengths = np.sqrt(np.asarray(weighed.multiply(weighed).sum(axis=1)).ravel())
    return sp.csr_matrix(sp.diags(1.0 / np.where(lengths > 0, lengths, 1.0)) @ weighed, dtype=np.float32)


def save(model: LexicalModel, path: Path) -> None:
    """Write a model as one Parquet file, a row a term."""
    directions = pa.FixedSizeListArray.from_arrays(
        pa.array(model.directions.ravel(), pa.float32()), max(model.width, 1)
    )
    table = {
        "term": pa.array(model.terms, pa.string()),
        "idf": pa.array(model.idf, pa.float32()),
        "direction": directions,
    }
    write_table(path, pa.table(table))


def load(path: Path) -> LexicalModel:
    """Read a model back.

    Raises:
        ArtefactError: absent or not one.

    """
    try:
        table = pq.read_table(path, columns=["term", "idf", "direction"]).combine_chunks()
    except (OSError, pa.ArrowException) as e:
        raise ArtefactError(f"{path} cannot be read: {e}. Run `kindling build` again.") from e
    n = table.num_rows
    flat = (
        table.column("direction").combine_chunks().flatten().to_numpy()
        if n
        else np.zeros(0, dtype=np.float32)
    )
    directions = np.ascontiguousarray(flat.reshape(n, -1) if n else np.zeros((0, 0)), dtype=np.float32)
    return LexicalModel(
        table.column("term").to_pylist(), table.column("idf").to_numpy().astype(np.float32), directions
    )
