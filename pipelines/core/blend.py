"""From text embeddings to features and profiles, and from both parts of the model to one dot product.

Dimensions: n rows, E embedding (E' with the profiles' extra blocks), D = E + 1, F factors.

    R'_ui = scale_i (x_u . y_i + gamma_i * P_u . P_i)
          = [x_u ; sqrt(gamma) P_u] . scale_i [y_i ; sqrt(gamma) (1 + n_i)^-text_fade P_i]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from pipelines.core.config import BlendConfig

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


def text_profile(raw: FloatArray, mean: FloatArray, n_embedding: int, lexical_weight: float) -> FloatArray:
    """[centre(embedding) ; w * centre(words)] (n, E), what a text says and which words it uses.

    Args:
        raw: (n, E) embeddings with the lexical vectors, if any, beside them.
        mean: (E,) of the warm rows, or (n, E) one for each row.
        n_embedding: how many of the columns are the encoder's.
        lexical_weight: w.

    """
    meaning = centre(raw[..., :n_embedding], mean[..., :n_embedding])
    if raw.shape[-1] == n_embedding:
        return meaning
    words = centre(raw[..., n_embedding:], mean[..., n_embedding:])
    return np.ascontiguousarray(np.concatenate([meaning, np.float32(lexical_weight) * words], axis=-1))


def amounts(weights: npt.NDArray[np.floating], unwanted_items: float) -> FloatArray:
    """(n,) of an item in a profile by the weight of what was done with it: 1 for liked, less than 0 for unwanted.

    That something was not wanted says less of a taste than that something was, as in Rocchio's feedback (1971).
    """
    return np.where(weights > 0, 1.0, np.where(weights < 0, -unwanted_items, 0.0)).astype(np.float32)


def profiles(
    liked: sp.csr_matrix,
    item_profiles: FloatArray,
    own_texts: FloatArray,
    own_text_items: float,
    power: float,
) -> FloatArray:
    """P_u (n, E) = (own_text_items * own text + sum of what was liked) / (1 + n_liked)^power.

    Args:
        liked: (n, I) `amounts` of what the users did.
        item_profiles: (I, E) centred item embeddings.
        own_texts: (n, E) centred embeddings of the users' own words, zero where there are none.
        own_text_items: how many liked items the own words count as.
        power: 0.5 lets the profile grow with evidence, 1 is a mean, above 1 lets it fade.

    """
    total = np.asarray(liked @ item_profiles, dtype=np.float32) + np.float32(own_text_items) * own_texts
    n_liked = np.diff(liked.indptr)
    return np.asarray(total / np.power(1.0 + n_liked, power)[:, None], dtype=np.float32)


def pad(vectors: FloatArray, width: int) -> FloatArray:
    """(n, width) with zeros after the columns there are: words say nothing about a profile's extra blocks."""
    missing = width - vectors.shape[-1]
    if not missing:
        return vectors
    return np.concatenate([vectors, np.zeros((*vectors.shape[:-1], missing), dtype=np.float32)], axis=-1)


def join_blocks(text: FloatArray, extra: Sequence[tuple[float, FloatArray, FloatArray]]) -> FloatArray:
    """[text ; w_1 * centre(extra_1) ; ...] (n, E'), the profiles of items.

    Args:
        text: (n, E) centred embeddings.
        extra: (weight, (n, L) vectors, (L,) their mean over warm rows) of each block; a row of zeros, which
            stands for nothing known, stays zero.

    """
    if not extra:
        return text
    blocks = [np.float32(weight) * centre(vectors, mean) for weight, vectors, mean in extra]
    return np.ascontiguousarray(np.concatenate([text, *blocks], axis=-1))


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


def item_vectors(
    factors: FloatArray, profiles: FloatArray, evidence: npt.NDArray[np.int64], settings: BlendConfig
) -> FloatArray:
    """(n, F + E) the items' half of a score: one product with `blend` of a user's ranks them.

    Args:
        factors: (n, F).
        profiles: (n, E).
        evidence: (n,) interactions of each item. The more there are, the less its text has to say beside them
            (`text_fade`); and where there are none, the score is scaled (`cold_scale`), for a prediction from text
            alone is shorter than a factor that behaviour has stretched.
        settings: gamma, text_fade, cold_scale.

    """
    fade = np.power(1.0 + evidence, -settings.text_fade).astype(np.float32)[:, None]
    scale = np.where(evidence > 0, 1.0, settings.cold_scale).astype(np.float32)[:, None]
    return np.ascontiguousarray(scale * blend(factors, fade * profiles, settings.gamma))
