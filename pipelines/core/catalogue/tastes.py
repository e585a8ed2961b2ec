"""The latent tastes behind the generated shop: what items are like, what users want, and how the two meet.

Axes:  S shelves (subcategories), C categories, K style axes, H hidden axes, t = C + S + K + 1 + H.

An item's taste has one entry for its category, one for its shelf, its style values, its language, and H
numbers that no text tells of. A user's taste says how much each of them matters to that user. The dot product
of the two, in logits, is the affinity:

    user_tastes @ item_tastes' = SHARPNESS * (sqrt(s) * told + sqrt(1 - s) * hidden),  s = text_signal

where `told` and `hidden` each vary by one standard deviation over the items, so that s is the share of the
variance of affinity that the text can tell of.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.core.catalogue.vocabulary import CATEGORIES, SHELVES
from pipelines.core.catalogue.words import STYLES

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

N_HIDDEN = 6
SHARPNESS = 1.8
"""Standard deviation, in logits, of one user's affinity over the items."""

_KINDS_A_SHELF = 4
# What being of a favourite category, on a favourite shelf, of a wanted style or in one's own language adds to
# the affinity, relative to one another.
_CATEGORY_WEIGHT = 1.2
_SHELF_WEIGHT = 2.0
_STYLE_WEIGHT = 0.15
_LANGUAGE_WEIGHT = 1.0
_CATEGORY_OF_SHELF = np.array([category for category, _ in SHELVES])


@dataclass(frozen=True)
class ItemTraits:
    """What each of n items is: shelf (n), kind in it (n), styles (n x K), language (n), hidden (n x H)."""

    shelf: Ints
    kind: Ints
    styles: Floats
    is_chinese: Bools
    hidden: Floats


@dataclass(frozen=True)
class UserTraits:
    """What each of n users wants: shelves (n x S, 0 is no interest), styles, language, hidden (n x H)."""

    interests: Floats
    styles: Floats
    is_chinese: Bools
    hidden: Floats


def draw_items(n_items: int, chinese_share: float, rng: np.random.Generator) -> ItemTraits:
    """Draw items over all shelves, the Chinese share exact to the nearest item."""
    return ItemTraits(
        # Every shelf is stocked about alike, and none is empty while there are items enough.
        shelf=rng.permutation(np.arange(n_items) % len(SHELVES)),
        kind=rng.integers(_KINDS_A_SHELF, size=n_items),
        styles=rng.standard_normal((n_items, len(STYLES)), dtype=np.float32),
        is_chinese=_share(n_items, chinese_share, rng),
        hidden=rng.standard_normal((n_items, N_HIDDEN), dtype=np.float32),
    )


def draw_users(n_users: int, chinese_share: float, rng: np.random.Generator) -> UserTraits:
    """Draw users with one to four favourite categories, and one or two favourite shelves in each."""
    n_favourites = rng.choice([1, 2, 3, 4], p=[0.2, 0.35, 0.3, 0.15], size=n_users)
    interests = np.zeros((n_users, len(SHELVES)), dtype=np.float32)
    for user, count in enumerate(n_favourites):
        for category in rng.choice(len(CATEGORIES), size=count, replace=False):
            shelves = rng.permutation(np.flatnonzero(category == _CATEGORY_OF_SHELF))
            chosen = shelves[: rng.integers(1, 3)]
            interests[user, chosen] = rng.uniform(0.7, 1.3, size=len(chosen))
    return UserTraits(
        interests=interests,
        styles=rng.standard_normal((n_users, len(STYLES)), dtype=np.float32),
        is_chinese=_share(n_users, chinese_share, rng),
        hidden=rng.standard_normal((n_users, N_HIDDEN), dtype=np.float32),
    )


def tastes(items: ItemTraits, users: UserTraits, text_signal: float) -> tuple[Floats, Floats]:
    """Give item tastes (n_items x t) and user tastes (n_users x t), scaled as the module says."""
    shelf_of_item = np.eye(len(SHELVES), dtype=np.float32)[items.shelf]
    in_category = np.eye(len(CATEGORIES), dtype=np.float32)[_CATEGORY_OF_SHELF]
    category_wants = np.stack(
        [
            users.interests[:, category == _CATEGORY_OF_SHELF].max(axis=1)
            for category in range(len(CATEGORIES))
        ],
        axis=1,
    )
    item_told = np.hstack([shelf_of_item @ in_category, shelf_of_item, items.styles, _sign(items.is_chinese)])
    user_told = np.hstack(
        [
            _CATEGORY_WEIGHT * category_wants,
            _SHELF_WEIGHT * users.interests,
            _STYLE_WEIGHT * users.styles,
            _LANGUAGE_WEIGHT * _sign(users.is_chinese),
        ]
    )
    user_told = user_told * np.float32(np.sqrt(text_signal) * SHARPNESS / _spread(user_told, item_told))
    user_hidden = users.hidden * np.float32(
        np.sqrt(1.0 - text_signal) * SHARPNESS / _spread(users.hidden, items.hidden)
    )
    return (
        np.hstack([item_told, items.hidden]).astype(np.float32),
        np.hstack([user_told, user_hidden]).astype(np.float32),
    )


def _share(n: int, share: float, rng: np.random.Generator) -> Bools:
    """Mark `share` of n rows, to the nearest row, at random."""
    return rng.permutation(n) < round(share * n)


def _sign(marks: Bools) -> Floats:
    return np.where(marks, 1.0, -1.0).astype(np.float32)[:, None]


def _spread(user_side: Floats, item_side: Floats) -> float:
    """Give the standard deviation over items of a user's affinity, root mean square over users.

    From the covariance of the item side, so that no user-by-item matrix is built: var = u' C u.
    """
    covariance = np.cov(item_side, rowvar=False, bias=True)
    variances = np.einsum("ua,ab,ub->u", user_side, covariance, user_side, optimize=True)
    return float(np.sqrt(variances.mean()))
