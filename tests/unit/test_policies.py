"""What a policy shows, how often, and that it says so truly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from pipelines.core.belief import Belief, believe, item_deviation, text_residuals
from pipelines.core.config import ExploreConfig
from pipelines.core.foldin import row_precision
from pipelines.core.policies import Shown, rng_of, show

C, N, F = 30, 6, 4
LOOSE = {"log": True, "margin": 1.0, "max_loss": 1.0, "candidates": C}


def belief(seed: int = 0, item_sd: float = 0.1) -> Belief:
    rng = np.random.default_rng(seed)
    means = -np.sort(-rng.random(C)) + 0.5
    return Belief(means, 0.1 * rng.standard_normal((F, C)), np.full(C, item_sd))


COLD = np.arange(C) % 3 == 2


def frequencies(settings: ExploreConfig, m: int = 3000) -> tuple[npt.NDArray[np.float64], list[Shown]]:
    """(N, C) how often each candidate is at each place over many requests."""
    counts, lists = np.zeros((N, C)), []
    for number in range(m):
        shown = show(belief(), COLD, N, settings, rng_of(1, f"r{number}"))
        assert len(set(shown.places.tolist())) == N
        counts[np.arange(N), shown.places] += 1
        lists.append(shown)
    return counts / m, lists


@pytest.mark.parametrize(
    "settings",
    [
        {"policy": "epsilon", "epsilon": 0.3},
        {"policy": "epsilon", "epsilon": 0.9, "cold_share": 0.25, "cold_candidates": 4, "protected": 2},
        {"policy": "epsilon", "epsilon": 0.0, "cold_share": 0.5},
        {"policy": "epsilon", "epsilon": 0.7, "max_loss": 0.2, "margin": 0.5},
        {"policy": "ucb", "cold_share": 0.3},
    ],
)
def test_what_is_drawn_at_random_is_there_as_often_as_it_says(settings: dict[str, object]) -> None:
    """A place that shows an item says with what probability; over many requests it shows it so often."""
    found, lists = frequencies(ExploreConfig.model_validate(LOOSE | settings))
    said = np.zeros((N, C))
    for shown in lists:
        said[np.arange(N), shown.places] = shown.propensities
    np.testing.assert_allclose(said.sum(axis=1), 1.0)  # every item that may be at a place has been there
    np.testing.assert_array_less(np.abs(found - said), 5 * np.sqrt(said * (1 - said) / 3000) + 1e-9)
    assert (said[ExploreConfig.model_validate(LOOSE | settings).protected :].max(axis=1) < 1).all()


def test_a_draw_of_the_belief_is_one_of_many_that_it_counts() -> None:
    """Given the lists drawn, one is shown as likely as another: over the choice propensities are frequencies."""
    settings = ExploreConfig.model_validate(LOOSE | {"policy": "thompson", "draws": 40})

    class Chosen(np.random.Generator):
        """The same draws, another choice."""

        def __init__(self, choice: int) -> None:
            super().__init__(np.random.PCG64(3))
            self.choice = choice

        def integers(self, high: int) -> int:  # type: ignore[override]
            assert high == 40
            return self.choice

    lists = [show(belief(), COLD, N, settings, Chosen(choice)) for choice in range(40)]
    places = np.array([shown.places for shown in lists])
    for shown in lists:
        np.testing.assert_allclose(shown.propensities, (places == shown.places).mean(axis=0))
        assert shown.propensities[0] == 1.0
    assert len({tuple(row) for row in places.tolist()}) > 20
    # weighted by its propensity each place's items add up to the number of different ones: nothing is left out
    weights = sum(1.0 / shown.propensities for shown in lists) / 40
    np.testing.assert_allclose(weights, [len(set(places[:, k])) for k in range(N)])


def test_thompson_shows_an_item_as_often_as_it_is_the_best() -> None:
    settings = ExploreConfig.model_validate(LOOSE | {"policy": "thompson", "protected": 0, "draws": 64})
    found, _ = frequencies(settings, 800)
    drawn = belief().draw(200_000, np.random.default_rng(5))
    best = np.bincount(np.argmax(drawn, axis=1), minlength=C) / len(drawn)
    np.testing.assert_array_less(np.abs(found[0] - best), 5 * np.sqrt(best * (1 - best) / 800) + 2e-3)


@pytest.mark.parametrize("policy", ["epsilon", "thompson", "ucb"])
@pytest.mark.parametrize("max_loss", [0.0, 0.03, 0.2])
def test_the_guard_holds(policy: str, max_loss: float) -> None:
    settings = ExploreConfig.model_validate(
        {"policy": policy, "epsilon": 0.9, "max_loss": max_loss, "margin": 0.3, "protected": 2, "cold_share": 0.4,
         "item_noise": 10, "draws": 32, "log": True}
    )  # fmt: skip
    sure = belief(item_sd=0.5)
    for number in range(100):
        shown = show(sure, COLD, N, settings, rng_of(0, str(number)))
        scores = sure.means[shown.places]
        assert shown.places[:2].tolist() == [0, 1]
        assert (shown.propensities[:2] == 1).all()
        assert scores.min() >= 0.7 * sure.means[0] - 1e-12 or set(shown.places) <= set(range(N))
        look = 1.0 / np.log2(2.0 + np.arange(N))
        assert look @ (sure.means[:N] - scores) <= max_loss * look @ sure.means[:N] + 1e-6
        if max_loss == 0:
            assert shown.places.tolist() == list(range(N))
            assert shown.propensities.tolist() == [1.0] * N


@pytest.mark.parametrize("policy", ["epsilon", "thompson", "ucb"])
def test_cold_items_have_their_share_of_places_and_hot_ones_theirs(policy: str) -> None:
    settings = ExploreConfig.model_validate(
        LOOSE | {"policy": policy, "epsilon": 0.0, "cold_share": 0.25, "noise": 0}
    )
    mean = Belief(belief().means + 10.0 * ~COLD, np.zeros((F, C)), np.zeros(C))
    order = np.argsort(-mean.means)
    sure, cold = Belief(mean.means[order], mean.loadings, mean.item_sd), COLD[order]
    shares = [cold[show(sure, cold, N, settings, rng_of(0, str(k))).places].mean() for k in range(800)]
    assert np.mean(shares) == pytest.approx(0.25, abs=0.02)


def test_nothing_is_tried_where_nothing_is_to_be_tried() -> None:
    for settings in (
        ExploreConfig(),
        ExploreConfig(policy="thompson", protected=N),
        ExploreConfig(policy="epsilon", epsilon=0),
    ):
        shown = show(belief(), COLD, N, settings, rng_of(0, "x"))
        assert shown.places.tolist() == list(range(N))
        assert shown.propensities.tolist() == [1.0] * N
        assert shown.bonus.tolist() == [0.0] * N


@pytest.mark.parametrize("policy", ["epsilon", "thompson"])
def test_a_request_is_answered_alike_everywhere_and_others_otherwise(policy: str) -> None:
    settings = ExploreConfig.model_validate(LOOSE | {"policy": policy, "epsilon": 0.5})

    def answer(seed: int, name: str) -> list[int]:
        return show(belief(), COLD, N, settings, rng_of(seed, name)).places.tolist()

    assert answer(0, "请求") == answer(0, "请求")
    assert answer(0, "请求") != answer(1, "请求")
    assert answer(0, "请求") != answer(0, "b")


def test_a_belief_is_the_gaussian_that_it_says() -> None:
    """Draws have the covariance sigma^2 Y H^-1 Y' + diag(item variance)."""
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((C, F)).astype(np.float32)
    precision = row_precision(factors[:3], np.array([4.0, -9.0, 2.0]), np.eye(F, dtype=np.float32), 0.7)
    item_sd = rng.random(C)
    made = believe(np.zeros(C), factors, precision, 0.4, item_sd)
    expected = 0.16 * factors @ np.linalg.inv(precision) @ factors.T + np.diag(item_sd**2)
    np.testing.assert_allclose(made.sd, np.sqrt(np.diag(expected)), rtol=1e-6)
    np.testing.assert_allclose(np.cov(made.draw(200_000, rng).T), expected, atol=0.02)


def test_what_texts_leave_open_is_how_far_behaviour_has_moved_others() -> None:
    rng = np.random.default_rng(0)
    spread = np.array([0.1, 0.3, 1.0, 0.0])
    predicted = rng.standard_normal((20_000, F)).astype(np.float32)
    factors = predicted + (spread * rng.standard_normal(predicted.shape)).astype(np.float32)
    evidence = np.where(np.arange(20_000) < 15_000, 1_000, 0)
    factors[15_000:] = 1e6  # nobody has been near them: they say nothing
    residuals = text_residuals(factors, predicted, evidence)
    np.testing.assert_allclose(residuals, np.diag(spread**2), atol=0.03)
    found = item_deviation(
        np.eye(F)[2], residuals, np.array([0.0, 20.0, 60.0]), np.array([1.0, 1.0, 2.0]), 20.0, 0.5
    )
    np.testing.assert_allclose(found, [0.5, 0.5 / np.sqrt(2), 0.5], rtol=0.02)
    assert not text_residuals(factors, predicted, np.zeros(20_000, dtype=np.int64)).any()
