"""Trials beside direct evaluations of the same settings."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from pipelines.core import blend
from pipelines.core.config import Config, parse_config
from pipelines.core.errors import ConfigError
from pipelines.core.ids import hash_ids
from pipelines.core.material import Material
from pipelines.core.measure import measure
from pipelines.core.model import asked_of, fit
from pipelines.core.objective import WORST, Figures, Objective
from pipelines.core.passes import passes
from pipelines.core.scoring import Training
from pipelines.core.search_defaults import OURS
from pipelines.core.search_space import apply, make_space
from pipelines.core.slices import Slice, SliceName
from pipelines.core.trial import Measured, best_so_far, measure_present, try_settings

N_USERS, N_ITEMS, WIDTH, TOPICS = 60, 48, 12, 4
N_WARM = 36
"""The items after these are cold."""


def material(seed: int = 0, *, read_only: bool = False) -> Material:
    """Users who like one topic each, items whose text is about one; everybody's likes of cold items are held out."""
    rng = np.random.default_rng(seed)
    about, likes = np.arange(N_ITEMS) % TOPICS, np.arange(N_USERS) % TOPICS
    topics = rng.standard_normal((TOPICS, WIDTH))
    texts = blend.normalize((topics[about] + 0.7 * rng.standard_normal((N_ITEMS, WIDTH))).astype(np.float32))
    own = blend.normalize((topics[likes] + 0.7 * rng.standard_normal((N_USERS, WIDTH))).astype(np.float32))
    own[::3] = 0  # these wrote nothing
    chance = np.where(about[None, :] == likes[:, None], 0.6, 0.05)
    wanted = rng.random((N_USERS, N_ITEMS)) < chance
    held = wanted & (rng.random((N_USERS, N_ITEMS)) < 0.3)
    held[:, N_WARM:] = wanted[:, N_WARM:]
    known = sp.csr_matrix((wanted & ~held).astype(np.float32))
    training = Training(known, texts, own, [])
    order = np.argsort(hash_ids(np.array([str(i) for i in range(N_ITEMS)], dtype=object)))
    candidates: dict[SliceName, np.ndarray] = {
        "cold": order[order >= N_WARM], "warm": order[order < N_WARM], "all": order,
    }  # fmt: skip
    questions = {}
    for name, rows in candidates.items():
        relevant = np.zeros_like(held)
        relevant[:, rows] = held[:, rows]
        users = np.flatnonzero(relevant.any(axis=1))
        part = Slice(
            name,
            "train",
            users,
            known[users],
            sp.csr_matrix(relevant[users].astype(float)),
            known[users],
            rows,
        )
        questions[name] = part, asked_of(known[users], own[users])
    if read_only:
        for array in (texts, own, known.data, known.indices, known.indptr):
            array.setflags(write=False)
    return Material(
        {"train": training}, hash_ids(np.array([str(i) for i in range(N_ITEMS)], dtype=object)), questions
    )


OBJECTIVE = Objective({"cold": 1.0, "warm": 1.0, "all": 1.0}, ("recall@5", "ndcg@5"))


def config(search: dict[str, Any] | None = None, **tune: object) -> Config:
    raw = {
        # nothing is left to the defaults that a better default would change the outcome by
        "factorize": {
            "n_factors": 6,
            "iterations": 3,
            "alpha": 10.0,
            "user_regularization": 10.0,
            "item_regularization": 5.0,
            "user_frequency_power": 0.0,
            "item_frequency_power": 0.0,
            "user_text_fade": 0.0,
            "item_text_fade": 0.0,
            "user_ridge": 1.0,
            "item_ridge": 3.0,
            "cold_ridge": 0.0,
            "evidence_power": 1.0,
        },
        "blend": {"gamma": 0.2, "text_fade": 0.0, "cold_scale": 1.0, "history_power": 0.5},
        "tune": {"search": search or {}, "passes": 5, **tune},
    }
    return parse_config(raw, "test")


def directly(settings: Config, parts: Material) -> Figures:
    """A fit and a measurement for these settings alone."""
    model = fit(parts.trainings["train"], parts.item_hashes, settings.factorize, settings.blend)
    return {
        name: {
            m: float(v.mean())
            for m, v in measure(model, part, asked, [5]).values.items()
            if m in OBJECTIVE.metrics
        }
        for name, (part, asked) in parts.questions.items()
    }


def assert_same(found: Figures, expected: Figures) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, abs=1e-6), name


def test_a_pass_is_a_fit_of_that_many_iterations() -> None:
    parts, settings = material(), config()
    training = parts.trainings["train"]
    for number, model in enumerate(
        passes(training, parts.item_hashes, settings.factorize, settings.blend), 1
    ):
        alone = settings.factorize.model_copy(update={"iterations": number})
        expected = fit(training, parts.item_hashes, alone, settings.blend)
        np.testing.assert_array_equal(model.item_factors, expected.item_factors)
        np.testing.assert_array_equal(model.user_map, expected.user_map)
    assert number == settings.factorize.iterations


def test_passes_can_be_left_and_pass_errors_on() -> None:
    parts, settings = material(), config()
    training = parts.trainings["train"]
    left = passes(training, parts.item_hashes, settings.factorize, settings.blend)
    assert len(list(islice(left, 2))) == 2
    left.close()
    never = passes(training, parts.item_hashes, settings.factorize, settings.blend)
    never.close()
    wrong = Training(training.pairs, training.item_profiles[:-1], training.own_profiles, [])
    with pytest.raises(ValueError, match=r"dimension|shape|match"):
        next(passes(wrong, parts.item_hashes, settings.factorize, settings.blend))


def test_what_a_trial_reports_is_what_its_settings_reach() -> None:
    parts = material()
    settings = config(
        {
            "factorize.alpha": [1.0, 60.0],
            "blend.gamma": {"choices": [0.0, 0.5, 2.0]},
            "blend.text_fade": {"choices": [0.0, 0.5]},
            "blend.cold_scale": {"choices": [0.5, 1.0, 1.2, 3.0]},
        }
    )
    swept = make_space(settings, OURS).swept
    seen = set()
    for report in try_settings(OURS, parts, settings, swept, OBJECTIVE):
        expected = directly(apply(settings, report.settings), parts)
        assert_same(report.figures, expected)
        assert report.objective == pytest.approx(OBJECTIVE.value(expected), abs=1e-5)
        seen.add(tuple(report.settings[a.name] for a in swept))
    assert report.number == 5
    assert len(seen) > 1, "no setting was ever worth changing: the test shows nothing"


def test_a_sweep_takes_the_best_value_and_only_of_its_own_setting() -> None:
    parts = material()
    settings = config({"factorize.alpha": [1.0, 60.0], "blend.gamma": {"choices": [0.0, 0.5, 2.0]}})
    first = next(try_settings(OURS, parts, settings, make_space(settings, OURS).swept, OBJECTIVE))
    one = settings.factorize.model_copy(update={"iterations": 1})
    reached = {
        gamma: OBJECTIVE.value(
            directly(
                settings.model_copy(
                    update={"factorize": one, "blend": settings.blend.model_copy(update={"gamma": gamma})}
                ),
                parts,
            )  # type: ignore[arg-type]
        )
        for gamma in (0.0, 0.2, 0.5, 2.0)
    }
    assert first.settings["blend.gamma"] == max(reached, key=lambda g: reached[g])
    assert first.objective == pytest.approx(max(reached.values()), abs=1e-5)


def test_the_present_settings_are_measured_as_a_build_would() -> None:
    parts, settings = material(), config()
    present = measure_present(OURS, parts, settings, OBJECTIVE)
    assert_same(present.figures, directly(settings, parts))
    assert present.settings == {"factorize.iterations": 3}


def test_a_trial_from_the_present_settings_is_no_worse() -> None:
    parts, settings = material(), config()
    present = measure_present(OURS, parts, settings, OBJECTIVE).objective
    reports = list(
        best_so_far(try_settings(OURS, parts, settings, make_space(settings, OURS).swept, OBJECTIVE), 5, 9)
    )
    assert reports[-1][1].objective > present
    assert [finished for _, _, finished in reports] == [False] * 4 + [True]


def test_material_from_shared_memory_is_only_read() -> None:
    settings = config()
    swept = make_space(settings, OURS).swept
    free, frozen = (
        list(try_settings(OURS, m, settings, swept, OBJECTIVE))
        for m in (material(), material(read_only=True))
    )
    assert free == frozen


@pytest.mark.parametrize("model", ["als", "als_text", "content", "popularity"])
def test_baselines_are_measured_once(model: str) -> None:
    parts = material(read_only=True)
    reports = list(try_settings(model, parts, config(), (), OBJECTIVE))
    assert [(r.number, r.settings) for r in reports] == [(1, {})]
    assert reports[0] == measure_present(model, parts, config(), OBJECTIVE)
    assert list(best_so_far(iter(reports), 1, 1)) == [(1, reports[0], True)]


def test_two_models_are_fitted_side_by_side() -> None:
    """Users hidden from one of them are asked of that one."""
    parts, other = material(), material(1)
    part, asked = other.questions["all"]
    stranger = replace(part, name="revealed_3", model="newcomers")
    both = Material(
        parts.trainings | {"newcomers": other.trainings["train"]},
        parts.item_hashes,
        {"warm": parts.questions["warm"], "revealed_3": (stranger, asked)},
    )
    objective = Objective({"warm": 1.0, "revealed_3": 1.0}, OBJECTIVE.metrics)
    settings = config()
    reports = list(try_settings(OURS, both, settings, (), objective))
    for report in reports:
        changed = apply(settings, report.settings)
        assert report.figures["warm"] == pytest.approx(directly(changed, parts)["warm"], abs=1e-6)
        assert report.figures["revealed_3"] == pytest.approx(directly(changed, other)["all"], abs=1e-6)
    assert len(reports) == 5


def test_settings_that_cannot_be_solved_say_so() -> None:
    hard = config().model_copy(
        update={
            "factorize": config().factorize.model_copy(
                update={
                    "alpha": 1e6,
                    "user_regularization": 1e-6,
                    "item_regularization": 1e-6,
                    "n_factors": 40,
                }
            )
        }
    )
    with pytest.raises(ConfigError, match="cannot be solved"):
        list(try_settings(OURS, material(), hard, (), OBJECTIVE))


def reports(*objectives: float) -> list[Measured]:
    return [Measured(n, o, {}, {}) for n, o in enumerate(objectives, 1)]


def test_best_so_far_by_hand() -> None:
    told = list(best_so_far(iter(reports(-3.0, -1.0, -2.0, -1.0, -0.5)), passes=10, patience=2))
    assert [(n, best.number, finished) for n, best, finished in told] == [
        (1, 1, False), (2, 2, False), (3, 2, False), (4, 2, True),
    ]  # fmt: skip
    told = list(best_so_far(iter(reports(-3.0, -1.0, -2.0)), passes=3, patience=9))
    assert [finished for _, _, finished in told] == [False, False, True]


def test_objective_by_hand() -> None:
    objective = Objective({"cold": 3.0, "all": 1.0}, ("recall@20", "ndcg@5"))
    figures: dict[SliceName, dict[str, float]] = {
        "cold": {"recall@20": math.exp(-1), "ndcg@5": math.exp(-3)},
        "all": {"recall@20": 0.0, "ndcg@5": 1.0},
    }
    assert objective.value(figures) == pytest.approx((3 * -2 + 1 * math.log(1e-4) / 2) / 4)
    assert objective.ks == [5, 20]
    nothing = {name: dict.fromkeys(objective.metrics, 0.0) for name in figures}
    assert objective.value(nothing) == pytest.approx(WORST)  # type: ignore[arg-type]
    assert objective.words() == (
        "mean logarithm of recall@20 and ndcg@5 on validation; weights of slices: cold 3, all 1"
    )
