"""What users would be shown: how scores are spread, which items make the lists, and how evenly.

Scores are those that are served, vectors of items times vectors of users; nobody is asked and no text is encoded.
Dimensions: n users and m items that are looked at, k places of a list.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.core.drift.findings import Comparison, percent
from pipelines.core.drift.matching import Match
from pipelines.core.drift.measures import histogram, largest_gap
from pipelines.core.drift.sources import Source
from pipelines.core.metrics import coverage, gini, top_k

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
_SCORED_ITEMS = 1000
"""Whose scores with all users are spread out; lists are made of all that are looked at."""
_USERS_AT_ONCE = 128


@dataclass(frozen=True)
class _Shown:
    """Lists of one build.

    Attributes:
        lists: (n, k) rows of items, -1 where there were no more.
        exposure: (m,) places that each candidate has.
        scores: (n, c) of the users with items that are in both builds.

    """

    lists: IntArray
    exposure: npt.NDArray[np.float64]
    scores: FloatArray


def compare_scores(
    found: Comparison, before: Source, after: Source, items: Match, users: Match, k: int
) -> None:
    """Lists and scores of the users who are in both builds."""
    findings = found.group("scores")
    if not len(users.common[0]) or not len(items.common[0]):
        why = "No user, or no item, is in both builds."
        for name in ("scores", "lists_changed", "coverage_lost", "exposure"):
            findings.add(name, "share", "not compared", (None, None), None, why)
        return
    old, new = (
        _show(source, user_rows, candidates, both[:_SCORED_ITEMS], k)
        for source, user_rows, candidates, both in zip(
            (before, after), users.common, items.samples, items.common, strict=True
        )
    )
    spread = [float(shown.scores.std()) for shown in (old, new)]
    means = [float(shown.scores.mean()) for shown in (old, new)]
    says = (
        f"Scores of the same users and items are {means[1]:.3f} in the mean, spread by {spread[1]:.3f}; "
        f"before: {means[0]:.3f} and {spread[0]:.3f}."
    )
    flat = [shown.scores.ravel().astype(np.float64) for shown in (old, new)]
    distance = largest_gap(flat[0], flat[1])
    findings.add("scores", "number", "Kolmogorov-Smirnov", (means[0], means[1]), distance, says)
    found.histograms["score of a user and an item"] = histogram(flat[0], flat[1])
    kept = _overlap(np.where(old.lists >= 0, items.to_after[old.lists], -1), new.lists)
    says = (
        f"Of {k} places in a list, {percent(kept)} are taken by the same items as before, whatever the order."
    )
    findings.add("lists_changed", "share", "share of other items", (1.0, kept), 1 - kept, says)
    shares = [coverage(shown.exposure) for shown in (old, new)]
    lost = max(1 - shares[1] / shares[0], 0.0) if shares[0] else None
    says = f"{percent(shares[1])} of the items stand in somebody's list; before: {percent(shares[0])}."
    findings.add("coverage_lost", "share", "share lost", (shares[0], shares[1]), lost, says)
    uneven = [gini(shown.exposure) for shown in (old, new)]
    says = f"List places fall on items with a Gini index of {uneven[1]:.2f}; before: {uneven[0]:.2f} (1: all on one)."
    rise = max(uneven[1] - uneven[0], 0.0)
    findings.add("exposure", "number", "rise", (uneven[0], uneven[1]), rise, says)


def _show(source: Source, user_rows: IntArray, rows: IntArray, common: IntArray, k: int) -> _Shown:
    """Rank all candidates that may be shown for each user, without what the user has touched."""
    candidates = rows[~source.hidden[rows]]
    vectors, scored = source.item_vectors(candidates), source.item_vectors(common)
    column = np.full(len(source.item_ids), -1, dtype=np.int64)
    column[candidates] = np.arange(len(candidates))
    lists, scores = [np.full((0, k), -1, dtype=np.int64)], []
    for start in range(0, len(user_rows), _USERS_AT_ONCE):
        asked = user_rows[start : start + _USERS_AT_ONCE]
        users = source.user_vectors(asked)
        ranked = np.asarray(users @ vectors.T)
        who, what = source.history[asked].nonzero()
        known = column[what] >= 0
        ranked[who[known], column[what[known]]] = -np.inf
        lists.append(_rows(top_k(ranked, k), candidates, k))
        scores.append(users @ scored.T)
    listed = np.concatenate(lists)
    exposure = np.bincount(column[listed[listed >= 0]], minlength=len(candidates)).astype(np.float64)
    return _Shown(listed, exposure, np.concatenate(scores))


def _rows(places: IntArray, candidates: IntArray, k: int) -> IntArray:
    """(n, k) rows of items from columns of candidates; a catalogue shorter than a list leaves places empty."""
    rows = np.full(places.shape, -1, dtype=np.int64)
    rows[places >= 0] = candidates[places[places >= 0]]
    missing = np.full((len(rows), k), -1, dtype=np.int64)
    return np.concatenate([rows, missing], axis=1)[:, :k]


def _overlap(old: IntArray, new: IntArray) -> float:
    """Share of the filled places of the new lists that the old list of the same user has too."""
    width = int(max(old.max(initial=0), new.max(initial=0))) + 1
    offsets = width * np.arange(len(new), dtype=np.int64)[:, None]
    filled = new >= 0
    if not filled.any():
        return 0.0
    return float(np.isin((new + offsets)[filled], (old + offsets)[old >= 0]).mean())
