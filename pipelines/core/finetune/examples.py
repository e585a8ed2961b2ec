"""Examples from what a build has on storage: rows of numbers, and the histories they are read with.

Only pairs that the measured model may see become examples: those of training, and of users who are not hidden. What is
measured later stays unseen by the encoder too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.core.config import FinetuneConfig
from pipelines.core.errors import ArtefactError, InputError
from pipelines.core.layout import HELD_OUT, Layout
from pipelines.core.schema import ITEM_IDX, TIMESTAMP, USER_IDX, WEIGHT
from pipelines.core.storage import part_paths, replacing
from pipelines.core.text import compose_text

IntArray = npt.NDArray[np.int64]
HISTORY, LABEL, _IS_NEW = "history", "label", "is_new"
_UNSEEN = 0.2
"""Of the users, and of the items, that a rating or purchase is validated on; both are new to the encoder then."""
_LONGEST_HISTORY = 50
_LEAST = 2
"""Items a user must have wanted to be in an example: one to ask with, one to find."""


@dataclass(frozen=True)
class Examples:
    """Rows of one fine-tuning.

    Attributes:
        train: with user_idx and item_idx, and label for ratings; in one random order.
        validation: the same columns; may be empty.
        histories: who wanted what, in order of time.
        newest: moment of the newest pair seen, seconds UTC; None where no times are given.

    """

    train: pa.Table
    validation: pa.Table
    histories: Histories
    newest: float | None


class Histories:
    """Items each user wanted, oldest first: a view of a file, shared by all processes of a node."""

    def __init__(self, starts: IntArray, items: IntArray) -> None:
        """(U + 1,) starts of each user's items in `items`."""
        self._starts, self._items = starts, items

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map what `write` wrote.

        Raises:
            ArtefactError: it is not there or not whole.

        """
        try:
            column = pa.ipc.open_file(pa.memory_map(str(path))).read_all().column(0).combine_chunks()
        except (OSError, pa.ArrowException) as e:
            raise ArtefactError(f"{path} cannot be read: {e}. Run `kindling finetune` again.") from e
        return cls(column.offsets.to_numpy(), column.values.to_numpy())

    def write(self, path: Path) -> None:
        """Write them, whole or not at all."""
        column = pa.LargeListArray.from_arrays(pa.array(self._starts), pa.array(self._items))
        with replacing(path) as temporary, pa.OSFile(str(temporary), "wb") as sink:
            table = pa.table({HISTORY: column})
            with pa.ipc.new_file(sink, table.schema) as out:
                out.write_table(table)

    def __getitem__(self, user: int) -> IntArray:
        """Items of a user."""
        return self._items[self._starts[user] : self._starts[user + 1]]

    def beside(self, rows: pa.Table, *, before: bool) -> pa.Table:
        """`rows` with the column `history`: the newest other items of each row's user.

        Args:
            rows: with user_idx and item_idx.
            before: only those older than the row's item.

        """
        found = []
        for user, item in zip(
            rows.column(USER_IDX).to_pylist(), rows.column(ITEM_IDX).to_pylist(), strict=True
        ):
            items = self[user]
            place = np.flatnonzero(items == item)
            if before and len(place):
                items = items[: place[0]]
            found.append(items[items != item][-_LONGEST_HISTORY:])
        return rows.append_column(HISTORY, pa.array(found, pa.list_(pa.int64())))


def load_examples(layout: Layout, settings: FinetuneConfig, since: float | None = None) -> Examples:
    """Examples of a fine-tuning from behaviour.

    Args:
        layout: of the build.
        settings: of the fine-tuning.
        since: seconds UTC; what is older was learnt already, and comes again as `replay_share` of the examples.

    Raises:
        InputError: there are too few to learn anything; says what was found.

    """
    pairs = _training_pairs(layout)
    n_users = pq.read_metadata(layout.ids("users")).num_rows
    order, moments = _order(layout, pairs)
    newest = float(moments.max()) if len(moments) and np.isfinite(moments.max()) else None
    pairs = pairs.take(pa.array(order)).append_column(
        _IS_NEW, pa.array(_new_and_replayed(moments[order], settings, since))
    )
    if settings.objective in ("rating", "purchase"):
        return _labelled(pairs, n_users, settings, newest)
    wanted = pairs.filter(pc.greater(pairs.column(WEIGHT), 0))
    histories = _histories(wanted, n_users)
    train = _with_company(wanted, n_users)
    if settings.objective == "next_behaviour":
        users = train.column(USER_IDX).to_numpy()
        train = train.filter(pa.array(np.diff(users, prepend=-1) == 0))  # not their first
    train = train.filter(train.column(_IS_NEW)).select([USER_IDX, ITEM_IDX])
    _check(train, "two items that one user wanted", settings)
    held = pq.read_table(layout.relevant("validation"), columns=[USER_IDX, ITEM_IDX, "slice"])
    known = np.zeros(n_users, dtype=bool)
    known[wanted.column(USER_IDX).to_numpy()] = True
    held = held.filter(pa.array(known[held.column(USER_IDX).to_numpy()]))
    return Examples(_shuffled(train, settings.seed), _sample(held, settings), histories, newest)


def _training_pairs(layout: Layout) -> pa.Table:
    pairs = pq.read_table(layout.pairs("train", "user"), columns=[USER_IDX, ITEM_IDX, WEIGHT])
    for which in HELD_OUT:
        hidden = pq.read_table(layout.newcomers(which), columns=[USER_IDX]).column(0)
        pairs = pairs.filter(pc.invert(pc.is_in(pairs.column(USER_IDX), value_set=pc.unique(hidden))))
    return pairs


def _order(layout: Layout, pairs: pa.Table) -> tuple[IntArray, npt.NDArray[np.float64]]:
    """Permutation of pairs by user and by when they first met the item, without times by place in the table.

    Also that moment of each pair, -inf where none is given.
    """
    n_items = pq.read_metadata(layout.ids("items")).num_rows
    keys, moments = [], []
    for path in part_paths(layout.tables / "interactions"):
        part = pq.read_table(path, columns=[USER_IDX, ITEM_IDX, TIMESTAMP])
        keys.append(
            part.column(USER_IDX).to_numpy().astype(np.int64) * n_items + part.column(ITEM_IDX).to_numpy()
        )
        moments.append(part.column(TIMESTAMP).to_numpy(zero_copy_only=False).astype(np.float64))
    key = np.concatenate(keys) if keys else np.zeros(0, dtype=np.int64)
    moment = np.concatenate(moments) if moments else np.zeros(0)
    moment = np.where(np.isfinite(moment), moment, -np.inf)
    place = np.lexsort((np.arange(len(key)), moment))
    # the first of each pair in that order
    own, first = np.unique(key[place], return_index=True)
    users = pairs.column(USER_IDX).to_numpy().astype(np.int64)
    found = np.searchsorted(own, users * n_items + pairs.column(ITEM_IDX).to_numpy())
    return np.lexsort((first[found], users)), moment[place][first][found]


def _new_and_replayed(
    moments: npt.NDArray[np.float64], settings: FinetuneConfig, since: float | None
) -> npt.NDArray[np.bool_]:
    """(n,) pairs to learn from: the new ones, and as many of the others as `replay_share` asks for.

    Raises:
        InputError: nothing is newer than `since`.

    """
    if since is None:
        return np.ones(len(moments), dtype=bool)
    chosen = moments > since
    if not chosen.any():
        raise InputError(
            f"finetune.continue_from = 'published': no interaction is newer than that version ({since:.0f} s UTC; the "
            f"newest: {moments.max(initial=-np.inf):.0f}). Give newer ones with timestamps, or set it to 'base'."
        )
    old = np.flatnonzero(~chosen)
    n = round(settings.replay_share / (1 - settings.replay_share) * int(chosen.sum()))
    again = np.random.default_rng([settings.seed, 3]).permutation(old)[:n]
    chosen[again] = True
    return chosen


def _histories(pairs: pa.Table, n_users: int) -> Histories:
    counts = np.bincount(pairs.column(USER_IDX).to_numpy(), minlength=n_users)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Histories(starts, pairs.column(ITEM_IDX).to_numpy().astype(np.int64))


def _with_company(pairs: pa.Table, n_users: int) -> pa.Table:
    users = pairs.column(USER_IDX).to_numpy()
    return pairs.filter(pa.array(np.bincount(users, minlength=n_users)[users] >= _LEAST))


def _labelled(pairs: pa.Table, n_users: int, settings: FinetuneConfig, newest: float | None) -> Examples:
    """Ratings, or purchases with what was not bought beside them; validated on unseen users with unseen items."""
    rng = np.random.default_rng([settings.seed, 1])
    users, items = (pairs.column(c).to_numpy().astype(np.int64) for c in (USER_IDX, ITEM_IDX))
    labels = pairs.column(WEIGHT).to_numpy().astype(np.float64)
    if not len(labels):
        _check(pairs, "interactions", settings)
    n_items = int(items.max(initial=-1)) + 1
    new_user, new_item = rng.random(n_users) < _UNSEEN, rng.random(n_items) < _UNSEEN
    # liked: at least the middle of what everybody gives; a user text is made of these
    liked = labels >= (np.median(labels) if settings.objective == "rating" else np.finfo(float).tiny)
    histories = _histories(pairs.filter(pa.array(liked)), n_users)
    is_new = pairs.column(_IS_NEW).to_numpy(zero_copy_only=False)
    users, items, labels = users[is_new], items[is_new], labels[is_new]
    if settings.objective == "purchase":
        bought = labels > 0
        users, items, labels = _with_negatives(users[bought], items[bought], settings.negatives, n_items, rng)
    rows = pa.table({USER_IDX: users, ITEM_IDX: items, LABEL: labels})
    seen, unseen = ~new_user[users] & ~new_item[items], new_user[users] & new_item[items]
    train, validation = rows.filter(pa.array(seen)), rows.filter(pa.array(unseen))
    _check(train, "interactions", settings)
    if settings.objective == "rating" and len(np.unique(train.column(LABEL).to_numpy())) < _LEAST:
        raise InputError(
            f"finetune.objective = 'rating': all {len(train)} weights are {train.column(LABEL)[0]}; expected ratings "
            "that differ. Leave data.like_threshold unset, or choose another objective."
        )
    return Examples(_shuffled(train, settings.seed), _sample(validation, settings), histories, newest)


def _with_negatives(
    users: IntArray, items: IntArray, n: int, n_items: int, rng: np.random.Generator
) -> tuple[IntArray, IntArray, npt.NDArray[np.float64]]:
    """Each pair with `n` items at random that its user has not bought; a draw that hits one is left out."""
    bought = np.unique(users * n_items + items)
    others = rng.choice(np.unique(items), size=len(users) * n)
    of_users = np.repeat(users, n)
    key = of_users * n_items + others
    place = np.minimum(np.searchsorted(bought, key), len(bought) - 1)
    free = bought[place] != key
    return (
        np.concatenate([users, of_users[free]]),
        np.concatenate([items, others[free]]),
        np.concatenate([np.ones(len(users)), np.zeros(int(free.sum()))]),
    )


def _shuffled(rows: pa.Table, seed: int) -> pa.Table:
    return rows.take(pa.array(np.random.default_rng([seed, 2]).permutation(len(rows))))


def _sample(rows: pa.Table, settings: FinetuneConfig) -> pa.Table:
    return _shuffled(rows, settings.seed).slice(0, settings.validation_rows)


def _check(train: pa.Table, of: str, settings: FinetuneConfig) -> None:
    if not len(train):
        raise InputError(
            f"finetune.objective = '{settings.objective}': training has no {of}, so there is nothing to learn. Give "
            "more interactions, or set finetune.objective = 'none'."
        )


def popularity(train: pa.Table, n_items: int) -> npt.NDArray[np.float64]:
    """(n_items,) share of the examples that each item is the answer of."""
    items = train.column(ITEM_IDX).to_numpy()
    return np.bincount(items, minlength=n_items) / max(len(items), 1)


def field_starts(row: dict[str, Any], text: str, columns: Sequence[str]) -> list[int]:
    """Where the second and later columns begin in an item's text, in characters; none where that cannot be told."""
    starts: list[int] = []
    for n in range(1, len(columns)):
        before = compose_text(row, columns[:n])
        if not text.startswith(before) or len(before) >= len(text):
            break
        if before and (not starts or len(before) > starts[-1]):
            starts.append(len(before))
    return starts


def take_rows(path: Path, numbers: IntArray) -> pa.Table:
    """Rows of a Parquet file by number, in the order asked for; reads only the row groups they are in."""
    file = pq.ParquetFile(path)
    sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
    ends = np.cumsum(sizes)
    group = np.searchsorted(ends, numbers, side="right")
    needed = np.unique(group)
    table = file.read_row_groups(needed.tolist())
    # where each needed group begins in the file, and in what was read
    starts = np.concatenate([[0], ends])[needed]
    own = np.concatenate([[0], np.cumsum(np.asarray(sizes)[needed])])[:-1]
    at = np.searchsorted(needed, group)
    return table.take(pa.array(own[at] + numbers - starts[at]))
