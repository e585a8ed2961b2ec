"""Whether off-policy intervals hold the truth: for `exploration.py`, where a policy's true value is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from exploration_world import FIT, Served, Size, Visitor, World, candidates_of, make_world, publish

from pipelines.core.belief import Belief
from pipelines.core.config import ExploreConfig
from pipelines.core.off_policy import Evaluation, LoggedRows, evaluate, place_model
from pipelines.core.policies import rng_of, show

IntArray = npt.NDArray[np.int64]
_KNOWN_CLICKS = 5
ESTIMATORS = ("ips", "snips", "dr")


@dataclass(frozen=True)
class Context:
    """A visitor as requests find them.

    Attributes:
        row: among the visitors.
        items: (c,) rows of the candidates.
        belief: about their scores.
        is_cold: (c,).
        targets: by name, the rows of the list that a target policy shows.

    """

    row: int
    items: IntArray
    belief: Belief
    is_cold: npt.NDArray[np.bool_]
    targets: dict[str, IntArray]


@dataclass
class Held:
    """Of one logged policy and one target: over repeats, for each estimator."""

    truth: float
    inside: dict[str, int]
    error: dict[str, list[float]]
    width: dict[str, list[float]]
    weight: list[float]
    supported: int = 0


def measure(size: Size, seed: int, loggers: dict[str, ExploreConfig], lists: int, repeats: int) -> list[str]:
    """Rows of a table: how often 95 % intervals from `lists` logged lists hold the truth."""
    world = make_world(size, seed)
    first, other = (
        publish(world),
        publish(world, None, FIT.model_copy(update={"n_factors": 16, "alpha": 5.0})),
    )
    lines = [
        "| logged by | target | true clicks a list | estimator | interval holds it | mean error | mean half-width | "
        "mean weight | told to be supported |", "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, settings in loggers.items():
        contexts = make_contexts(world, first, other, size, settings)
        held = repeat(world, contexts, size, settings, lists, repeats, seed)
        for target, h in held.items():
            for estimator in ESTIMATORS:
                cells = [
                    name, target, f"{h.truth:.3f}", estimator.upper(), f"{h.inside[estimator] / repeats:.1%}",
                    f"{np.mean(h.error[estimator]):+.3f}", f"{np.mean(h.width[estimator]):.3f}",
                    f"{np.mean(h.weight):.3f}", f"{h.supported / repeats:.0%}",
                ]  # fmt: skip
                lines.append("| " + " | ".join(cells) + " |")
            print("\n".join(lines[-3:]), flush=True)
    return lines


def make_contexts(
    world: World, first: Served, other: Served, size: Size, settings: ExploreConfig
) -> list[Context]:
    """Visitors who have clicked on a few items; lists of this version and of another one."""
    contexts = []
    shown = np.zeros(size.items, dtype=np.int64)
    for row, wants in enumerate(world.wants):
        rng = np.random.default_rng([row, 3])
        clicked = rng.choice(size.items, _KNOWN_CLICKS, replace=False, p=wants / wants.sum())
        visitor = Visitor(row, np.zeros(size.items), clicked.tolist())
        items, belief, is_cold, _ = candidates_of(world, first, visitor, shown, settings, size.n)
        others, *_ = candidates_of(world, other, visitor, shown, settings, size.n)
        targets = {"the best, without exploring": items[: size.n], "another version": others[: size.n]}
        contexts.append(Context(row, items, belief, is_cold, targets))
    return contexts


def repeat(
    world: World, contexts: list[Context], size: Size, settings: ExploreConfig, lists: int, repeats: int, seed: int
) -> dict[str, Held]:  # fmt: skip
    """Log lists of visitors drawn at random, estimate, and compare with the truth; again and again."""
    held = {}
    for target in contexts[0].targets:
        truth = np.mean([world.looks @ world.wants[c.row][c.targets[target]] for c in contexts])
        held[target] = Held(
            float(truth), dict.fromkeys(ESTIMATORS, 0), {e: [] for e in ESTIMATORS}, {e: [] for e in ESTIMATORS}, []
        )  # fmt: skip
    rng = np.random.default_rng([seed, 4])
    for number in range(repeats):
        drawn = rng.integers(len(contexts), size=lists)
        shown = np.zeros((lists, size.n), dtype=np.int64)
        propensities = np.zeros((lists, size.n))
        for k, who in enumerate(drawn):
            c = contexts[who]
            answer = show(c.belief, c.is_cold, size.n, settings, rng_of(seed, f"{number} {k}"))
            shown[k], propensities[k] = c.items[answer.places], answer.propensities
        wants = world.wants[np.array([contexts[who].row for who in drawn])[:, None], shown]
        clicks = (rng.random(shown.shape) < world.looks * wants).astype(np.float64)
        rows = LoggedRows(
            lists, np.repeat(np.arange(lists), size.n), np.tile(np.arange(size.n), lists), propensities.ravel(),
            clicks.ravel(),
        )  # fmt: skip
        for target, h in held.items():
            wanted = np.array([contexts[who].targets[target] for who in drawn])
            model = place_model(rows, np.full(lists, size.n))
            _note(h, evaluate(rows, (wanted == shown).ravel().astype(np.float64), model))
    return held


def _note(held: Held, found: Evaluation) -> None:
    for name in ESTIMATORS:
        estimate = getattr(found, name)
        held.inside[name] += estimate.low <= held.truth <= estimate.high
        held.error[name].append(estimate.value - held.truth)
        held.width[name].append((estimate.high - estimate.low) / 2)
    held.weight.append(found.diagnostics.mean_weight)
    held.supported += found.diagnostics.is_supported
