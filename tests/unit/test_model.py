"""The alternation over shards and the fitted model, against a dense implementation of the documented updates.

Dimensions as in `model`: U users, I items, F factors, E profile, D = E + 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import log2
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from pipelines.core import als, blend
from pipelines.core.alternate import Here, SideState, alternate, begin, first_factors, pull
from pipelines.core.config import BlendConfig, FactorizeConfig
from pipelines.core.foldin import build_profile, fold_in
from pipelines.core.ids import hash_ids, normal_by_id
from pipelines.core.model import FittedModel, asked_of, fit
from pipelines.core.pairs import signs
from pipelines.core.scoring import Asked, Training
from pipelines.core.shards import item_shard, user_shard

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
Hashes = npt.NDArray[np.uint64]

N_USERS, N_ITEMS, WIDTH = 17, 13, 4

# every setting named: what is tested does not change with the defaults
PLAIN: dict[str, Any] = {
    "n_factors": 3, "iterations": 4, "alpha": 4.0, "user_regularization": 2.0, "item_regularization": 1.5,
    "text_weight": 1.0, "user_frequency_power": 0.0, "item_frequency_power": 0.0, "user_text_fade": 0.0,
    "item_text_fade": 0.0, "user_ridge": 1.0, "item_ridge": 3.0, "cold_ridge": 0.0, "evidence_power": 1.0, "seed": 0,
    "exposure_power": 0.0,
}  # fmt: skip
BENT: dict[str, Any] = PLAIN | {
    "user_regularization": 3.0, "text_weight": 0.7, "user_frequency_power": 0.8, "item_frequency_power": 1.3,
    "user_text_fade": 2.5, "item_text_fade": 4.0, "cold_ridge": 9.0, "evidence_power": 0.4, "user_ridge": 0.5,
    "seed": 3, "exposure_power": 1.0,
}  # fmt: skip
PLAIN_BLEND = BlendConfig(
    gamma=0.2,
    text_fade=0.0,
    cold_scale=1.0,
    history_power=0.5,
    own_text_items=1.0,
    query_items=3.0,
    unwanted_items=1.0,
)
BENT_BLEND = BlendConfig(
    gamma=0.6,
    text_fade=0.3,
    cold_scale=1.8,
    history_power=0.7,
    own_text_items=2.0,
    query_items=1.5,
    unwanted_items=0.4,
)
SETTINGS = [
    pytest.param(PLAIN, PLAIN_BLEND, id="plain"),
    pytest.param(BENT, BENT_BLEND, id="everything"),
    pytest.param(
        PLAIN | {"user_frequency_power": 1.0, "item_frequency_power": 0.5}, PLAIN_BLEND, id="frequency"
    ),
    pytest.param(PLAIN | {"user_text_fade": 3.0, "item_text_fade": 1.0}, PLAIN_BLEND, id="fade"),
    pytest.param(PLAIN | {"evidence_power": 0.0}, PLAIN_BLEND, id="evidence"),
    pytest.param(PLAIN | {"exposure_power": 0.5}, PLAIN_BLEND, id="exposure"),
    pytest.param(PLAIN | {"text_weight": 0.0}, PLAIN_BLEND.model_copy(update={"gamma": 0.0}), id="no text"),
    pytest.param(BENT | {"solver": "cg", "cg_steps": 30}, BENT_BLEND, id="cg"),
]


def normal(rng: np.random.Generator, *shape: int) -> FloatArray:
    return rng.standard_normal(shape).astype(np.float32)


def hashes_of(names: Iterable[object]) -> Hashes:
    return hash_ids(np.array([str(n) for n in names], dtype=object))


HASHES = hashes_of(range(N_ITEMS))


def problem(seed: int = 0, n_users: int = N_USERS, n_items: int = N_ITEMS) -> Training:
    """Likes and dislikes of several weights; users and items without pairs, words or text among them."""
    rng = np.random.default_rng(seed)
    weights = np.where(rng.random((n_users, n_items)) < 0.35, 1, 0) * rng.choice(
        [-1.5, 0.5, 1, 1, 2, 3], (n_users, n_items)
    )
    weights[[0, 5]], weights[:, [2, 9]] = 0, 0
    weights[1], weights[1, 4] = 0, -1  # somebody who only dislikes
    items, own = blend.normalize(normal(rng, n_items, WIDTH)), blend.normalize(normal(rng, n_users, WIDTH))
    items[[3, 9]], own[::3] = 0, 0
    exposure = rng.uniform(0.02, 1.0, n_items).astype(np.float32)
    return Training(sp.csr_matrix(weights.astype(np.float32)), items, own, [], exposure)


# ---------------------------------------------------------------- the slow way


@dataclass(frozen=True)
class Slow:
    """Stored factors and maps, the maps times `text_weight`."""

    x: DoubleArray
    y: DoubleArray
    user_map: DoubleArray
    item_map: DoubleArray


def features_of(profile: DoubleArray) -> DoubleArray:
    length = np.linalg.norm(profile)
    return np.append(profile / length if length > 0 else profile, 1.0)


def strength_of(n: int, regularization: float, power: float) -> float:
    return float(regularization * 2 ** (power * round(2 * log2(1 + n)) / 2))


def share_of(n: int, fade: float) -> float:
    return 1 / (1 + n / fade) if fade else 1.0


def solve_side(
    weights: DoubleArray, exposure: DoubleArray, opposite: DoubleArray, priors: DoubleArray, alpha: float, *,
    strength: float, power: float, fade: float,
) -> DoubleArray:  # fmt: skip
    """Minimise sum e (x.y)^2 + sum_S (c - 1) (x.y)^2 - 2 c p x.y + lam |x - s prior|^2, row by row over all columns."""
    solved = np.zeros_like(priors)
    for row in range(len(weights)):
        n = np.count_nonzero(weights[row])
        if not n:
            continue
        lam = strength_of(n, strength, power)
        matrix = lam * np.eye(opposite.shape[1])
        right = lam * share_of(n, fade) * priors[row]
        for weight, e, y in zip(weights[row], exposure[row], opposite, strict=True):
            c, p = 1 + alpha * abs(weight), float(weight > 0)
            matrix += (e + c - 1) * np.outer(y, y)
            right += c * p * y
        solved[row] = np.linalg.solve(matrix, right)
    return solved


def regress(
    rows: list[tuple[float, DoubleArray, DoubleArray]], ridge: float, width: int, n: int
) -> DoubleArray:
    """The map that minimises the weighted squares of (weight, features, target) and its own."""
    gram, cross = ridge * np.eye(width), np.zeros((width, n))
    for weight, f, target in rows:
        gram += weight * np.outer(f, f)
        cross += weight * np.outer(f, target)
    return np.linalg.solve(gram, cross)


def liked(weights: DoubleArray, b: BlendConfig) -> DoubleArray:
    return np.asarray((weights > 0) - b.unwanted_items * (weights < 0))


def exposure_of(training: Training, s: FactorizeConfig) -> DoubleArray:
    assert training.item_exposure is not None
    return np.asarray(training.item_exposure.astype(np.float64) ** s.exposure_power)


def slow_fit(training: Training, hashes: Hashes, s: FactorizeConfig, b: BlendConfig) -> Slow:
    w = training.pairs.toarray().astype(np.float64)
    n_users, seen = len(w), np.broadcast_to(exposure_of(training, s), w.shape)
    g = np.array([features_of(p) for p in training.item_profiles.astype(np.float64)])
    profiles = [
        b.own_text_items * training.own_profiles[u].astype(np.float64)
        + liked(w[u], b) @ training.item_profiles.astype(np.float64)
        for u in range(n_users)
    ]
    f = np.array([features_of(p) for p in profiles])
    own = [features_of(p) if p.any() else None for p in training.own_profiles.astype(np.float64)]
    user_map = item_map = np.zeros((g.shape[1], s.n_factors))
    y = 0.01 * normal_by_id(hashes, s.n_factors, s.seed).astype(np.float64)
    y[~w.any(axis=0)] = 0

    def users() -> DoubleArray:
        return solve_side(
            w, seen, y, s.text_weight * f @ user_map, s.alpha, strength=s.user_regularization,
            power=s.user_frequency_power, fade=s.user_text_fade,
        )  # fmt: skip

    def fit_user_map() -> DoubleArray:
        rows = []
        for u, i in zip(*np.nonzero(w > 0), strict=True):
            rows.append((1.0, g[i], x[u]))
            if own[u] is not None:
                rows.append((1.0, own[u], x[u]))
        return regress(rows, s.user_ridge, g.shape[1], s.n_factors)

    def fit_item_map(ridge: float) -> DoubleArray:
        counts = (w > 0).sum(axis=0)
        rows = [(float(counts[i]) ** s.evidence_power, g[i], y[i]) for i in np.flatnonzero(counts)]
        return regress(rows, ridge, g.shape[1], s.n_factors)

    for _ in range(s.iterations):
        x = users()
        if s.text_weight:
            user_map = fit_user_map()
        y = solve_side(
            w.T, seen.T, x, s.text_weight * g @ item_map, s.alpha, strength=s.item_regularization,
            power=s.item_frequency_power, fade=s.item_text_fade,
        )  # fmt: skip
        if s.text_weight:
            item_map = fit_item_map(s.item_ridge)
    x = users()
    if s.cold_ridge and s.text_weight:
        item_map = fit_item_map(s.cold_ridge)
    user_map, item_map = s.text_weight * user_map, s.text_weight * item_map
    x[~w.any(axis=1)] = (f @ user_map)[~w.any(axis=1)]
    y[~w.any(axis=0)] = (g @ item_map)[~w.any(axis=0)]
    return Slow(x, y, user_map, item_map)


def slow_profile(training: Training, weights: DoubleArray, words: DoubleArray, b: BlendConfig) -> DoubleArray:
    """P_u of one user whose words are scaled already."""
    total = words + liked(weights, b) @ training.item_profiles.astype(np.float64)
    return np.asarray(total / (1 + np.count_nonzero(weights)) ** b.history_power)


# ---------------------------------------------------------------- the alternation


@dataclass(frozen=True)
class Sides:
    """What the stage stores: factors with cold rows filled in, and the sides as they ended."""

    x: FloatArray
    y: FloatArray
    users: SideState
    items: SideState


def in_shards(
    training: Training, hashes: Hashes, s: FactorizeConfig, b: BlendConfig, n_shards: int = 1
) -> Sides:
    """`factorize` without Ray."""
    by_item = training.pairs.T.tocsr()
    by_item.sort_indices()
    cuts = [als.cut_rows(rows.indptr.astype(np.int64), n_shards) for rows in (training.pairs, by_item)]
    exposure = training.item_exposure
    items = [
        item_shard(
            by_item[a:z], training.item_profiles[a:z], a, s, None if exposure is None else exposure[a:z]
        )
        for a, z in cuts[1]
    ]
    users = [
        user_shard(training.pairs[a:z], training.item_profiles, training.own_profiles[a:z], a, s, b)
        for a, z in cuts[0]
    ]
    gram = np.sum([by_count for _, by_count, _ in items], axis=0)
    # a start of its own for users, which the first half-step overwrites
    starts = {
        "user": [
            first_factors(hashes_of(range(a, z)), users[n][0].evidence, s) for n, (a, z) in enumerate(cuts[0])
        ],
        "item": [first_factors(hashes[a:z], items[n][0].evidence, s) for n, (a, z) in enumerate(cuts[1])],
    }
    user_gram = gram + np.sum([own for _, own in users], axis=0)
    item_gram = np.sum([weighed for _, _, weighed in items], axis=0)
    ended = alternate(
        begin("user", [shard for shard, _ in users], starts["user"], user_gram, s.n_factors, Here()),
        begin("item", [shard for shard, _, _ in items], starts["item"], item_gram, s.n_factors, Here()),
        s, Here(),
    )  # fmt: skip
    filled = [
        np.concatenate(
            [
                als.fill_cold(f, shard.evidence, np.float32(s.text_weight) * (shard.features @ side.text_map))
                for shard, f in zip(side.shards, side.factors, strict=True)
            ]
        )
        for side in ended
    ]
    return Sides(*filled, *ended)


@pytest.mark.parametrize(("factorize", "blending"), SETTINGS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_fit_is_the_documented_updates(factorize: dict[str, Any], blending: BlendConfig, seed: int) -> None:
    training, settings = problem(seed), FactorizeConfig(**factorize)
    slow = slow_fit(training, HASHES, settings, blending)
    model = fit(training, HASHES, settings, blending)
    sides = in_shards(training, HASHES, settings, blending)
    tolerance: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-4}
    np.testing.assert_allclose(model.item_factors, slow.y, **tolerance)
    np.testing.assert_allclose(model.user_map, slow.user_map, **tolerance)
    hot = training.knows_item
    weighed = slow.y[hot] * exposure_of(training, settings)[hot, None]
    np.testing.assert_allclose(model.item_gramian, slow.y[hot].T @ weighed, **tolerance)
    np.testing.assert_allclose(sides.x, slow.x, **tolerance)
    np.testing.assert_allclose(settings.text_weight * sides.items.text_map, slow.item_map, **tolerance)
    np.testing.assert_allclose(sides.y, model.item_factors, atol=1e-6)
    assert np.abs(slow.y).max() > 0.1, "a problem with nothing in it would prove nothing"


@pytest.mark.parametrize(("factorize", "blending"), SETTINGS)
@pytest.mark.parametrize("n_shards", [2, 5, 40])
def test_the_number_of_shards_changes_nothing(
    factorize: dict[str, Any], blending: BlendConfig, n_shards: int
) -> None:
    training, settings = problem(2), FactorizeConfig(**factorize)
    whole, cut = (in_shards(training, HASHES, settings, blending, n) for n in (1, n_shards))
    assert len(cut.users.shards) > 1
    np.testing.assert_allclose(cut.x, whole.x, atol=5e-6)
    np.testing.assert_allclose(cut.y, whole.y, atol=5e-6)
    for side in ("users", "items"):
        for name in ("text_map", "gramian", "features_gram"):
            ours, theirs = (getattr(getattr(s, side), name) for s in (cut, whole))
            np.testing.assert_allclose(ours, theirs, atol=2e-5, err_msg=f"{side} {name}")


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_without_text_it_is_implicit(solver: str) -> None:
    training = problem(6, 40, 30)
    hashes = hashes_of(range(30))
    settings = FactorizeConfig.model_validate(
        PLAIN
        | {"n_factors": 5, "iterations": 6, "item_regularization": 2.0}
        | {"text_weight": 0.0, "solver": solver, "cg_steps": 20}
    )
    confident = sp.csr_matrix(training.pairs, copy=True)
    confident.data = als.confidences(confident.data, 4.0)
    evidence = np.bincount(training.pairs.indices, minlength=30).astype(np.int32)
    with threadpool_limits(1, "blas"):  # implicit warns of more
        theirs = AlternatingLeastSquares(
            factors=5, regularization=2.0, alpha=1.0, iterations=6, use_cg=False, num_threads=1
        )
        theirs.user_factors = np.zeros((40, 5), np.float32)
        theirs.item_factors = first_factors(hashes, evidence, settings)
        theirs.fit(confident, show_progress=False)
        folded = theirs.recalculate_user(np.arange(40), confident)
    model = fit(training, hashes, settings, BlendConfig(gamma=0.0))
    np.testing.assert_allclose(model.item_factors, theirs.item_factors, atol=1e-4)
    assert not model.user_map.any()
    vectors = model.user_vectors(asked_of(training.pairs, training.own_profiles))
    np.testing.assert_allclose(vectors[:, :5], folded, atol=1e-4)
    assert not vectors[:, 5:].any()


def test_the_pull_by_hand() -> None:
    settings = FactorizeConfig(**BENT)
    lam, share = pull("user", np.array([0, 1, 3, 5], dtype=np.int32), settings)
    # 1 + 5 = 6 counts as 2^2.5
    np.testing.assert_allclose(lam, 3 * np.array([1, 2, 4, 2**2.5]) ** 0.8)
    np.testing.assert_allclose(share, 0.7 / (1 + np.array([0, 1, 3, 5]) / 2.5), rtol=1e-6)
    lam, share = pull("item", np.array([0, 7], dtype=np.int32), settings)
    np.testing.assert_allclose(lam, 1.5 * np.array([1, 8]) ** 1.3)
    np.testing.assert_allclose(share, [0.7, 0.7 / (1 + 7 / 4)], rtol=1e-6)
    lam, share = pull("item", np.array([0, 10**6], dtype=np.int32), FactorizeConfig(**PLAIN))
    np.testing.assert_array_equal(lam, [1.5, 1.5])
    np.testing.assert_array_equal(share, [1, 1])


def test_first_factors_belong_to_ids_and_are_zero_for_cold_rows() -> None:
    settings = FactorizeConfig(n_factors=50)
    evidence = np.array([3, 0, 1], dtype=np.int32)
    found = first_factors(HASHES[:3], evidence, settings)
    assert found.dtype == np.float32
    assert not found[1].any()
    assert 0.005 < found[0].std() < 0.02
    np.testing.assert_array_equal(first_factors(HASHES[2:3], evidence[2:], settings), found[2:])


def test_the_order_of_users_and_items_changes_nothing() -> None:
    training, settings = problem(8), FactorizeConfig(**BENT)
    rng = np.random.default_rng(1)
    users, items = rng.permutation(N_USERS), rng.permutation(N_ITEMS)
    shuffled = Training(
        training.pairs[users][:, items].tocsr(),
        training.item_profiles[items],
        training.own_profiles[users],
        [],
        None if training.item_exposure is None else training.item_exposure[items],
    )
    straight = fit(training, HASHES, settings, BENT_BLEND)
    moved = fit(shuffled, HASHES[items], settings, BENT_BLEND)
    np.testing.assert_allclose(moved.item_factors, straight.item_factors[items], atol=1e-5)
    np.testing.assert_allclose(moved.user_map, straight.user_map, atol=1e-5)


@pytest.mark.parametrize("ridge", [1e-3, 500.0])
def test_the_cold_ridge_moves_cold_items_alone(ridge: float) -> None:
    training = problem(3)
    usual, other = (
        fit(training, HASHES, FactorizeConfig(**PLAIN | {"cold_ridge": r}), PLAIN_BLEND) for r in (0.0, ridge)
    )
    hot = training.knows_item
    np.testing.assert_array_equal(other.item_factors[hot], usual.item_factors[hot])
    np.testing.assert_array_equal(other.user_map, usual.user_map)
    lengths = [np.linalg.norm(m.item_factors[~hot], axis=1) for m in (usual, other)]
    assert np.all(lengths[1] < lengths[0]) if ridge > 3 else np.all(lengths[1] != lengths[0])
    same = fit(training, HASHES, FactorizeConfig(**PLAIN | {"cold_ridge": 3.0}), PLAIN_BLEND)
    np.testing.assert_array_equal(same.item_factors, usual.item_factors)  # 3 is what item_ridge is


# ---------------------------------------------------------------- known answers


def checkerboard(n: int) -> sp.csr_matrix:
    """User u wants item i where both are even or both odd."""
    return sp.csr_matrix(np.equal.outer(np.arange(n) % 2, np.arange(n) % 2).astype(np.float32))


def board_scores(board: sp.csr_matrix, text: FloatArray | None = None, **settings: object) -> FloatArray:
    n = board.shape[0]
    none = np.zeros((n, 2), np.float32)
    training = Training(sp.csr_matrix(board), none if text is None else text, none, [])
    config = FactorizeConfig.model_validate(PLAIN | {"alpha": 5.0} | settings)
    model = fit(training, hashes_of(range(n)), config, BlendConfig(gamma=0.0))
    return model.scores(asked_of(training.pairs, none), np.arange(n))


def test_checkerboard_is_reproduced() -> None:
    board = checkerboard(20)
    scores = board_scores(board, user_regularization=1e-3, item_regularization=1e-3, iterations=50)
    np.testing.assert_allclose(scores, board.toarray(), atol=1e-2)


def test_checkerboard_minus_one_pair_per_user_brings_that_pair_back() -> None:
    board = checkerboard(20).tolil()
    board.setdiag(0)
    scores = board_scores(
        board.tocsr(), n_factors=2, user_regularization=1.0, item_regularization=1.0, iterations=10
    )
    scores = np.where(board.toarray() > 0, -np.inf, scores)
    np.testing.assert_array_equal(scores.argmax(axis=1), np.arange(20))


def test_cold_items_of_a_checkerboard_are_known_by_their_text() -> None:
    """The last four items were never seen; their text says whether they are even or odd."""
    board = checkerboard(20).tolil()
    board[:, -4:] = 0
    text = np.eye(2, dtype=np.float32)[np.arange(20) % 2] - np.float32(0.5)
    scores = board_scores(
        board.tocsr(), text, user_regularization=2.0, item_regularization=2.0, item_ridge=1.0, iterations=10
    )
    np.testing.assert_array_equal(scores[:, -4:] > 0.5, checkerboard(20).toarray()[:, -4:] > 0)


# ---------------------------------------------------------------- the model


def questions(training: Training, seed: int = 5) -> Asked:
    """Known users, strangers with words, queries, both or neither, and one with a history nobody has seen."""
    rng = np.random.default_rng(seed)
    n = N_USERS + 5
    history = sp.vstack([training.pairs, sp.csr_matrix((5, N_ITEMS), dtype=np.float32)]).tolil()
    history[N_USERS + 4, [0, 2, 9]] = [1, -1, 3]  # cold items among them
    own, queries = np.zeros((n, WIDTH), np.float32), np.zeros((n, WIDTH), np.float32)
    own[:N_USERS] = training.own_profiles
    own[[N_USERS, N_USERS + 2, N_USERS + 4]] = blend.normalize(normal(rng, 3, WIDTH))
    queries[[1, 4, N_USERS + 1, N_USERS + 2, N_USERS + 4]] = blend.normalize(normal(rng, 5, WIDTH))
    return Asked(history.tocsr(), own, queries, [""] * n, [""] * n)


def slow_scores(training: Training, asked: Asked, model: FittedModel) -> DoubleArray:
    """User by user and item by item, from a model's factors."""
    s, b = model.factorize, model.blending
    y, maps = model.item_factors.astype(np.float64), model.user_map.astype(np.float64)
    evidence = np.count_nonzero(training.pairs.toarray(), axis=0)
    hot, seen = evidence > 0, exposure_of(training, s)
    scores = np.zeros((asked.history.shape[0], N_ITEMS))
    for u, weights in enumerate(asked.history.toarray().astype(np.float64)):
        words = b.own_text_items * asked.own_profiles[u] + b.query_items * asked.queries[u]
        profile = slow_profile(training, weights, words.astype(np.float64), b)
        x = features_of(profile) @ maps
        n = np.count_nonzero(weights)
        if n:
            lam = strength_of(n, s.user_regularization, s.user_frequency_power)
            matrix, right = (
                y[hot].T @ (seen[hot, None] * y[hot]) + lam * np.eye(s.n_factors),
                lam * share_of(n, s.user_text_fade) * x,
            )
            for weight, row in zip(weights, y, strict=True):
                matrix += s.alpha * abs(weight) * np.outer(row, row)
                right += (1 + s.alpha * abs(weight)) * (weight > 0) * row
            x = np.linalg.solve(matrix, right)
        for i in range(N_ITEMS):
            gamma = b.gamma / (1 + evidence[i]) ** b.text_fade
            score = x @ y[i] + gamma * profile @ training.item_profiles[i]
            scores[u, i] = score * (1.0 if hot[i] else b.cold_scale)
    return scores


@pytest.mark.parametrize(("factorize", "blending"), SETTINGS)
def test_scores_are_the_documented_formula(factorize: dict[str, Any], blending: BlendConfig) -> None:
    training = problem(4)
    asked = questions(training)
    model = fit(training, HASHES, FactorizeConfig(**factorize), blending)
    found = model.scores(asked, np.arange(N_ITEMS))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, slow_scores(training, asked, model), rtol=1e-3, atol=1e-4)
    some = np.array([9, 0, 4])
    np.testing.assert_allclose(model.scores(asked, some), found[:, some], atol=1e-6)
    assert model.scores(asked, some[:0]).shape == (N_USERS + 5, 0)


@pytest.mark.parametrize(("factorize", "blending"), SETTINGS)
def test_a_known_user_scores_as_the_stored_factor_does(
    factorize: dict[str, Any], blending: BlendConfig
) -> None:
    training, settings = problem(4), FactorizeConfig(**factorize)
    sides = in_shards(training, HASHES, settings, blending, 3)
    model = fit(training, HASHES, settings, blending)
    asked = asked_of(training.pairs, training.own_profiles)
    amounts = signs(training.pairs, blending.unwanted_items)
    profile = blend.profiles(
        amounts,
        training.item_profiles,
        training.own_profiles,
        blending.own_text_items,
        blending.history_power,
    )
    stored = blend.blend(sides.x, profile, blending.gamma)
    np.testing.assert_allclose(model.user_vectors(asked), stored, atol=5e-5)
    items = blend.item_vectors(sides.y, training.item_profiles, model.item_evidence, blending)
    np.testing.assert_allclose(model.scores(asked, np.arange(N_ITEMS)), stored @ items.T, atol=1e-4)


@pytest.mark.parametrize(("factorize", "blending"), SETTINGS)
def test_folding_one_user_in_gives_the_same_vector(factorize: dict[str, Any], blending: BlendConfig) -> None:
    """What the service does for one request is what the evaluation does for a block."""
    training = problem(4)
    asked = questions(training)
    model = fit(training, HASHES, FactorizeConfig(**factorize), blending)
    vectors = model.user_vectors(asked)
    s = model.factorize
    for u in range(len(vectors)):
        row = asked.history[u]
        texts = np.stack([asked.own_profiles[u], asked.queries[u]])
        profile = build_profile(
            texts, np.array([blending.own_text_items, blending.query_items], np.float32),
            model.item_profiles[row.indices], blend.amounts(row.data, blending.unwanted_items), blending.history_power,
        )  # fmt: skip
        n = np.array([row.nnz], dtype=np.int32)
        lam = als.row_regularization(n, s.user_regularization, s.user_frequency_power)
        folded = fold_in(
            profile, model.user_map, model.item_factors[row.indices], als.confidences(row.data, s.alpha),
            model.item_gramian.astype(np.float32), float(lam[0]), float(als.prior_share(n, s.user_text_fade)[0]),
        )  # fmt: skip
        both = np.concatenate([folded.total, np.sqrt(blending.gamma) * profile.total])
        np.testing.assert_allclose(both, vectors[u], atol=5e-5)
        parts = folded.constant + folded.words.sum(axis=0) + folded.events.sum(axis=0)
        np.testing.assert_allclose(parts, folded.total, atol=1e-12)


def test_users_do_not_depend_on_their_block() -> None:
    training = problem(4)
    asked = questions(training)
    model = fit(training, HASHES, FactorizeConfig(**BENT), BENT_BLEND)
    together = model.user_vectors(asked)
    for u in range(len(together)):
        one = slice(u, u + 1)
        alone = Asked(asked.history[one], asked.own_profiles[one], asked.queries[one], [""], [""])
        np.testing.assert_allclose(model.user_vectors(alone)[0], together[u], atol=1e-5)


def test_nobody_is_asked_for() -> None:
    training = problem(4)
    model = fit(training, HASHES, FactorizeConfig(**BENT), BENT_BLEND)
    nobody = asked_of(sp.csr_matrix((0, N_ITEMS), dtype=np.float32), np.zeros((0, WIDTH), np.float32))
    assert model.scores(nobody, np.arange(4)).shape == (0, 4)


def test_a_question_without_a_query() -> None:
    own = np.ones((2, WIDTH), np.float32)
    asked = asked_of(sp.csr_matrix((2, N_ITEMS), dtype=np.float32), own)
    assert asked.own_profiles is own
    assert asked.queries.shape == own.shape
    assert not asked.queries.any()
    assert list(asked.own_texts) == list(asked.query_texts) == ["", ""]


@pytest.mark.parametrize("factorize", [PLAIN, BENT], ids=["plain", "everything"])
def test_the_model_after_each_pass_is_that_of_so_many_iterations(factorize: dict[str, Any]) -> None:
    training, settings = problem(5), FactorizeConfig(**factorize)
    seen: list[tuple[int, FittedModel]] = []
    final = fit(training, HASHES, settings, BENT_BLEND, lambda n, model: seen.append((n, model)))
    assert [n for n, _ in seen] == [1, 2, 3, 4]
    for n, model in seen:
        alone = fit(training, HASHES, settings.model_copy(update={"iterations": n}), BENT_BLEND)
        for name in ("item_factors", "item_gramian", "user_map", "item_profiles", "item_evidence"):
            np.testing.assert_array_equal(getattr(model, name), getattr(alone, name), err_msg=name)
    np.testing.assert_array_equal(seen[-1][1].item_factors, final.item_factors)
    assert (seen[0][1].item_factors != final.item_factors).any()


def test_whoever_watches_may_stop_it() -> None:
    class Enough(Exception):
        pass

    passes = []

    def stop(number: int, _model: FittedModel) -> None:
        passes.append(number)
        if number == 2:
            raise Enough

    with pytest.raises(Enough):
        fit(problem(5), HASHES, FactorizeConfig(**PLAIN), PLAIN_BLEND, stop)
    assert passes == [1, 2]


def test_nothing_to_learn_from() -> None:
    """Without pairs there is text against text, and nothing more."""
    training = replace(problem(0), pairs=sp.csr_matrix((N_USERS, N_ITEMS), dtype=np.float32))
    model = fit(training, HASHES, FactorizeConfig(**BENT), BENT_BLEND)
    assert not model.item_factors.any()
    assert not model.user_map.any()
    scores = model.scores(asked_of(training.pairs, training.own_profiles), np.arange(N_ITEMS))
    expected = 1.8 * 0.6 * 2.0 * training.own_profiles @ training.item_profiles.T
    np.testing.assert_allclose(scores, expected, atol=1e-5)
