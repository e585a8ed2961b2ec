"""One trial: fit with some settings, measure after every pass, and read the fitted model in several ways.

Dimensions: n users of a slice, I items, F factors, E profile.

Two things cost no fit of their own. The model after pass n of many is the model of n iterations, so the best pass is
taken instead of searching for a number of iterations. And gamma, its fade and the scale of cold items change only
how factors and profiles are put together: with users folded in once, each pass tries every value of one of these
settings, the others as they were found best so far; the next pass takes the next setting. From the second round on
only the values next to the best so far are tried.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from pipelines.core import blend
from pipelines.core.baselines import fit_baseline
from pipelines.core.baselines.settings import baseline_settings
from pipelines.core.config import BlendConfig, Config
from pipelines.core.layout import ModelName
from pipelines.core.material import Material
from pipelines.core.measure import measure
from pipelines.core.model import FittedModel, fit
from pipelines.core.objective import Figures, Objective
from pipelines.core.passes import passes
from pipelines.core.scoring import Asked, IntArray, Scorer
from pipelines.core.search_defaults import OURS
from pipelines.core.search_space import ITERATIONS, Axis, Settings, Space, Value, apply
from pipelines.core.slices import Slice, SliceName

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Measured:
    """What one way of reading one pass reached.

    Attributes:
        number: of the pass, from 1; 0 for a fine-tuning that made nothing better.
        objective: higher is better.
        settings: the swept ones, and the number of iterations, where the model has them.
        figures: behind the objective.

    """

    number: int
    objective: float
    settings: Settings
    figures: Figures


Tell = Callable[[int, Measured, bool], None]
"""After each pass of a trial: its number, the best pass yet, whether it was the last one."""


@dataclass(frozen=True)
class ModelTrials:
    """How trials of one study fit and measure a model.

    Attributes:
        config: the present settings.
        space: what varies.
        objective: what counts.
        material: what all of them are fitted and measured on.

    """

    config: Config
    space: Space
    objective: Objective
    material: Material

    def present(self, tell: Tell) -> None:
        """Trial 0: what a build with the settings as they are would reach.

        Raises:
            ConfigError: the settings cannot be solved.

        """
        tell(1, measure_present(self.space.model, self.material, self.config, self.objective), True)

    def attempt(self, settings: Settings, tell: Tell) -> None:
        """Fit and measure, pass by pass.

        Raises:
            ConfigError: the settings cannot be solved.

        """
        config, tune = apply(self.config, settings), self.config.tune
        reports = try_settings(self.space.model, self.material, config, self.space.swept, self.objective)
        for number, best, finished in best_so_far(reports, tune.passes, tune.patience):
            tell(number, best, finished)


def try_settings(
    model: str, material: Material, config: Config, swept: Sequence[Axis], objective: Objective
) -> Generator[Measured, None, None]:
    """Fit `model` and measure it after every pass, `tune.passes` at most; a baseline has one.

    Raises:
        ConfigError: the settings cannot be solved.

    """
    with threadpool_limits(1):
        if model != OURS:
            yield _measure_baseline(model, material, config, objective)
            return
        yield from _try_kindling(material, config, swept, objective)


def measure_present(model: str, material: Material, config: Config, objective: Objective) -> Measured:
    """What a build with `config` as it is would reach.

    Raises:
        ConfigError: the settings cannot be solved.

    """
    with threadpool_limits(1):
        if model != OURS:
            return _measure_baseline(model, material, config, objective)
        scorers: dict[ModelName, Scorer] = {
            name: fit(training, material.item_hashes, config.factorize, config.blend)
            for name, training in material.trainings.items()
        }
        figures = _figures(material, scorers, objective)
    number = config.factorize.iterations
    return Measured(number, objective.value(figures), {ITERATIONS: number}, figures)


def best_so_far(
    reports: Iterator[Measured], passes: int, patience: int
) -> Iterator[tuple[int, Measured, bool]]:
    """After each pass its number, the best pass yet, and whether it was the last one.

    Args:
        reports: of a trial.
        passes: how many there can be.
        patience: passes without anything better after which the trial ends.

    """
    best: Measured | None = None
    for report in reports:
        if best is None or report.objective > best.objective:
            best = report
        finished = report.number >= passes or report.number - best.number >= patience
        yield report.number, best, finished
        if finished:
            return


def _measure_baseline(name: str, material: Material, config: Config, objective: Objective) -> Measured:
    settings, seed = baseline_settings(config), config.factorize.seed
    scorers = {m: fit_baseline(name, t, settings, seed) for m, t in material.trainings.items()}
    figures = _figures(material, scorers, objective)
    return Measured(1, objective.value(figures), {}, figures)


def _figures(material: Material, scorers: Mapping[ModelName, Scorer], objective: Objective) -> Figures:
    return {
        name: _means(scorers[part.model], part, asked, objective)
        for name, (part, asked) in material.questions.items()
    }


def _means(scorer: Scorer, part: Slice, asked: Asked, objective: Objective) -> dict[str, float]:
    values = measure(scorer, part, asked, objective.ks).values
    return {m: round(float(values[m].mean()), 6) for m in objective.metrics}


def _try_kindling(
    material: Material, config: Config, swept: Sequence[Axis], objective: Objective
) -> Generator[Measured, None, None]:
    longest = config.tune.passes
    factorize = config.factorize.model_copy(update={"iterations": longest})
    blending = config.blend
    with ExitStack() as stack:
        fits = {
            name: stack.enter_context(closing(passes(training, material.item_hashes, factorize, blending)))
            for name, training in material.trainings.items()
        }
        for number, *models in zip(range(1, longest + 1), *fits.values(), strict=False):
            reader = _Reader(material, dict(zip(fits, models, strict=True)), objective)
            round_, turn = divmod(number - 1, len(swept) or 1)
            axis = swept[turn] if swept else None
            blending, figures = reader.sweep(axis, blending, neighbours=round_ > 0)
            settings: Settings = {a.name: getattr(blending, _key(a)) for a in swept}
            yield Measured(number, objective.value(figures), {**settings, ITERATIONS: number}, figures)


def _values(axis: Axis, blending: BlendConfig, *, neighbours: bool) -> list[Value]:
    """The values to try beside the present one, which is among the choices."""
    values: list[Any] = sorted(axis.choices)
    at = values.index(getattr(blending, _key(axis)))
    return (
        [*values[max(0, at - 1) : at], *values[at + 1 : at + 2]]
        if neighbours
        else values[:at] + values[at + 1 :]
    )


def _key(axis: Axis) -> str:
    return axis.name.rpartition(".")[2]


class _Reader:
    """Models of one pass with their users folded in, to be read under any blending."""

    def __init__(
        self, material: Material, models: Mapping[ModelName, FittedModel], objective: Objective
    ) -> None:
        self._objective = objective
        self._models = models
        self._parts: dict[SliceName, tuple[Slice, Asked]] = {}
        self._known: dict[tuple[object, ...], dict[str, float]] = {}
        for name, (part, asked) in material.questions.items():
            model = models[part.model]
            plain = replace(model, blending=model.blending.model_copy(update={"gamma": 1.0}))
            self._parts[name] = part, _as_vectors(asked, plain.user_vectors(asked))

    def sweep(
        self, axis: Axis | None, blending: BlendConfig, *, neighbours: bool
    ) -> tuple[BlendConfig, Figures]:
        """`blending` with the best value of `axis`, or of its neighbours; what it has already wins a draw."""
        best, figures = blending, self._read(blending)
        for value in _values(axis, blending, neighbours=neighbours) if axis else ():
            other = blending.model_copy(update={_key(axis): value})  # type: ignore[arg-type]
            found = self._read(other)
            if self._objective.value(found) > self._objective.value(figures):
                best, figures = other, found
        return best, figures

    def _read(self, blending: BlendConfig) -> Figures:
        return {name: self._read_slice(name, blending) for name in self._parts}

    def _read_slice(self, name: SliceName, blending: BlendConfig) -> dict[str, float]:
        part, folded = self._parts[name]
        known = self._models[part.model].item_evidence[part.candidates] > 0
        key = (
            name, blending.gamma,
            blending.text_fade if known.any() else None,  # fades with evidence, of which there is none
            blending.cold_scale if known.any() and not known.all() else None,  # the same factor on every score
        )  # fmt: skip
        if key not in self._known:
            self._known[key] = _means(
                _Blended(self._models[part.model], blending), part, folded, self._objective
            )
        return self._known[key]


def _as_vectors(asked: Asked, vectors: FloatArray) -> Asked:
    """Users of whom all is told already: their vectors stand where their words were."""
    silent: Any = [""] * len(vectors)
    return Asked(asked.history, vectors, vectors[:, :0], silent, silent)


@dataclass(frozen=True)
class _Blended:
    """A `Scorer` of users made by `_as_vectors` with gamma 1: no row is solved again."""

    model: FittedModel
    blending: BlendConfig

    def scores(self, asked: Asked, candidates: IntArray) -> FloatArray:
        """(n, m), the same numbers as the model's own."""
        model, n_factors = self.model, self.model.item_factors.shape[1]
        users = blend.blend(
            asked.own_profiles[:, :n_factors], asked.own_profiles[:, n_factors:], self.blending.gamma
        )
        items = blend.item_vectors(
            model.item_factors[candidates], model.item_profiles[candidates], model.item_evidence[candidates],
            self.blending,
        )  # fmt: skip
        return np.asarray(users @ items.T, dtype=np.float32)
