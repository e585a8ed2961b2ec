"""Factors in, figures out: the model and its baselines on the held-out slices.

Reads: pairs, slices and item roles of split; text embeddings of embed; the `train` factors of factorize.
Writes: `evaluation.json`, `report.html`.

Tasks rank blocks of users; item vectors are in the object store once, per-user figures come back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import ray
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from implicit.recommender_base import ModelFitError

from pipelines.core import blend
from pipelines.core.als import confidences
from pipelines.core.config import Config
from pipelines.core.errors import ConfigError
from pipelines.core.ids import hash_ids, sampled
from pipelines.core.layout import HeldOut, Layout
from pipelines.core.measure import SLICES, SliceName, SliceResult, join_results, measure_block, summarize
from pipelines.core.pairs import read_pairs, signs, wanted_counts
from pipelines.core.report import render_report
from pipelines.core.schema import ITEM_IDX, USER_IDX
from pipelines.core.storage import read_rows, read_tensors, write_json, write_text
from pipelines.progress import Progress

__all__ = ["run"]

FloatArray = npt.NDArray[np.float32]
_BASELINE_ITERATIONS = 15
"""What implicit does unless told otherwise; plain ALS starts from noise and needs them."""
HELD_OUT: tuple[HeldOut, ...] = ("validation", "test")


def run(config: Config, layout: Layout, data: str, progress: Progress) -> dict[str, object]:  # noqa: ARG001
    """Measure every model on every slice; validation is for choosing, test for reporting."""
    names = ("kindling", *config.evaluate.baselines)
    vectors = {name: _VECTORS[name].remote(config, layout) for name in names}
    candidates = ray.put(ray.get(_candidates.remote(layout)))
    n_users = pq.read_metadata(layout.ids("users")).num_rows
    blocks = [
        (start, min(start + config.evaluate.users_per_task, n_users))
        for start in range(0, max(n_users, 1), config.evaluate.users_per_task)  # no users are one empty block
    ]
    tasks = {
        (name, which, block): _measure.remote(config, layout, name, which, block, candidates, vectors[name])
        for name in names
        for which in HELD_OUT
        for block in blocks
    }
    results = _collect(tasks, progress)
    evaluation = _summary(config, names, blocks, results)
    write_json(layout.evaluation, evaluation)
    write_text(layout.evaluation_report, render_report(evaluation))
    return {"kindling": {s: evaluation["test"]["kindling"][s].get("recall@20") for s in SLICES}}  # type: ignore[index]


Key = tuple[str, HeldOut, tuple[int, int]]


def _collect(tasks: dict[Key, ray.ObjectRef], progress: Progress) -> dict[Key, dict[SliceName, SliceResult]]:
    waiting = list(tasks.values())
    with progress.bar("ranking blocks of users", len(waiting)) as advance:
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1)
            ray.get(done)  # a failed task is told now, not at the end
            advance(len(done))
    return {key: ray.get(ref) for key, ref in tasks.items()}


def _summary(
    config: Config, names: tuple[str, ...], blocks: list[tuple[int, int]],
    results: dict[Key, dict[SliceName, SliceResult]],
) -> dict[str, dict[str, object]]:  # fmt: skip
    summary: dict[str, dict[str, object]] = {"intervals": {}, "users": {}}
    for which in HELD_OUT:
        figures: dict[str, object] = {}
        intervals: dict[str, object] = {}
        for name in names:
            joined = {s: join_results([results[name, which, b][s] for b in blocks]) for s in SLICES}
            both = {
                s: summarize(r, config.evaluate.bootstrap, config.evaluate.seed) for s, r in joined.items()
            }
            figures[name] = {s: means for s, (means, _) in both.items()}
            intervals[name] = {s: bounds for s, (_, bounds) in both.items()}
            summary["users"][which] = {s: len(next(iter(r.values.values()))) for s, r in joined.items()}
        summary[which] = figures
        summary["intervals"][which] = intervals
    return summary


@ray.remote
def _candidates(layout: Layout) -> dict[SliceName, npt.NDArray[np.int64]]:
    """Who competes in each slice, shuffled by id so that ties favour nobody."""
    roles = pq.read_table(layout.item_roles).column(0).to_pandas().to_numpy()
    ids = pq.read_table(layout.ids("items")).column(0).to_pandas().to_numpy(dtype=object)
    shuffled = np.argsort(hash_ids(ids), kind="stable")
    return {
        "cold": shuffled[roles[shuffled] == "cold"],
        "warm": shuffled[roles[shuffled] == "warm"],
        "all": shuffled,
    }


@dataclass(frozen=True)
class _Vectors:
    """A model as dot products.

    Attributes:
        items: (I, D).
        users: (U, D), or None where a block makes its own from factors on storage.

    """

    items: FloatArray
    users: FloatArray | None = None


def _item_profiles(layout: Layout) -> FloatArray:
    return blend.centre(
        read_rows(layout.text_embeddings("items")), read_tensors(layout.text_maps("train"))["item_mean"]
    )


@ray.remote
def _kindling_vectors(config: Config, layout: Layout) -> _Vectors:
    n_items = pq.read_metadata(layout.ids("items")).num_rows
    factors = read_rows(layout.factors("train", "item"), 0, n_items)
    return _Vectors(blend.blend(factors, _item_profiles(layout), config.blend.gamma))


@ray.remote
def _content_vectors(config: Config, layout: Layout) -> _Vectors:  # noqa: ARG001 - one shape for all models
    return _Vectors(_item_profiles(layout))


@ray.remote
def _popularity_vectors(config: Config, layout: Layout) -> _Vectors:  # noqa: ARG001
    n_items = pq.read_metadata(layout.ids("items")).num_rows
    n_users = pq.read_metadata(layout.ids("users")).num_rows
    counts = wanted_counts(read_pairs(layout.pairs("train", "item"), "item", 0, n_items, n_users))
    return _Vectors(counts[:, None], np.ones((n_users, 1), dtype=np.float32))


@ray.remote
def _als_vectors(config: Config, layout: Layout) -> _Vectors:
    """`implicit` itself on the same pairs and confidences, without text."""
    n_items = pq.read_metadata(layout.ids("items")).num_rows
    n_users = pq.read_metadata(layout.ids("users")).num_rows
    pairs = read_pairs(layout.pairs("train", "user"), "user", 0, n_users, n_items)
    pairs.data = confidences(pairs.data, config.evaluate.als_alpha)
    if not pairs.nnz:
        return _Vectors(np.zeros((n_items, 1), dtype=np.float32), np.zeros((n_users, 1), dtype=np.float32))
    model = AlternatingLeastSquares(
        factors=config.factorize.n_factors, regularization=config.evaluate.als_regularization, alpha=1.0,
        iterations=_BASELINE_ITERATIONS, use_cg=False, use_native=True, num_threads=1,
        random_state=config.factorize.seed,
    )  # fmt: skip
    try:
        model.fit(pairs, show_progress=False)
    except (ValueError, ModelFitError) as e:
        raise ConfigError(
            f"the baseline 'als' cannot be fitted ({e}): raise evaluate.als_regularization, lower "
            "evaluate.als_alpha, or leave 'als' out of evaluate.baselines."
        ) from e
    return _Vectors(model.item_factors, model.user_factors)


_VECTORS: dict[str, ray.remote_function.RemoteFunction] = {
    "kindling": _kindling_vectors,
    "content": _content_vectors,
    "popularity": _popularity_vectors,
    "als": _als_vectors,
}


@ray.remote
def _measure(
    config: Config, layout: Layout, name: str, which: HeldOut, block: tuple[int, int],
    candidates: dict[SliceName, npt.NDArray[np.int64]], vectors: _Vectors,
) -> dict[SliceName, SliceResult]:  # fmt: skip
    n_items = len(vectors.items)
    history = read_pairs(layout.pairs("train", "user"), "user", *block, n_items)
    held_out = pq.read_table(
        layout.relevant(which), filters=[(USER_IDX, ">=", block[0]), (USER_IDX, "<", block[1])]
    ).to_pandas()
    n_users = pq.read_metadata(layout.ids("users")).num_rows
    held_out = held_out[sampled(held_out[USER_IDX].to_numpy(), config.evaluate.max_users / max(n_users, 1))]
    users = _user_vectors(config, layout, name, block, history, vectors)
    results: dict[SliceName, SliceResult] = {}
    for slice_name in SLICES:
        rows = held_out if slice_name == "all" else held_out[held_out["slice"] == slice_name]
        relevant = sp.csr_matrix(
            (np.ones(len(rows)), (rows[USER_IDX].to_numpy() - block[0], rows[ITEM_IDX].to_numpy())),
            shape=(block[1] - block[0], n_items),
        )
        results[slice_name] = measure_block(
            users, vectors.items, relevant, history, candidates[slice_name], config.evaluate.ks
        )
    return results


def _user_vectors(
    config: Config,
    layout: Layout,
    name: str,
    block: tuple[int, int],
    history: sp.csr_matrix,
    vectors: _Vectors,
) -> FloatArray:
    if vectors.users is not None:
        return vectors.users[block[0] : block[1]]
    means = read_tensors(layout.text_maps("train"))
    own = blend.centre(read_rows(layout.text_embeddings("users"), *block), means["user_mean"])
    # the profile part of an item's vector is scaled by sqrt(gamma); content vectors are profiles as they are
    items = vectors.items if name == "content" else _item_profiles(layout)
    profile = blend.profiles(
        signs(history), items, own, config.blend.own_text_items, config.blend.history_power
    )
    if name == "content":
        return profile
    return blend.blend(read_rows(layout.factors("train", "user"), *block), profile, config.blend.gamma)
