"""From text embeddings to features and profiles, and from both parts of the model to one dot product.

Dimensions: n rows, E embedding, D = E + 1, F factors.

    R'_ui = x_u . y_i + gamma * P_u . P_i = [x_u ; sqrt(gamma) P_u] . [y_i ; sqrt(gamma) P_i]
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

FloatArray = npt.NDArray[np.float32]


def normalize(vectors: FloatArray) -> FloatArray:
    """Rows of length 1; a zero row, which stands for no text, stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 1e-9, lengths, 1.0), dtype=np.float32)


def centre(embeddings: FloatArray, mean: FloatArray) -> FloatArray:
    """P: embeddings less the mean of the warm rows, of length 1 again; no text stays zero.

    All texts of one catalogue share a large common part that says nothing about any one of them.
    """
    has_text = np.any(embeddings != 0, axis=-1, keepdims=True)
    return normalize(np.where(has_text, embeddings - mean, 0.0).astype(np.float32))


def mean_statistics(
    embeddings: FloatArray, mask: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], int]:
    """Sum and number of the rows under `mask` that have text; a shard without any contributes nothing."""
    chosen = embeddings[mask & np.any(embeddings != 0, axis=1)].astype(np.float64)
    return chosen.sum(axis=0), len(chosen)


def profiles(
    liked: sp.csr_matrix,
    item_profiles: FloatArray,
    own_texts: FloatArray,
    own_text_items: float,
    power: float,
) -> FloatArray:
    """P_u (n, E) = (own_text_items * own text + sum of what was liked) / (1 + n_liked)^power.

    Args:
        liked: (n, I) +1 for a wanted item, -1 for an unwanted one.
        item_profiles: (I, E) centred item embeddings.
        own_texts: (n, E) centred embeddings of the users' own words, zero where there are none.
        own_text_items: how many liked items the own words count as.
        power: 0.5 lets the profile grow with evidence, 1 is a mean, above 1 lets it fade.

    """
    total = np.asarray(liked @ item_profiles, dtype=np.float32) + np.float32(own_text_items) * own_texts
    n_liked = np.diff(liked.indptr)
    return np.asarray(total / np.power(1.0 + n_liked, power)[:, None], dtype=np.float32)


def features(profile: FloatArray) -> FloatArray:
    """F or g (n, D): the profile's direction with a constant 1 appended, so that the map has an intercept."""
    ones = np.ones((*profile.shape[:-1], 1), dtype=np.float32)
    return np.ascontiguousarray(np.concatenate([normalize(profile), ones], axis=-1))


def own_features(own_texts: FloatArray) -> FloatArray:
    """(n, D) features of users' own words; rows of zeros, the constant included, where there are none."""
    has_text = np.any(own_texts != 0, axis=-1, keepdims=True)
    return np.where(has_text, features(own_texts), 0.0).astype(np.float32)


def blend(factors: FloatArray, profile: FloatArray, gamma: float) -> FloatArray:
    """[factors ; sqrt(gamma) * profile], the vectors that are served."""
    return np.ascontiguousarray(
        np.concatenate([factors, np.float32(np.sqrt(gamma)) * profile], axis=-1), dtype=np.float32
    )
