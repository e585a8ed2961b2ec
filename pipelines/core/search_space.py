"""Which settings are tried: ranges and choices by name, checked against the sections they belong to.

An axis is `[low, high]` on a logarithmic scale, `[low, high, "linear"]`, or `{choices = [...]}`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import ValidationError

from pipelines.core.baselines.settings import BaselineSettings, baseline_settings
from pipelines.core.config import BlendConfig, Config, FactorizeConfig, FinetuneConfig, Section
from pipelines.core.errors import ConfigError
from pipelines.core.search_defaults import FINETUNE, FINETUNE_SPACES, KEYS_OF, OF_BASELINES, OURS, SPACES

Value = float | int | str
Settings = dict[str, Value]
"""Name, such as `factorize.alpha`, to value."""

SWEPT = ("blend.gamma", "blend.text_fade", "blend.cold_scale")
"""They change how a fitted model is read, not the fit: given as choices they are tried inside a trial."""
ITERATIONS = "factorize.iterations"
_SECTIONS: dict[str, type[Section]] = {
    "factorize": FactorizeConfig,
    "blend": BlendConfig,
    FINETUNE: FinetuneConfig,
    OF_BASELINES: BaselineSettings,
}
_NEVER = {
    ITERATIONS: "every pass of a trial is measured and the best one becomes this setting; see tune.passes",
    "factorize.shards": "it changes no result",
    "factorize.seed": "a lucky seed is no setting",
    f"{OF_BASELINES}.n_threads": "it changes no result",
    "finetune.objective": "what is learnt is no setting; tune one objective and then the other",
    "finetune.seed": "a lucky seed is no setting",
    "finetune.max_forgetting": "it is a limit, which no figure of validation can choose",
    "finetune.lora_targets": "it is a list of names; set it and compare two studies",
}
_WHY_NEVER = {
    "it changes no result": ("workers", "micro_batch", "checkpoint_activations", "mlflow", "wandb"),
    "trials are compared validation by validation and each leaves the best of its own; set it for all of them": (
        "steps", "evaluate_every", "patience",
    ),
    "how small an encoder is to be, no figure of validation can choose; set it and compare two studies": (
        "keep_layers", "matryoshka",
    ),
    "figures of different validations cannot be compared": ("validation_rows", "candidates"),
    "it changes the examples, which are written once for all trials; set it and compare two studies": (
        "max_tokens", "hard_negatives", "negatives", "synonyms", "synonym_share", "labels", "continue_from",
        "replay_share",
    ),
}  # fmt: skip
_NEVER |= {f"{FINETUNE}.{key}": why for why, keys in _WHY_NEVER.items() for key in keys}
_SHAPES = '[low, high] (logarithmic), [low, high, "linear"] or {choices = [...]}'
_DIGITS = 3
"""Of a suggested number; more would say nothing and be tedious to read in a committed file."""


@dataclass(frozen=True)
class Axis:
    """One setting and the values it may take: `choices`, or the range from `low` to `high` where there are none."""

    name: str
    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    def distribution(self) -> BaseDistribution:
        """The axis as Optuna has it."""
        if self.choices:
            return CategoricalDistribution(self.choices)
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def rounded(self, value: Value) -> Value:
        """A suggestion as it is tried and written down: few digits, and still inside the range."""
        if self.choices or self.whole or isinstance(value, str):
            return value
        return min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high)

    def with_value(self, value: Value) -> Axis:
        """The axis stretched to hold `value`.

        Raises:
            ConfigError: a logarithmic range cannot hold it.

        """
        if self.choices:
            return self if value in self.choices else replace(self, choices=(value, *self.choices))
        number = float(value)
        if self.log and number <= 0:
            raise ConfigError(
                f"tune.search: {self.name} is {value} now, which no logarithmic range can hold, and the present "
                f'settings are tried first. Give it as [low, high, "linear"] or as {{choices = [...]}}.'
            )
        return replace(self, low=min(self.low, number), high=max(self.high, number))


@dataclass(frozen=True)
class Space:
    """Everything that varies in a study.

    Attributes:
        model: whose settings they are.
        fitted: axes that need a fit per value.
        swept: axes that are tried inside a trial; all of them have choices.
        present: the values the configuration has now, of both.

    """

    model: str
    fitted: tuple[Axis, ...]
    swept: tuple[Axis, ...]
    present: Settings

    def start(self) -> Settings:
        """The present values of the fitted axes."""
        return {a.name: self.present[a.name] for a in self.fitted}

    def rounded(self, proposed: Mapping[str, Value]) -> Settings:
        """A suggestion for the fitted axes as it is tried."""
        return {a.name: a.rounded(proposed[a.name]) for a in self.fitted}


def flatten(search: Mapping[str, Any]) -> dict[str, Any]:
    """`{factorize = {alpha = [1, 60]}}`, which TOML makes of `factorize.alpha = [1, 60]`, with dotted names."""
    flat: dict[str, Any] = {}
    for key, value in search.items():
        if isinstance(value, Mapping) and value and "choices" not in value:
            flat |= {f"{key}.{inner}": axis for inner, axis in flatten(value).items()}
        else:
            flat[key] = value
    return flat


def parse_axis(name: str, raw: object) -> Axis:
    """One entry of `tune.search`.

    Raises:
        ValueError: no such setting, another shape, or values the setting may not have; all named.

    """
    section, _, key = name.rpartition(".")
    if name in _NEVER:
        raise ValueError(f"{name} is not searched: {_NEVER[name]}")
    if section not in _SECTIONS or key not in _SECTIONS[section].model_fields:
        raise ValueError(
            f"{name} cannot be searched; expected a setting of factorize, blend, {FINETUNE} or {OF_BASELINES} such as "
            "factorize.alpha. What comes before the fit, texts and profiles, is computed once for all trials"
        )
    kind = _SECTIONS[section].model_fields[key].annotation
    if kind is bool and isinstance(raw, Mapping) and raw.get("choices") in ([False, True], [True, False]):
        return Axis(name, (False, True))
    axis = _read_axis(name, raw, whole=kind is int)
    for value in axis.choices or (axis.low, axis.high):
        try:
            _SECTIONS[section].model_validate({key: value})
        except ValidationError as e:
            # whether a value goes with others is seen in the trial that has them all
            messages = [problem["msg"] for problem in e.errors() if problem["loc"]]
            if messages:
                raise ValueError(f"{name} = {value!r}: {messages[0][0].lower()}{messages[0][1:]}") from e
    return axis


def _read_axis(name: str, raw: object, *, whole: bool) -> Axis:
    if isinstance(raw, Mapping):
        choices = raw.get("choices")
        if set(raw) != {"choices"} or not isinstance(choices, list | tuple) or not choices:
            raise ValueError(f"{name} = {raw!r}; expected {_SHAPES}")
        values = dict.fromkeys(_choice(name, c, whole=whole) for c in choices)
        return Axis(name, tuple(values), whole=whole)
    if (
        not isinstance(raw, list | tuple)
        or len(raw) not in (2, 3)
        or list(raw[2:]) not in ([], ["linear"], ["log"])
    ):
        raise ValueError(f"{name} = {raw!r}; expected {_SHAPES}")
    low, high = raw[:2]
    log = list(raw[2:]) != ["linear"]
    if not _is_number(low) or not _is_number(high) or not low < high or (log and low <= 0):
        above = " above 0, or a linear range" if log else ""
        raise ValueError(f"{name} = {list(raw)!r}; expected two numbers, the smaller first{above}")
    if whole and (low != int(low) or high != int(high)):
        raise ValueError(f"{name} = {list(raw)!r}; expected whole numbers")
    return Axis(name, low=float(low), high=float(high), log=log, whole=whole)


def _choice(name: str, value: object, *, whole: bool) -> Value:
    if isinstance(value, str):
        return value
    if not isinstance(value, int | float) or not _is_number(value) or (whole and value != int(value)):
        raise ValueError(
            f"{name}: {value!r} among the choices; expected numbers{', whole ones' if whole else ''}"
        )
    return int(value) if whole else float(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def make_space(config: Config, model: str) -> Space:
    """The axes of `tune.search` that are of this model, or the usual ones where there are none.

    Args:
        config: the present settings.
        model: `kindling`, a baseline, or `finetune` for the teaching of the encoder.

    Raises:
        ConfigError: no such model, nothing to search, or a range that cannot hold the present value.

    """
    usual = _usual(config, model)
    chosen = {name: axis for name, axis in config.tune.search.items() if _is_of(name, model)}
    axes = [parse_axis(name, raw) for name, raw in (chosen or usual).items()]
    if not axes:
        raise ConfigError(f"the model '{model}' has no settings to search; tune another one.")
    present = {a.name: value_of(config, a.name) for a in axes}
    axes = [a.with_value(present[a.name]) for a in axes]
    swept = tuple(a for a in axes if a.name in SWEPT and a.choices)
    fitted = tuple(a for a in axes if a not in swept)
    # with nothing else to vary, trials have to differ in something
    return Space(model, fitted, swept, present) if fitted else Space(model, swept, (), present)


def _usual(config: Config, model: str) -> dict[str, object]:
    objective = config.finetune.objective
    if model == FINETUNE and objective not in FINETUNE_SPACES:
        raise ConfigError(
            f"finetune.objective = '{objective}': nothing is learnt, so there is nothing to tune. Set it to one of "
            f"{', '.join(FINETUNE_SPACES)}."
        )
    if model != FINETUNE and model not in SPACES:
        raise ConfigError(f"no model is called '{model}'; expected one of {', '.join(SPACES)}.")
    return FINETUNE_SPACES[objective] if model == FINETUNE else SPACES[model]


def _is_of(name: str, model: str) -> bool:
    if model == FINETUNE:
        return name.startswith(f"{FINETUNE}.")
    if model == OURS:
        return not name.startswith((OF_BASELINES, f"{FINETUNE}."))
    return name.startswith(tuple(f"{OF_BASELINES}.{key}" for key in KEYS_OF[model]))


def value_of(config: Config, name: str) -> Value:
    """A setting's value."""
    section, _, key = name.rpartition(".")
    holder: Section = baseline_settings(config) if section == OF_BASELINES else getattr(config, section)
    value: Value = getattr(holder, key)
    return value


def apply(config: Config, settings: Mapping[str, Value]) -> Config:
    """`config` with these settings.

    Raises:
        ConfigError: a value its section refuses.

    """
    sections: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        section, _, key = name.rpartition(".")
        sections.setdefault(section, {})[key] = value
    changed: dict[str, Section] = {}
    try:
        for section, values in sections.items():
            if section == OF_BASELINES:
                tuned = config.evaluate.baseline_settings | values
                raw = config.evaluate.model_dump() | {"baseline_settings": tuned}
                changed["evaluate"] = type(config.evaluate).model_validate(raw)
            else:
                old: Section = getattr(config, section)
                changed[section] = type(old).model_validate(old.model_dump() | values)
    except ValidationError as e:
        raise ConfigError(f"these settings cannot be used: {dict(settings)}: {e}") from e
    return config.model_copy(update=changed)
