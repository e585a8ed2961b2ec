"""From ranked candidates to the places of a list, with propensities: the core's policies on a catalogue's items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from pipelines.core.belief import Belief, believe, item_deviation, text_residuals
from pipelines.core.blend import features
from pipelines.core.config import Config, ExploreConfig
from pipelines.core.policies import rng_of, show
from pipelines.core.ranking import Ranked, Wanted
from pipelines.core.schema import N_INTERACTIONS
from serving.catalogue import Catalogue, Items

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
_MOST_ITEMS = 10_000
"""Enough to learn a covariance of a few hundred numbers from."""


@dataclass(frozen=True)
class Exploration:
    """How one list may explore.

    Attributes:
        settings: which policy and its bounds.
        request_id: what the draws depend on, beside the settings' seed.
        shown: how often each item was shown; absent: never.

    """

    settings: ExploreConfig
    request_id: str
    shown: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Chosen:
    """The places of a list.

    Attributes:
        ranked: rows, and scores as the model has them.
        policy: that chose.
        propensities: (n,) of each item at its place.
        bonus: (n,) what was added to the scores.
        best: rows without exploring.

    """

    ranked: Ranked
    policy: str
    propensities: DoubleArray
    bonus: DoubleArray
    best: IntArray


@dataclass(frozen=True)
class Solved:
    """What is known of a user's row: x (F,) and its precision H (F, F)."""

    user: DoubleArray
    precision: DoubleArray


def as_ranked(best: Ranked) -> Chosen:
    """Without exploring."""
    n = len(best.rows)
    return Chosen(best, "none", np.ones(n), np.zeros(n), best.rows)


@dataclass(frozen=True)
class _Counts:
    """What is known of each row, for one catalogue and one state of the log."""

    catalogue: Catalogue
    shown: Mapping[str, int]
    times: IntArray
    """(rows,) shown."""
    evidence: IntArray
    """(rows,) interactions."""


class Explorer:
    """Chooses places by what is believed of a version's items; loaded with the version."""

    def __init__(self, config: Config, items: Items, item_map: FloatArray) -> None:
        """Learn how far behaviour moves items from what their texts predict.

        Args:
            config: of the version.
            items: of its bundle.
            item_map: (D, F) from an item's text to its factor.

        """
        self._cold_scale = config.blend.cold_scale
        self._n_factors = items.factors.shape[1]
        self._counts: _Counts | None = None
        evidence = items.table.column(N_INTERACTIONS).to_numpy()
        some = np.flatnonzero(evidence > 0)
        if len(some) > _MOST_ITEMS:
            some = np.sort(np.random.default_rng(0).choice(some, _MOST_ITEMS, replace=False))
        predicted = features(items.profiles[some]) @ item_map
        self._residuals = text_residuals(items.factors[some], predicted, evidence[some])

    def wanted(self, asked: Wanted, exploration: Exploration, catalogue: Catalogue) -> list[Wanted]:
        """What to ask the ranker for: the best, and of cold items the best too where some places are theirs."""
        settings = exploration.settings
        beside = [replace(asked, n=min(asked.n + settings.candidates, len(catalogue)))]
        if settings.cold_share > 0:
            counts = self._count(catalogue, exploration.shown)
            cold = (counts.evidence == 0) & (counts.times < settings.cold_impressions)
            allowed = cold if asked.allowed is None else cold & asked.allowed
            beside.append(replace(asked, n=settings.cold_candidates, allowed=allowed))
        return beside

    def choose(
        self,
        found: Sequence[Ranked],
        n: int,
        exploration: Exploration,
        catalogue: Catalogue,
        solve: Callable[[], Solved],
    ) -> Chosen:
        """The places of a list.

        Args:
            found: what the ranker found for each of `wanted`.
            n: places.
            exploration: how to explore.
            catalogue: whose rows these are.
            solve: the user's row; called where a policy looks at it.

        """
        settings = exploration.settings
        best = Ranked(found[0].rows[:n], found[0].scores[:n])
        if not len(best.rows):
            return as_ranked(best)
        rows, scores = (np.concatenate([getattr(f, name) for f in found]) for name in ("rows", "scores"))
        _, first = np.unique(rows, return_index=True)  # a cold item may be among the best as well
        first = np.sort(first)
        rows, scores = rows[first], scores[first]
        counts = self._count(catalogue, exploration.shown)
        is_cold = (counts.evidence[rows] == 0) & (counts.times[rows] < settings.cold_impressions)
        belief = self._believe(rows, scores, settings, counts, solve)
        shown = show(belief, is_cold, len(best.rows), settings, rng_of(settings.seed, exploration.request_id))
        ranked = Ranked(rows[shown.places], scores[shown.places])
        return Chosen(ranked, settings.policy, shown.propensities, shown.bonus, best.rows)

    def _believe(
        self, rows: IntArray, scores: FloatArray, settings: ExploreConfig, counts: _Counts, solve: Callable[[], Solved]
    ) -> Belief:  # fmt: skip
        means = scores.astype(np.float64)
        if settings.policy == "epsilon":  # asks nothing but the scores
            return Belief(means, np.zeros((0, len(rows))), np.zeros(len(rows)))
        solved, evidence = solve(), counts.evidence[rows]
        deviation = item_deviation(
            solved.user, self._residuals, (evidence + counts.times[rows]).astype(np.float64),
            np.where(evidence > 0, 1.0, self._cold_scale), settings.half_known, settings.item_noise,
        )  # fmt: skip
        factors = counts.catalogue.vectors(rows)[:, : self._n_factors]
        return believe(means, factors, solved.precision, settings.noise, deviation)

    def _count(self, catalogue: Catalogue, shown: Mapping[str, int]) -> _Counts:
        """Counted anew when either has changed; two threads that meet here come to the same."""
        known = self._counts
        if known is None or known.catalogue is not catalogue or known.shown is not shown:
            times = np.zeros(len(catalogue), dtype=np.int64)
            for item, number in shown.items():
                if item in catalogue:
                    times[catalogue.row(item)] = number
            known = self._counts = _Counts(catalogue, shown, times, catalogue.evidence())
        return known
