"""Which interactions train the model and which measure it. Protocol: DESIGN, section 5.

Works on aggregated pairs: parallel arrays `user`, `item` and, for a time split, the pair's first `moment`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.core.config import SplitConfig
from pipelines.core.errors import InputError
from pipelines.core.newcomers import first_half

IntArray = npt.NDArray[np.signedinteger]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """Masks over the pairs; a pair is in at most one of `train`, `validation` and `test`.

    Attributes:
        train: pairs the measured model is fitted on.
        validation: held-out pairs for choosing settings.
        test: held-out pairs for the final figures.
        known_validation: pairs that are no part of training but history by the time the validation users are
            asked; none in a random split.
        known_test: likewise for test.
        cold_items: (n_items,) items that are the candidates of the cold slice. Never in `train`.
        left_out: number of held-out pairs in no slice: their user, or warm item, is unknown to training.
        cuts: (start of validation, start of test) of a time split.

    """

    train: BoolArray
    validation: BoolArray
    test: BoolArray
    known_validation: BoolArray
    known_test: BoolArray
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
    seen = rng.permutation(np.flatnonzero(_present(item, n_items)))
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
    nothing = np.zeros_like(train)
    left_out = int(len(item) - train.sum() - validation.sum() - test.sum())
    return Split(train, validation, test, nothing, nothing, half > 0, left_out)


def time_split(
    user: IntArray,
    item: IntArray,
    moment: npt.NDArray[np.float64],
    n_users: int,
    n_items: int,
    config: SplitConfig,
) -> Split:
    """Everything from one moment on is held out; items first seen then are cold.

    The two cuts are quantiles of the pairs' moments, so that validation and test get about their shares. Nothing
    after the first cut reaches training. By the time they are asked, users are known by all they did before their
    window (of validation or test) and by the first half of what they did in it; the other half is to be found. So
    those who come after the cut are measured too, as they are served: with what they have done so far. Pairs of
    users who have done nothing before are left out and counted.

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
    cold_items = _present(item, n_items) & ~_present(item[train], n_items)
    found, known = [], []
    for start, stop in ((first, second), (second, np.inf)):
        window = np.flatnonzero((moment >= start) & (moment < stop))
        early = first_half(user[window], (moment[window], item[window]))
        history = ~train & (moment < start)
        history[window[early]] = True
        late = np.zeros_like(train)
        late[window[~early]] = True
        found.append(late & _present(user[train | history], n_users)[user])
        known.append(history)
    left_out = int((~(train | found[0] | found[1] | known[0] | known[1])).sum())
    return Split(
        train, found[0], found[1], known[0], known[1], cold_items, left_out, (float(first), float(second))
    )


def _present(index: IntArray, n: int) -> BoolArray:
    mask = np.zeros(n, dtype=bool)
    mask[index] = True
    return mask
