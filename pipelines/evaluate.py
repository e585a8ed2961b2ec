"""Factors in, figures out: the model and its baselines on the held-out slices.

Reads: pairs, slices and item roles of split; profiles of profile; the factors of factorize.
Writes: `evaluation.json`, `per_user.parquet`, `report.html`.

One task fits a baseline (or loads the model), tasks rank blocks of users; slices and fitted models are in the
object store once. The figures of a slice are made in one task, from all models' results together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from pipelines.core import diagnostics
from pipelines.core.baselines import fit_baseline, unavailable
from pipelines.core.baselines.settings import baseline_settings
from pipelines.core.config import Config
from pipelines.core.evaluation import OURS, SliceSummary, summarize
from pipelines.core.ids import hash_ids
from pipelines.core.layout import HELD_OUT, HeldOut, Layout, ModelName
from pipelines.core.measure import ItemFacts, SliceResult, beyond_accuracy, join_results, measure
from pipelines.core.model import FittedModel
from pipelines.core.pairs import read_pairs
from pipelines.core.scoring import Scorer
from pipelines.core.slices import KNOWN_SLICES, SLICES, Slice, SliceName, ask, load_slices, load_training
from pipelines.core.storage import (
    part_paths,
    read_json,
    read_rows,
    read_tensors,
    write_json,
    write_table,
    write_text,
)  # fmt: skip
from pipelines.progress import Progress

__all__ = ["run"]

SCHEMA_VERSION = 2


def run(config: Config, layout: Layout, data: str, progress: Progress) -> dict[str, object]:
    """Measure every model on every slice; validation is for choosing, test for reporting."""
    absent = {n: why for n in config.evaluate.baselines if (why := unavailable(n)) is not None}
    names = (OURS, *(n for n in config.evaluate.baselines if n not in absent))
    slices = {which: _parts(config, layout, which) for which in HELD_OUT}
    answering = sorted({s.model for parts in slices.values() for s in parts.values() if s.n_users})
    scorers = {(n, m): _scorer.remote(config, layout, n, m) for n in names for m in answering}
    facts = {m: _facts.remote(layout, m) for m in answering}
    tasks = _start(config, layout, slices, scorers, facts, names)
    _wait([ref for refs in tasks.values() for ref in refs], progress)
    summaries = {
        (which, name): _summarize.remote(
            config, part.slice, names, *[r for n in names for r in tasks[which, name, n]]
        )
        for which, parts in slices.items()
        for name, part in parts.items()
    }
    plots = _plots.remote(config, layout, slices["test"]["all"].slice, facts.get("train"), names,
                          *[r for n in names for r in tasks["test", "all", n]])  # fmt: skip
    evaluation: dict[str, object] = {
        "schema_version": SCHEMA_VERSION,
        "build": {"data": data, "measured": datetime.now(UTC).isoformat(timespec="seconds")},
        "k": config.evaluate.k,
        "ks": list(config.evaluate.ks),
        "bootstrap": {"resamples": config.evaluate.bootstrap, "seed": config.evaluate.seed, "level": 0.95},
        "split": read_json(layout.split_report),
        "models": list(names),
        "absent": absent,
        "users": {which: {s: p.n_users for s, p in parts.items()} for which, parts in slices.items()},
        "candidates": {
            which: {s: p.n_candidates for s, p in parts.items()} for which, parts in slices.items()
        },
    }
    evaluation |= _figures(names, {key: ray.get(ref) for key, ref in summaries.items()})
    evaluation["plots"] = ray.get(plots)
    ray.get(_write_users.remote(layout, [
        (which, part.slice, tasks[which, name, OURS]) for which, parts in slices.items() for name, part in parts.items()
    ]))  # fmt: skip
    write_json(layout.evaluation, evaluation)
    from pipelines.core.report import render_report  # noqa: PLC0415 - the workers have no use for matplotlib

    write_text(layout.evaluation_report, render_report(evaluation))
    leading = f"recall@{config.evaluate.k}"
    figures = evaluation["test"][OURS]  # type: ignore[index]
    return {f"{OURS} {leading}": {s: figures[s][leading] for s in KNOWN_SLICES}}


@dataclass(frozen=True)
class _Part:
    """A slice in the object store, with what the driver needs to know of it."""

    slice: ray.ObjectRef
    model: ModelName
    n_users: int
    n_candidates: int


def _parts(config: Config, layout: Layout, which: HeldOut) -> dict[SliceName, _Part]:
    """The slices, each the result of a task: what a task puts into the store itself is lost with its worker."""
    found, sizes = _slices.options(num_returns=2).remote(config, layout, which)
    return {name: _Part(_slice.remote(found, name), *size) for name, size in ray.get(sizes).items()}


@ray.remote
def _slices(
    config: Config, layout: Layout, which: HeldOut
) -> tuple[dict[SliceName, Slice], dict[SliceName, tuple[ModelName, int, int]]]:
    found = load_slices(layout, which, config.evaluate.max_users)
    return found, {name: (s.model, len(s.users), len(s.candidates)) for name, s in found.items()}


@ray.remote
def _slice(found: dict[SliceName, Slice], name: SliceName) -> Slice:
    return found[name]


@ray.remote
def _scorer(config: Config, layout: Layout, name: str, model: ModelName) -> Scorer:
    if name == OURS:
        return load_model(config, layout, model)
    settings = baseline_settings(config)
    return fit_baseline(name, load_training(layout, model), settings, config.factorize.seed)


def load_model(config: Config, layout: Layout, model: ModelName) -> FittedModel:
    """The fitted model from storage."""
    counts = _counts(layout, model)
    maps = read_tensors(layout.text_maps(model))
    return FittedModel(
        read_rows(layout.factors(model, "item"), 0, len(counts)),
        read_rows(layout.item_profiles(model), 0, len(counts)),
        counts,
        maps["user_map"],
        maps["item_gramian"],
        config.factorize,
        config.blend,
    )


def _counts(layout: Layout, model: ModelName) -> npt.NDArray[np.int64]:
    """(I,) pairs of each item that a model is fitted on."""
    n_items = pq.read_metadata(layout.ids("items")).num_rows
    n_users = pq.read_metadata(layout.ids("users")).num_rows
    by_item = read_pairs(layout.pairs(model, "item"), "item", 0, n_items, n_users)
    return np.diff(by_item.indptr).astype(np.int64)


@ray.remote
def _facts(layout: Layout, model: ModelName) -> ItemFacts:
    counts = _counts(layout, model)
    users = pq.read_table(layout.pairs(model, "user"), columns=["user_idx"]).column(0)
    profiles = read_rows(layout.item_profiles(model), 0, len(counts))
    return ItemFacts(counts, len(users.unique()), profiles)


Key = tuple[HeldOut, SliceName, str]


def _start(
    config: Config, layout: Layout, slices: Mapping[HeldOut, Mapping[SliceName, _Part]],
    scorers: Mapping[tuple[str, ModelName], ray.ObjectRef], facts: Mapping[ModelName, ray.ObjectRef],
    names: tuple[str, ...],
) -> dict[Key, list[ray.ObjectRef]]:  # fmt: skip
    """Tasks per held-out set, slice and model, one for each block of users; none for a slice without users."""
    tasks: dict[Key, list[ray.ObjectRef]] = {}
    for which, parts in slices.items():
        for slice_name, part in parts.items():
            for name in names:
                tasks[which, slice_name, name] = [
                    _measure.remote(
                        config, layout, part.slice, block, scorers[name, part.model], facts[part.model]
                    )
                    for block in _blocks(part.n_users, config.evaluate.users_per_task)
                ]
    return tasks


def _blocks(n: int, size: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + size, n)) for start in range(0, n, size))


@ray.remote
def _measure(
    config: Config, layout: Layout, part: Slice, block: tuple[int, int], scorer: Scorer, facts: ItemFacts
) -> SliceResult:
    users = part.block(*block)
    result = measure(scorer, users, ask(layout, users), config.evaluate.ks)
    return beyond_accuracy(result, users, facts, config.evaluate.k)


def _wait(tasks: list[ray.ObjectRef], progress: Progress) -> None:
    waiting = list(tasks)
    with progress.bar("ranking blocks of users", len(waiting)) as advance:
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1)
            ray.get(done)  # a failed task is told now, not at the end
            advance(len(done))


def _by_model(names: tuple[str, ...], results: tuple[SliceResult, ...]) -> dict[str, SliceResult]:
    """Results of all models, block after block, joined; nothing where nobody was measured."""
    n_blocks = len(results) // len(names)
    if not n_blocks:
        return {}
    return {
        name: join_results(results[number * n_blocks : (number + 1) * n_blocks])
        for number, name in enumerate(names)
    }


@ray.remote
def _summarize(config: Config, part: Slice, names: tuple[str, ...], *results: SliceResult) -> SliceSummary:
    settings = config.evaluate
    return summarize(
        names, _by_model(names, results), part, settings.ks, settings.k, settings.bootstrap, settings.seed
    )


def _figures(
    names: tuple[str, ...], summaries: Mapping[tuple[HeldOut, SliceName], SliceSummary]
) -> dict[str, object]:
    """Summaries in the shape of the JSON: held-out set, model, slice, metric."""
    result: dict[str, object] = {}
    for which in HELD_OUT:
        result[which] = {n: {s: summaries[which, s].figures[n] for s in SLICES} for n in names}
    result["intervals"] = {
        which: {n: {s: summaries[which, s].intervals[n] for s in SLICES} for n in names} for which in HELD_OUT
    }
    result["differences"] = {w: {s: summaries[w, s].differences for s in SLICES} for w in HELD_OUT}
    return result


@ray.remote
def _plots(
    config: Config, layout: Layout, part: Slice, facts: ItemFacts | None, names: tuple[str, ...],
    *results: SliceResult,
) -> dict[str, object]:  # fmt: skip
    by_model = _by_model(names, results)
    if facts is None or not by_model:
        return {"calibration": None, "exposure": None, "map": None}
    return {
        "calibration": diagnostics.calibration(by_model[OURS], part, facts.counts),
        "exposure": diagnostics.exposure(by_model, part, facts.counts, config.evaluate.k),
        "map": diagnostics.embedding_map(
            facts.profiles, _categories(layout, len(facts.counts)), facts.counts, config.evaluate.seed
        ),
    }


def _categories(layout: Layout, n_items: int) -> list[list[str]]:
    """The categories of each item; of text such as "a|b" or "a, b" its parts."""
    found: list[list[str]] = []
    for path in part_paths(layout.tables / "items"):
        if "categories" not in pq.read_schema(path).names:
            return [[] for _ in range(n_items)]
        for value in pq.read_table(path, columns=["categories"]).column(0).to_pylist():
            parts = value if isinstance(value, list) else str(value or "").replace("|", ",").split(",")
            found.append([str(p).strip() for p in parts if p is not None and str(p).strip()])
    return found


@ray.remote
def _write_users(layout: Layout, parts: list[tuple[HeldOut, ray.ObjectRef, list[ray.ObjectRef]]]) -> None:
    """The model's figures user by user, with a hash of what was to be found, slice after slice."""
    user_ids = pq.read_table(layout.ids("users")).column(0).to_pandas().to_numpy(dtype=object)
    item_ids = pq.read_table(layout.ids("items")).column(0).to_pandas().to_numpy(dtype=object)
    hashes = hash_ids(item_ids)
    frames = []
    for which, slice_ref, result_refs in parts:
        if not result_refs:
            continue
        part: Slice = ray.get(slice_ref)
        result = join_results(ray.get(result_refs))
        relevant = part.relevant
        # the order of a user's items must not matter: a sum, which wraps round
        summed = np.add.reduceat(hashes[relevant.indices], relevant.indptr[:-1])
        frames.append(
            pd.DataFrame(
                {"held_out": which, "slice": part.name, "user_id": user_ids[result.users], "to_find": summed}
                | {name: value.astype(np.float32) for name, value in result.values.items()}
            )
        )
    table = (
        pa.Table.from_pandas(pd.concat(frames, ignore_index=True), preserve_index=False)
        if frames
        else pa.table({})
    )
    write_table(layout.per_user, table)
