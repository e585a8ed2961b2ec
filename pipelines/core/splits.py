"""Which interactions train the model and which measure it. Protocol: DESIGN, section 5.

Works on aggregated pairs: parallel arrays `user`, `item` and, for a time split, the pair's first `moment`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.core.config import SplitConfig
from pipelines.core.errors import InputError

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """Masks over the pairs; a pair is in at most one of them.

    Attributes:
        train: pairs the measured model is fitted on.
        validation: held-out pairs for choosing settings.
        test: held-out pairs for the final figures.
        cold_items: (n_items,) items that are the candidates of the cold slice. Never in `train`.
        left_out: number of held-out pairs in no slice: their user, or warm item, is unknown to training.
        cuts: (start of validation, start of test) of a time split.

    """

    train: BoolArray
    validation: BoolArray
    test: BoolArray
    cold_items: BoolArray
    left_out: int
    cuts: tuple[float, float] | None = None


def random_split(user: IntArray, item: IntArray, n_users: int, n_items: int, config: SplitConfig) -> Split:
    """Cold items by item, warm pairs by pair.

    The items that have pairs are shuffled and a share of them made cold, half for validation and half for
    test; the other pairs are shuffled into train, validation and test, and those whose user or item is
    absent from train are moved into train. Cold pairs of users unknown to training are left out.
    """
    rng = np.random.default_rng(config.seed)
    seen = rng.permutation(np.unique(item))
    cold = seen[: round(config.cold_items * len(seen))]
    half = np.zeros(n_items, dtype=np.int8)
    half[cold[: len(cold) // 2]], half[cold[len(cold) // 2 :]] = 1, 2
    warm_pairs = rng.permutation(np.flatnonzero(half[item] == 0))
    n_validation, n_test = round(config.validation * len(warm_pairs)), round(config.test * len(warm_pairs))
    train = np.zeros(len(item), dtype=bool)
    train[warm_pairs[n_validation + n_test :]] = True
    knows_user, knows_item = _present(user[train], n_users), _present(item[train], n_items)
    back = warm_pairs[~(knows_user[user[warm_pairs]] & knows_item[item[warm_pairs]])]
    train[back] = True
    knows_user = _present(user[train], n_users)
    validation, test = np.zeros_like(train), np.zeros_like(train)
    validation[warm_pairs[:n_validation]] = True
    test[warm_pairs[n_validation : n_validation + n_test]] = True
    known = knows_user[user]
    validation = (validation & ~train) | ((half[item] == 1) & known)
    test = (test & ~train) | ((half[item] == 2) & known)
    return Split(
        train, validation, test, half > 0, int(len(item) - train.sum() - validation.sum() - test.sum())
    )


def time_split(
    user: IntArray,
    item: IntArray,
    moment: npt.NDArray[np.float64],
    n_users: int,
    n_items: int,
    config: SplitConfig,
) -> Split:
    """Everything from one moment on is held out; items first seen then are cold.

    The two cuts are quantiles of the pairs' moments, so that validation and test get about their shares.
    Cold pairs and warm pairs alike need a user known to training; the others are left out and counted.

    Raises:
        InputError: pairs without a timestamp, or all at one moment.

    """
    if np.isnan(moment).any():
        raise InputError(
            f"a time split needs a timestamp on every interaction; {int(np.isnan(moment).sum())} of "
            f"{len(moment)} have none. Add them, or set split.kind = 'random'."
        )
    # with nothing to hold out the quantile is the last moment itself, and would hold that out
    never = np.nextafter(moment.max(), np.inf)
    first, second = (
        np.quantile(moment, 1 - share) if share else never
        for share in (config.validation + config.test, config.test)
    )
    train = moment < first
    if not train.any():
        raise InputError(
            "a time split found nothing before its first cut: all timestamps are alike. Set split.kind = 'random'."
        )
    knows_user, knows_item = _present(user[train], n_users), _present(item[train], n_items)
    cold_items = _present(item, n_items) & ~knows_item
    held_out = ~train & knows_user[user]
    validation, test = held_out & (moment < second), held_out & (moment >= second)
    left_out = int(len(item) - train.sum() - validation.sum() - test.sum())
    return Split(train, validation, test, cold_items, left_out, (float(first), float(second)))


def _present(index: IntArray, n: int) -> BoolArray:
    mask = np.zeros(n, dtype=bool)
    mask[index] = True
    return mask
