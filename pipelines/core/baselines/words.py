"""BM25: which words an item shares with the user's words and with the texts of what they liked.

Dimensions: n users of a block, m candidates, I items, V terms.

    weight(t, i) = idf(t) * tf / (tf + k1 (1 - b + b |i| / mean |.|))    idf(t) = log(1 + (N - df + 1/2) / (df + 1/2))

Lucene's variant (Kamphuis et al., ECIR 2020), as `bm25s` has it. N, df and the mean length are those of the items
that training knows. `bm25s` cannot weigh a text with the statistics of other texts, hence the formula here; a
test compares the two on one corpus.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from pipelines.core.baselines.settings import BaselineSettings
from pipelines.core.baselines.wanted import empty_rows
from pipelines.core.pairs import signs
from pipelines.core.scoring import Asked, BoolArray, FloatArray, IntArray, Training
from pipelines.core.tokens import tokenize


@dataclass(frozen=True)
class Bm25Scorer:
    """Weights of terms in items.

    A query's scores are BM25's, the sums of the weights of its terms, but for one factor for all. A user with a
    history is Rocchio's query: to the terms of the words come, for every liked item, its row of weights at length
    1 (taken away for a disliked one); of the history the heaviest `bm25_terms` are kept. The words, too, count at
    length 1, their unknown terms included, so that no text of an item changes what another item scores.

    Attributes:
        vocabulary: term to column.
        weights: (I, V) BM25 weights.
        settings: weights of words and query, terms kept.

    """

    vocabulary: dict[str, int]
    weights: sp.csr_matrix
    settings: BaselineSettings

    def scores(self, asked: Asked, candidates: IntArray) -> FloatArray:
        """(n, m) sums over the user's terms."""
        products = self.user_terms(asked) @ self.weights[candidates].T
        return np.asarray(products.toarray(), dtype=np.float32)

    def user_terms(self, asked: Asked) -> sp.csr_matrix:
        """(n, V) how much each term counts for each user."""
        history = _heaviest(
            sp.csr_matrix(signs(asked.history) @ _unit_rows(self.weights)), self.settings.bm25_terms
        )
        own, query = (self._directions(texts) for texts in (asked.own_texts, asked.query_texts))
        return sp.csr_matrix(
            history + self.settings.own_text_items * own + self.settings.query_items * query, dtype=np.float32
        )

    def _directions(self, texts: Sequence[str]) -> sp.csr_matrix:
        lengths = [sum(n * n for n in Counter(tokenize(text)).values()) ** 0.5 for text in texts]
        return _scaled(_count(texts, self.vocabulary), np.array(lengths, dtype=np.float32))


def fit(training: Training, settings: BaselineSettings, seed: int) -> Bm25Scorer:  # noqa: ARG001
    """Statistics of the known items' texts, weights of all items' texts.

    A word that only unknown items have is one that training has seen in no item: df = 0.
    """
    vocabulary = {term: column for column, term in enumerate(sorted(_terms(training.item_texts)))}
    counts = _count(training.item_texts, vocabulary)
    weights = bm25_weights(counts, training.knows_item, settings.bm25_k1, settings.bm25_b)
    return Bm25Scorer(vocabulary, weights, settings)


def bm25_weights(counts: sp.csr_matrix, known: BoolArray, k1: float, b: float) -> sp.csr_matrix:
    """BM25 weights (I, V) of every text, with the statistics of the known ones.

    Args:
        counts: (I, V) times each term occurs in each text.
        known: (I,) texts that the statistics are taken of.
        k1: how fast a repeated term stops counting.
        b: how much a long text is held against its terms.

    """
    n_known = int(known.sum())
    lengths = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    mean_length = lengths[known].mean() if n_known and lengths[known].any() else 1.0
    frequency = np.bincount(counts[known].indices, minlength=counts.shape[1])
    idf = np.log1p((n_known - frequency + 0.5) / (frequency + 0.5))
    damping = np.repeat(k1 * (1 - b + b * lengths / mean_length), np.diff(counts.indptr))
    data = idf[counts.indices] * counts.data / (counts.data + damping)
    return sp.csr_matrix((data.astype(np.float32), counts.indices, counts.indptr), shape=counts.shape)


def _terms(texts: Iterable[str]) -> set[str]:
    terms: set[str] = set()
    for text in texts:
        terms.update(tokenize(text))
    return terms


def _count(texts: Sequence[str], vocabulary: dict[str, int]) -> sp.csr_matrix:
    if not vocabulary or not len(texts):  # CountVectorizer refuses both
        return empty_rows(len(texts), len(vocabulary))
    from sklearn.feature_extraction.text import CountVectorizer  # noqa: PLC0415 - takes most of a second

    vectorizer = CountVectorizer(analyzer=tokenize, vocabulary=vocabulary, dtype=np.float32)
    return sp.csr_matrix(vectorizer.transform(texts))


def _unit_rows(rows: sp.csr_matrix) -> sp.csr_matrix:
    squares = np.asarray(rows.multiply(rows).sum(axis=1), dtype=np.float32).ravel()
    return _scaled(rows, np.sqrt(squares))


def _scaled(rows: sp.csr_matrix, lengths: FloatArray) -> sp.csr_matrix:
    """Rows over their lengths; those of length 0 are empty anyway."""
    data = rows.data / np.repeat(lengths, np.diff(rows.indptr))
    return sp.csr_matrix((data, rows.indices, rows.indptr), shape=rows.shape)


def _heaviest(rows: sp.csr_matrix, n_terms: int) -> sp.csr_matrix:
    """The `n_terms` entries of each row that are largest in size; ties go to the earlier term."""
    rows.sort_indices()
    row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    order = np.lexsort((-np.abs(rows.data), row))
    place = np.arange(len(row)) - rows.indptr[row]
    keep = np.sort(order[place < n_terms])
    return sp.csr_matrix((rows.data[keep], (row[keep], rows.indices[keep])), shape=rows.shape)
