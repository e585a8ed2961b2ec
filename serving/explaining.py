"""Where each item of a list comes from, and which parts its score is made of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipelines.core.blend import features
from serving.catalogue import Catalogue
from serving.requests import Source
from serving.understanding import Understood

IntArray = npt.NDArray[np.int64]


def sources(rows: IntArray, asked: Understood, catalogue: Catalogue) -> list[Source]:
    """Of each of these items, what put it into the list."""
    known = asked.known
    if asked.parts is None:
        return ["fallback"] * len(rows)
    if not len(known.event_items):
        return ["text"] * len(rows)
    behaviour: Source = "fold_in" if known.new_take_part else "hot"
    return [behaviour if is_hot else "text" for is_hot in catalogue.has_behaviour(rows)]


def explain(
    row: int, asked: Understood, catalogue: Catalogue, item_map: npt.NDArray[np.floating], gamma: float
) -> dict[str, float]:
    """Shares of one score: what everybody gets, each text, each event, each business rule.

    Args:
        row: of the item.
        asked: who asks, with the terms of profile and factor kept apart.
        catalogue: the items.
        item_map: (E + 1, F) B.
        gamma: weight of the text-text term.

    """
    if asked.parts is None:
        popularity = float(catalogue.popularity(np.array([row]))[0])
        return {"popularity": popularity} | asked.ruled.parts(row)
    known, (profile, folded) = asked.known, asked.parts
    n_factors = catalogue.bundle.factors.shape[1]
    vector = catalogue.vectors(np.array([row]))[0].astype(np.float64)
    y, p = vector[:n_factors], np.sqrt(gamma) * vector[n_factors:]
    parts = _appeal(row, float(folded.constant @ y), folded.constant, catalogue, item_map)
    for name, x_part, p_part in zip(known.word_names, folded.words, profile.words, strict=True):
        parts[name] = float(x_part @ y + p_part @ p)
    for event, x_part, p_part in zip(known.event_items, folded.events, profile.events, strict=True):
        parts[f"item {catalogue.id(event)}"] = float(x_part @ y + p_part @ p)
    return parts | asked.ruled.parts(row)


def _appeal(
    row: int,
    appeal: float,
    constant: npt.NDArray[np.float64],
    catalogue: Catalogue,
    item_map: npt.NDArray[np.floating],
) -> dict[str, float]:
    """What an item has for everybody, split into what its text says of it and what others did with it."""
    rows = np.array([row])
    if not catalogue.has_behaviour(rows)[0]:
        return {"this item's text": appeal}
    (text,) = features(catalogue.profiles(rows)) @ item_map
    by_text = float(constant @ text)
    return {"this item's text": by_text, "what others did": appeal - by_text}
