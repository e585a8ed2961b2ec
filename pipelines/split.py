"""Clean interactions in, the pairs each model is fitted on and the pairs it is measured on out.

Reads: `tables/interactions` of ingest, titles and arrival of `tables/items`.
Writes: pairs of every model sorted by user and by item, and what is known of its items' exposure; for validation and
test what is to be found, what is known by then, and the hidden users with what they reveal; `queries`, `item_roles`; in
a rebuild what the version in service has not seen.

Sorted files are what makes factorize's shards cheap: a shard reads its own row groups and nothing else.
One task aggregates, one decides; what they found lies in the object store, and each file is written by a task of its
own, a few row groups at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from pipelines.cluster import count_cpus
from pipelines.core import newcomers, splits
from pipelines.core.aggregate import Pairs, aggregate, read_interactions, stable_order
from pipelines.core.config import Config, SplitConfig
from pipelines.core.exposure import exposure, read_arrivals, write_exposure
from pipelines.core.ids import hash_ids, mixed, mixed_pairs
from pipelines.core.incumbent import Incumbent
from pipelines.core.layout import HELD_OUT, HeldOut, Layout, ModelName, fitted_models
from pipelines.core.newest import find_newest
from pipelines.core.pairs import Side
from pipelines.core.schema import ITEM_IDX, PLACE, TEXT, TIMESTAMP, USER_IDX, WANTED, WEIGHT, TableName
from pipelines.core.storage import part_name, part_paths, replacing, write_json, write_table
from pipelines.core.text import truncate_text
from pipelines.progress import Progress

__all__ = ["fingerprint", "run"]

_Task = tuple[ray.remote_function.RemoteFunction, tuple[object, ...]]
_ROWS_PER_GROUP = 65_536
_ROWS_AT_ONCE = 16 * _ROWS_PER_GROUP
_QUERY_CHARS = 80
"""Of an item without a title, the beginning of its text is typed; whole words up to here."""


def fingerprint(config: Config, layout: Layout, data: str) -> str:  # noqa: ARG001 - one shape for all stages
    """The version that a rebuild is compared with; and that exposure is written, which earlier programs did not."""
    incumbent = Incumbent.read(layout)
    return "exposure" if incumbent is None else f"exposure {incumbent.version}"


def run(config: Config, layout: Layout, data: str, progress: Progress) -> dict[str, object]:  # noqa: ARG001 - one shape for all stages
    """Aggregate, decide what is held out, and write it, all away from the driver."""
    settings = config.split
    with progress.bar("aggregating pairs", 1) as advance:
        arrivals, known = _arrivals.options(num_returns=2).remote(layout)
        told_of_arrivals = ray.get(known)
        knows_arrivals = bool(told_of_arrivals["items_with_arrival"])
        with_moments = settings.kind == "time" or knows_arrivals
        pairs, counted = _aggregate.options(num_returns=2).remote(layout, with_moments)
        n_pairs, n_cancelled = ray.get(counted)
        advance(1)
    with progress.bar("holding out", 1) as advance:
        incumbent = Incumbent.read(layout)
        roles, found = _hold_out.options(num_returns=2).remote(settings, layout, pairs, incumbent)
        facts = ray.get(found)
        advance(1)
    models = fitted_models(refit=True, newcomers=settings.hides_users, held=bool(facts.n_newest))
    sides: tuple[Side, Side] = ("user", "item")
    tasks: list[_Task] = [
        (_write_pairs, (layout, model, side, pairs, roles)) for model in models for side in sides
    ]
    if knows_arrivals:
        exposed = [model for model in models if _is_exposed(model, settings)]
        tasks += [(_write_exposure, (layout, model, pairs, roles, arrivals)) for model in exposed]
    tasks += [(_write_held_out, (layout, which, pairs, roles)) for which in HELD_OUT]
    tasks += [(_write_newcomers, (settings, layout, which, pairs, roles)) for which in HELD_OUT]
    tasks += [(_write_item_roles, (layout, pairs, roles))]
    if incumbent is not None:
        tasks.insert(0, (_write_newest, (layout, pairs, roles)))
    with progress.bar("writing", len(tasks)) as advance:
        *_, in_validation, in_test, met_in_validation, met_in_test, _ = _run_tasks(tasks, advance)
    report: dict[str, object] = {
        "pairs": n_pairs, "train": facts.n_train, "validation": in_validation, "test": in_test,
        "left_out": facts.left_out, "pairs_whose_weights_cancelled": n_cancelled, "cuts": facts.cuts,
        "seed": settings.seed, "kind": settings.kind,
        "newcomers": {"validation": met_in_validation, "test": met_in_test},
        "newcomers_model": "newcomers" if settings.hides_users else "train",
        **told_of_arrivals,
    }  # fmt: skip
    if incumbent is not None:
        report["newest"] = {"beside": incumbent.version, "pairs": facts.n_newest}
    write_json(layout.split_report, report)
    return report


def _run_tasks(tasks: Sequence[_Task], advance: Callable[[int], None]) -> list[Any]:
    """Results of tasks in their order, as many at once as there are CPUs: more would only need more memory."""
    started: list[ray.ObjectRef] = []
    running: list[ray.ObjectRef] = []
    for task, arguments in tasks:
        if len(running) >= count_cpus():
            _, running = ray.wait(running)
            advance(1)
        started.append(task.remote(*arguments))
        running.append(started[-1])
    results: list[Any] = ray.get(started)
    advance(len(running))
    return results


@dataclass(frozen=True)
class _Roles:
    """What each pair, and each user, is for.

    Attributes:
        parts: masks over the pairs, and the cold items.
        hidden: (U,) 1 and 2 for newcomers of validation and test, 0 for everybody else.
        newest: pairs that the version in service has not seen; None in a plain build.

    """

    parts: splits.Split
    hidden: npt.NDArray[np.int8]
    newest: npt.NDArray[np.bool_] | None

    def of_model(self, model: ModelName, pairs: Pairs) -> npt.NDArray[np.bool_] | None:
        """(n,) pairs a model is fitted on; None for all."""
        if model == "train":
            return self.parts.train
        if model == "held":
            return None if self.newest is None else ~self.newest
        return self.hidden[pairs.user] == 0 if model == "newcomers" else None


@dataclass(frozen=True)
class _Facts:
    """What the report says of it."""

    n_train: int
    left_out: int
    cuts: tuple[float, float] | None
    n_newest: int


@ray.remote
def _arrivals(layout: Layout) -> tuple[npt.NDArray[np.float64], dict[str, object]]:
    """When items came, and what is known of it."""
    arrivals = read_arrivals(layout)
    return arrivals.seconds, arrivals.summary()


def _is_exposed(model: ModelName, config: SplitConfig) -> bool:
    """Whether a young item is to be made up for in a model that is asked for what comes next.

    Pairs that are held out at random are of the same past as the rest: in it young items were as rarely there.
    """
    return config.kind == "time" or model in ("held", "full")


@ray.remote
def _write_exposure(
    layout: Layout, model: ModelName, pairs: Pairs, roles: _Roles, arrivals: npt.NDArray[np.float64]
) -> None:
    mask = roles.of_model(model, pairs)
    mine = pairs if mask is None else pairs.take(mask)
    assert mine.moment is not None  # noqa: S101 - asked for where an arrival is known
    write_exposure(layout, model, exposure(arrivals, mine.item, mine.moment))


@ray.remote
def _aggregate(layout: Layout, with_moments: bool) -> tuple[Pairs, tuple[int, int]]:
    """The pairs; how many they are, and how many were left out."""
    n_users, n_items = _counts(layout)
    columns = [USER_IDX, ITEM_IDX, WEIGHT, *([TIMESTAMP] if with_moments else [])]
    paths = part_paths(layout.tables / "interactions")
    n_rows = sum(pq.read_metadata(path).num_rows for path in paths)
    parts = (pq.read_table(path, columns=columns) for path in paths)
    rows = read_interactions(parts, n_rows, with_moments=with_moments)
    pairs, n_cancelled = aggregate(rows, n_users, n_items)
    return pairs, (len(pairs), n_cancelled)


def _counts(layout: Layout) -> tuple[int, int]:
    n_users, n_items = (int(pq.read_metadata(layout.ids(t)).num_rows) for t in ("users", "items"))
    return n_users, n_items


@ray.remote
def _hold_out(
    config: SplitConfig, layout: Layout, pairs: Pairs, incumbent: Incumbent | None
) -> tuple[_Roles, _Facts]:
    n_users, n_items = _counts(layout)
    if not len(pairs):  # text only
        none = np.zeros(0, dtype=bool)
        parts = splits.Split(none, none, none, none, none, np.zeros(n_items, dtype=bool), 0)
    elif config.kind == "time":
        assert pairs.moment is not None  # noqa: S101 - asked for
        parts = splits.time_split(pairs.user, pairs.item, pairs.moment, n_users, n_items, config)
    else:
        parts = splits.random_split(pairs.user, pairs.item, n_users, n_items, config)
    if pairs.moment is not None and parts.cuts is not None:
        hidden = newcomers.arriving_users(pairs.user, pairs.wanted, pairs.moment, parts.cuts, n_users)
    elif config.kind == "random":
        order = mixed(_hashes(layout, "users"), config.seed)
        hidden = newcomers.hide_users(pairs.user, pairs.wanted, order, config.newcomers)
    else:
        hidden = np.zeros(n_users, dtype=np.int8)
    newest = None if incumbent is None else find_newest(layout, pairs.user, pairs.item, incumbent.version)
    n_newest = 0 if newest is None else int(newest.sum())
    return _Roles(parts, hidden, newest), _Facts(int(parts.train.sum()), parts.left_out, parts.cuts, n_newest)


@ray.remote
def _write_newest(layout: Layout, pairs: Pairs, roles: _Roles) -> None:
    """What the version in service has not seen, by user."""
    assert roles.newest is not None  # noqa: S101 - of a rebuild
    found = pairs.take(roles.newest)
    table = pa.table(
        {
            USER_IDX: found.user.astype(np.int64),
            ITEM_IDX: found.item.astype(np.int64),
            WEIGHT: found.weight.astype(np.float64),
            WANTED: found.wanted,
        }
    )
    write_table(layout.newest, table)


def _hashes(layout: Layout, table: TableName) -> npt.NDArray[np.uint64]:
    return hash_ids(pq.read_table(layout.ids(table)).column(0).to_pandas().to_numpy(dtype=object))


@ray.remote
def _write_pairs(layout: Layout, model: ModelName, side: Side, pairs: Pairs, roles: _Roles) -> None:
    """What a model is fitted on, sorted by one side and then by the other."""
    mask = roles.of_model(model, pairs)
    rows = np.arange(len(pairs)) if mask is None else np.flatnonzero(mask)
    if side == "item":
        rows = rows[stable_order(pairs.item[rows], _counts(layout)[1])]
    _write_sorted(layout.pairs(model, side), side, pairs, rows)


def _write_sorted(path: Path, side: Side, pairs: Pairs, rows: npt.NDArray[np.int64]) -> None:
    """Some pairs, in the order of `rows`, a few row groups at a time."""
    key = USER_IDX if side == "user" else ITEM_IDX
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(
            temporary, _PAIR, compression="zstd", write_statistics=[key], use_dictionary=[WEIGHT],
            column_encoding={USER_IDX: "DELTA_BINARY_PACKED", ITEM_IDX: "DELTA_BINARY_PACKED"},
        ) as writer,
    ):  # fmt: skip
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = pairs.take(rows[start : start + _ROWS_AT_ONCE])
            columns = [
                pa.array(c) for c in (some.user.astype(np.int64), some.item.astype(np.int64), some.weight)
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=_PAIR), row_group_size=_ROWS_PER_GROUP)


_PAIR = pa.schema([(USER_IDX, pa.int64()), (ITEM_IDX, pa.int64()), (WEIGHT, pa.float64())])


@ray.remote
def _write_held_out(layout: Layout, which: HeldOut, pairs: Pairs, roles: _Roles) -> dict[str, int]:
    """What is known by then and what is to be found; how much of that is cold and how much warm."""
    parts = roles.parts
    masks = {
        "validation": (parts.validation, parts.known_validation),
        "test": (parts.test, parts.known_test),
    }
    held_out, known = masks[which]
    _write_sorted(layout.known(which), "user", pairs, np.flatnonzero(known))
    # what a user did not want is learnt from but is no hit
    found = pairs.take(held_out & pairs.wanted)
    cold = parts.cold_items[found.item]
    table = pa.table(
        {
            USER_IDX: found.user.astype(np.int64),
            ITEM_IDX: found.item.astype(np.int64),
            "slice": _words(cold.astype(np.int8), ["warm", "cold"]),
        }
    )
    write_table(layout.relevant(which), table)
    n_cold = int(cold.sum())
    return {"cold": n_cold, "warm": len(found) - n_cold}


def _words(codes: npt.NDArray[np.int8], words: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes), words).cast(pa.string())


@ray.remote
def _write_item_roles(layout: Layout, pairs: Pairs, roles: _Roles) -> None:
    role = np.zeros(_counts(layout)[1], dtype=np.int8)
    role[pairs.item[roles.parts.train]] = 1
    role[roles.parts.cold_items] = 2
    write_table(layout.item_roles, pa.table({"role": _words(role, ["unseen", "warm", "cold"])}))


@ray.remote
def _write_newcomers(config: SplitConfig, layout: Layout, which: HeldOut, pairs: Pairs, roles: _Roles) -> int:
    """What hidden users reveal, and what they would type; how many there are."""
    number = 1 + HELD_OUT.index(which)
    mine = pairs.take(pairs.wanted & (roles.hidden[pairs.user] == number))
    cuts = roles.parts.cuts
    if mine.moment is None or cuts is None:
        users, items = _hashes(layout, "users")[mine.user], _hashes(layout, "items")[mine.item]
        keys: tuple[npt.NDArray[np.generic], ...] = (mixed_pairs(users, items, config.seed),)
    else:
        mine = mine.take(mine.moment < (cuts[1] if which == "validation" else np.inf))
        keys = (np.asarray(mine.moment), mine.item)
    order, place = newcomers.reveal(mine.user, keys)
    revealed = mine.take(order)
    table = pa.table(
        {
            USER_IDX: revealed.user.astype(np.int64),
            ITEM_IDX: revealed.item.astype(np.int64),
            WEIGHT: revealed.weight,
            PLACE: place,
        }
    )
    write_table(layout.newcomers(which), table)
    first = revealed.take(place == 0)
    queries = {USER_IDX: pa.array(first.user.astype(np.int64)), TEXT: _titles(layout, first.item)}
    write_table(layout.queries / part_name(number - 1), pa.table(queries))
    return len(first)


def _titles(layout: Layout, rows: npt.NDArray[np.int32]) -> pa.Array:
    """The titles of some items; where there is none, the beginning of the text."""
    asked, back = np.unique(rows, return_inverse=True)
    titles: list[str] = []
    start = 0
    for path in part_paths(layout.tables / "items"):
        stop = start + pq.read_metadata(path).num_rows
        inside = asked[(asked >= start) & (asked < stop)]
        if len(inside):
            columns = [c for c in ("title", TEXT) if c in pq.read_schema(path).names]
            for row in pq.read_table(path, columns=columns).take(pa.array(inside - start)).to_pylist():
                titles.append(str(row.get("title") or "") or truncate_text(row[TEXT], _QUERY_CHARS))
        start = stop
    return pa.array(titles, pa.string()).take(pa.array(back))
