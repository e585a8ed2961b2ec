"""What came or changed since a build, made into items as they are served.

A new item is placed by its text: factor B g, profile P, as a build places one that nobody has touched. What changed
keeps the factor that behaviour gave it; its words count at once in the text's part of a score, and in its factor with
the next build. An item that no interactions had when it was built, new or not, gets its factor from the first ones by
the row solve that users are folded in by, with the sides exchanged:

    H = w X'X + sum_S (c - 1) x x' + lam I        y = H^-1 (lam s B g + sum_{wanted} c x)

X'X says that everybody else did not want it. Of those who were never asked, that is not known. w is 1 / n, where n
users touch an item in the mean, so that the first is worth what each of them is worth. The share of who has been here
since is no measure of who has seen an item, and of an item of this hour next to nothing, which would show it to
everybody (benchmarks/young_items.py, docs/decisions/0023).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.core.als import confidences, prior_share, row_regularization
from pipelines.core.blend import features, item_vectors
from pipelines.core.errors import InputError
from pipelines.core.foldin import Profile, fold_in
from pipelines.core.records import Row, own_columns, to_row
from pipelines.core.schema import IS_HIDDEN, N_INTERACTIONS, N_WANTED, TEXT
from serving.catalogue import Items
from serving.recommender import Recommender
from serving.store.items import StoredItem

FloatArray = npt.NDArray[np.float32]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FirstEvents:
    """Who touched one item, and how: n users.

    Attributes:
        factors: (n, F) of the users, folded in without this item's behaviour.
        weights: (n,) summed over each user's events, below zero where they do not want it.

    """

    factors: FloatArray
    weights: FloatArray


class LateItems:
    """Makes the late items of one version; what has been made before is not made again."""

    def __init__(self, model: Recommender) -> None:
        """Of a version without late items."""
        self._model = model
        self._others = weight_of_others(model.catalogue.evidence())
        self._columns = own_columns(model.catalogue.bundle.table, model.config)
        self._rows: dict[str, tuple[int, Row | None]] = {}
        self._profiles: dict[str, tuple[str, FloatArray]] = {}

    def make(self, changes: Iterable[StoredItem], touched: Mapping[str, FirstEvents]) -> Items | None:
        """The rows that `Catalogue.with_late` takes; None where nothing differs from the bundle.

        Args:
            changes: the last change of each item.
            touched: first events of items without behaviour in this version, changed or not.

        """
        model, bundle = self._model, self._model.catalogue
        rows = {change.item_id: dict(row) for change in changes if (row := self._row(change)) is not None}
        for item_id in touched:
            if item_id not in rows and item_id in bundle:
                rows[item_id] = bundle.record(bundle.row(item_id))
        if not rows:
            return None
        profiles = self._all_profiles(rows)
        factors = (features(profiles) @ model.item_map).astype(np.float32)
        for k, (item_id, row) in enumerate(rows.items()):
            if row[N_INTERACTIONS]:
                factors[k] = bundle.factors(bundle.rows_of([item_id]))[0]
            elif item_id in touched:
                weights = touched[item_id].weights
                factors[k] = _solve(model, profiles[k], touched[item_id], self._others)
                row |= {N_INTERACTIONS: len(weights), N_WANTED: int(np.count_nonzero(weights > 0))}
        table = pa.Table.from_pylist(list(rows.values()), schema=bundle.bundle.table.schema)
        evidence, wanted = (table.column(name).to_numpy() for name in (N_INTERACTIONS, N_WANTED))
        vectors = item_vectors(factors, profiles, evidence, model.config.blend)
        return Items(table, factors, profiles, vectors, model.popularity(wanted, factors))

    def _row(self, change: StoredItem) -> Row | None:
        """All columns of an item; None where there is nothing to show in this version."""
        made = self._rows.get(change.item_id)
        if made is None or made[0] != change.change:
            made = self._rows[change.item_id] = change.change, self._make_row(change)
        return made[1]

    def _make_row(self, change: StoredItem) -> Row | None:
        bundle = self._model.catalogue
        built = bundle.built(change.item_id)
        if change.fields is None:
            return None if built is None else built | {IS_HIDDEN: True}
        if built is None and not change.is_whole:  # a change of an item that this version has lost
            return None
        said = {name: value for name, value in change.fields.items() if name in self._columns}
        beside = None if change.is_whole else built
        try:
            row = to_row(change.item_id, said, bundle.bundle.table, self._model.config, beside)
        except InputError as e:  # said to another version, of other columns
            log.error("version %s leaves a change out: %s", self._model.version, e)
            return built
        if built is not None:
            row |= {name: built[name] for name in (N_INTERACTIONS, N_WANTED)}
        return row

    def _all_profiles(self, rows: Mapping[str, Row]) -> FloatArray:
        """(n, E); of a text that is as it was, the build's own. Blocks beside the text stay, or are unknown."""
        model, bundle = self._model, self._model.catalogue
        new = [i for i, row in rows.items() if self._profiles.get(i, (None,))[0] != row[TEXT]]
        said = model.item_profiles([rows[i][TEXT] for i in new])
        for item_id, vector in zip(new, said, strict=True):
            if item_id in bundle:
                built = bundle.profiles(bundle.rows_of([item_id]))[0]
                if bundle.record(bundle.row(item_id))[TEXT] == rows[item_id][TEXT]:
                    vector = built  # noqa: PLW2901
                else:
                    vector[model.n_text :] = built[model.n_text :]
            self._profiles[item_id] = rows[item_id][TEXT], vector
        return np.stack([self._profiles[item_id][1] for item_id in rows])


def weight_of_others(evidence: npt.NDArray[np.int64]) -> float:
    """W: of what share of a version's users it counts that they did not touch an item that is new since.

    Args:
        evidence: (I,) users who touched each of its items.

    """
    touched = evidence[evidence > 0]
    return 1.0 / float(touched.mean()) if len(touched) else 1.0


def _solve(model: Recommender, profile: FloatArray, events: FirstEvents, others: float) -> FloatArray:
    n, fit = np.array([len(events.weights)], dtype=np.int32), model.config.factorize
    lam = row_regularization(n, fit.item_regularization, fit.item_frequency_power)
    nothing = np.zeros((0, len(profile)))
    solved = fold_in(
        Profile(profile[None].astype(np.float64), nothing), model.item_map, events.factors,
        confidences(events.weights, fit.alpha), np.asarray(others * model.user_gramian), float(lam[0]),
        float(prior_share(n, fit.item_text_fade)[0]), split=False,
    )  # fmt: skip
    return np.asarray(solved.total, dtype=np.float32)
