"""What may be searched, and what is said of what may not."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, get_args

import optuna
import pytest

from pipelines.core.baselines import BASELINES
from pipelines.core.baselines.settings import baseline_settings
from pipelines.core.config import Config, load_config, parse_config, to_toml
from pipelines.core.errors import ConfigError
from pipelines.core.search_defaults import FINETUNE, FINETUNE_SPACES, OURS, SPACES
from pipelines.core.search_space import apply, flatten, make_space, parse_axis, value_of
from pipelines.core.sections.finetuning import FinetuneConfig
from pipelines.core.sections.measuring import BaselineName
from tests.conftest import ROOT


def config(search: dict[str, Any], **sections: object) -> Config:
    return parse_config({"tune": {"search": search}, **sections}, "test")


@pytest.mark.parametrize("model", [m for m in SPACES if m != "popularity"])
def test_usual_spaces_hold_the_defaults_and_can_be_tried_at_both_ends(model: str) -> None:
    space = make_space(Config(), model)
    assert space.present == {a.name: value_of(Config(), a.name) for a in (*space.fitted, *space.swept)}
    for axis in (*space.fitted, *space.swept):
        assert axis.distribution()._contains(axis.distribution().to_internal_repr(space.present[axis.name]))
        for end in axis.choices or (axis.low, axis.high):
            changed = apply(Config(), {axis.name: end})
            assert value_of(changed, axis.name) == end


def test_the_usual_space_holds_settings_that_are_switched_off() -> None:
    off: dict[str, dict[str, float]] = {
        "factorize": {
            "user_frequency_power": 0, "item_frequency_power": 0, "user_text_fade": 0, "item_text_fade": 0,
            "cold_ridge": 0, "evidence_power": 0,
        },
        "blend": {"gamma": 0, "text_fade": 0, "history_power": 0},
    }  # fmt: skip
    space = make_space(config({}, **off), OURS)
    for section, settings in off.items():
        assert {key: space.present[f"{section}.{key}"] for key in settings} == settings


def test_every_baseline_has_a_space() -> None:
    assert set(SPACES) == {OURS, *BASELINES} == {OURS, *get_args(BaselineName)}


@pytest.mark.parametrize("objective", FINETUNE_SPACES)
def test_every_objective_of_a_fine_tuning_has_a_space_that_can_be_tried_at_both_ends(objective: str) -> None:
    start = config({}, finetune={"objective": objective, "labels": "labels.csv", "keep_layers": 1})
    space = make_space(start, FINETUNE)
    assert set(space.start()) == set(FINETUNE_SPACES[objective])
    for axis in space.fitted:
        assert axis.distribution()._contains(axis.distribution().to_internal_repr(space.present[axis.name]))
        for end in axis.choices or (axis.low, axis.high):
            assert value_of(apply(start, {axis.name: end}), axis.name) == end


def test_objectives_of_fine_tuning_are_all_there() -> None:
    objectives = get_args(FinetuneConfig.model_fields["objective"].annotation)
    assert set(objectives) == {"none", *FINETUNE_SPACES}
    with pytest.raises(ConfigError, match=r"finetune.objective = 'none': nothing is learnt"):
        make_space(config({"finetune.learning_rate": [1e-5, 1e-3]}), FINETUNE)


def test_what_may_be_searched_of_a_fine_tuning() -> None:
    """A new setting belongs here, or among those that are never searched, with the reason."""
    raw: dict[str, object] = {
        "train": {"choices": ["all", "layers"]}, "schedule": {"choices": ["linear", "cosine"]},
        "precision": {"choices": ["bfloat16", "float32"]}, "class_weights": {"choices": [True, False]},
        "batch_size": [16, 64], "max_history": [1, 9], "top_layers": [1, 3],
        "pair": {"choices": ["apart", "together"]}, "lora_rank": {"choices": [4, 8]},
        "r_drop": {"choices": [0.0, 1.0]}, "fgm": {"choices": [0.0, 0.1]},
    }  # fmt: skip
    searched = set()
    for key in FinetuneConfig.model_fields:
        try:
            parse_axis(f"finetune.{key}", raw.get(key, {"choices": [0.1, 0.2]}))
        except ValueError as e:
            assert "is not searched" in str(e), e  # noqa: PT017 - both ways are fine
        else:
            searched.add(key)
    assert searched == {
        *raw, "learning_rate", "head_learning_rate", "layer_decay", "weight_decay", "warmup", "clip", "lora_alpha",
        "dropout", "token_dropout", "span_dropout", "field_dropout", "label_smoothing", "temperature",
        "history_share", "popularity_correction", "candidate_loss", "discount",
    }  # fmt: skip


def test_whether_values_go_together_is_seen_when_they_are_together() -> None:
    assert parse_axis("finetune.r_drop", [0.1, 1.0]).high == 1.0
    assert parse_axis("finetune.class_weights", {"choices": [True, False]}).choices == (False, True)
    start = config({}, finetune={"dropout": 0.1})
    assert apply(start, {"finetune.r_drop": 0.5}).finetune.r_drop == 0.5
    with pytest.raises(ConfigError, match="set dropout too"):
        apply(Config(), {"finetune.r_drop": 0.5})


def test_the_documented_space_is_the_one_that_is_searched() -> None:
    page = (ROOT / "docs" / "decisions" / "0008-tuning.md").read_text(encoding="utf-8")
    block = page[page.index("    [tune.search]") : page.index("Whatever changes profiles")]
    assert flatten(tomllib.loads(block)["tune"]["search"]) == SPACES[OURS]


def test_ranges_and_choices_become_optunas() -> None:
    distributions = {
        name: parse_axis(name, raw).distribution()
        for name, raw in {
            "factorize.alpha": [1, 60.0],
            "blend.history_power": [0.2, 0.8, "linear"],
            "factorize.n_factors": [16, 128],
            "factorize.cg_steps": {"choices": [1, 3, 3]},
            "factorize.solver": {"choices": ["cg", "cholesky"]},
        }.items()
    }
    assert distributions == {
        "factorize.alpha": optuna.distributions.FloatDistribution(1.0, 60.0, log=True),
        "blend.history_power": optuna.distributions.FloatDistribution(0.2, 0.8),
        "factorize.n_factors": optuna.distributions.IntDistribution(16, 128, log=True),
        "factorize.cg_steps": optuna.distributions.CategoricalDistribution([1, 3]),
        "factorize.solver": optuna.distributions.CategoricalDistribution(["cg", "cholesky"]),
    }


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("factorize.alfa", [1, 2], "factorize.alfa cannot be searched; expected a setting of factorize, blend"),
        ("lexical.weight", [0.1, 1], "computed once for all trials"),
        ("factorize.iterations", [2, 9], "see tune.passes"),
        ("factorize.seed", [1, 9], "a lucky seed is no setting"),
        ("finetune.seed", [1, 9], "a lucky seed is no setting"),
        ("finetune.objective", {"choices": ["rating", "purchase"]}, "tune one objective and then the other"),
        ("finetune.workers", [1, 2], "it changes no result"),
        ("finetune.steps", [100, 300], "compared validation by validation"),
        ("finetune.candidates", [100, 300], "different validations cannot be compared"),
        ("finetune.max_tokens", [16, 64], "it changes the examples, which are written once for all trials"),
        ("finetune.lora_targets", {"choices": ["query"]}, "a list of names"),
        ("finetune.temperature", [0.1, 2.0], "finetune.temperature = 2.0: input should be less than or equal to 1"),
        ("finetune.train", {"choices": ["all", "some"]}, "finetune.train = 'some': input should be 'all'"),
        ("finetune.class_weights", [0, 1], "two numbers"),
        ("factorize.alpha", 3.0, r"factorize.alpha = 3.0; expected \[low, high\]"),
        ("factorize.alpha", [1.0], r"factorize.alpha = \[1.0\]; expected"),
        ("factorize.alpha", [1.0, 2.0, "cubic"], "'cubic'.*expected"),
        ("factorize.alpha", {}, r"factorize.alpha = \{\}; expected"),
        ("factorize.alpha", {"choices": []}, "expected"),
        ("factorize.alpha", {"choices": [1.0], "log": True}, "expected"),
        ("factorize.alpha", {"choices": [True]}, "True among the choices; expected numbers"),
        ("factorize.alpha", [60.0, 1.0], "the smaller first"),
        ("factorize.alpha", [2.0, 2.0], "the smaller first"),
        ("factorize.alpha", [0.0, 1.0], "above 0, or a linear range"),
        ("factorize.alpha", [1.0, float("inf")], "two numbers"),
        ("factorize.alpha", ["1", "2"], "two numbers"),
        ("factorize.alpha", [1.0, 1e9], "factorize.alpha = 1000000000.0: input should be less than or equal"),
        ("factorize.n_factors", [1.5, 3], "whole numbers"),
        ("factorize.n_factors", {"choices": [64.5]}, "whole ones"),
        ("factorize.n_factors", {"choices": [0]}, "factorize.n_factors = 0: input should be greater"),
        ("factorize.solver", {"choices": ["lu"]}, "factorize.solver = 'lu': input should be 'cholesky' or 'cg'"),
        ("evaluate.baseline_settings.als_alfa", [1, 2], "cannot be searched"),
    ],
)  # fmt: skip
def test_bad_axes_name_the_setting_and_what_was_expected(name: str, raw: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_axis(name, raw)
    with pytest.raises(ConfigError, match=said):
        config({name: raw})


def test_names_may_be_dotted_keys_of_toml_and_the_file_is_read_back_the_same(tmp_path: Path) -> None:
    written = """
    [tune.search]
    factorize.alpha = [1, 60.0]
    "factorize.user_ridge" = [0.1, 10.0]
    blend.gamma = {choices = [0.1, 0.5]}
    evaluate.baseline_settings.als_alpha = [1.0, 2.0]
    """
    read = parse_config(tomllib.loads(written), "test")
    assert set(read.tune.search) == {
        "factorize.alpha", "factorize.user_ridge", "blend.gamma", "evaluate.baseline_settings.als_alpha",
    }  # fmt: skip
    path = tmp_path / "all.toml"
    path.write_text(to_toml(read), encoding="utf-8")
    assert load_config(path) == read
    assert flatten({"a": {}}) == {"a": {}}  # nothing vanishes unseen


def test_a_model_searches_its_own_settings() -> None:
    searched = config(
        {
            "factorize.alpha": [1, 60],
            "blend.gamma": {"choices": [0.1, 0.5]},
            "evaluate.baseline_settings.als_alpha": [1.0, 2.0],
            "evaluate.baseline_settings.bm25_b": [0.1, 0.9],
            "finetune.temperature": [0.01, 0.1],
        },
        finetune={"objective": "contrastive"},
    )
    assert [a.name for a in make_space(searched, FINETUNE).fitted] == ["finetune.temperature"]
    ours, als, text = (make_space(searched, m) for m in (OURS, "als", "als_text"))
    assert [a.name for a in ours.fitted] == ["factorize.alpha"]
    assert [a.name for a in ours.swept] == ["blend.gamma"]
    assert [a.name for a in als.fitted] == [a.name for a in text.fitted]
    assert [a.name for a in als.fitted] == ["evaluate.baseline_settings.als_alpha"]
    assert [a.name for a in make_space(searched, "content").fitted] == list(SPACES["content"])


def test_gamma_as_a_range_or_alone_needs_fits() -> None:
    searched = config({"factorize.alpha": [1, 60], "blend.gamma": [0.1, 1.0]})
    assert [a.name for a in make_space(searched, OURS).fitted] == ["factorize.alpha", "blend.gamma"]
    alone = make_space(config({"blend.gamma": {"choices": [0.1, 0.5]}}), OURS)
    assert [a.name for a in alone.fitted] == ["blend.gamma"]
    assert alone.swept == ()


def test_axes_stretch_to_hold_the_present_value() -> None:
    searched = {"factorize.alpha": [20.0, 60.0], "factorize.n_factors": {"choices": [64]}}
    now = {"alpha": 10.0, "n_factors": 128}
    alpha, n_factors = make_space(config(searched, factorize=now), OURS).fitted
    assert (alpha.low, alpha.high) == (10.0, 60.0)
    assert n_factors.choices == (128, 64)
    with pytest.raises(ConfigError, match=r"blend.gamma is 0.0 now, which no logarithmic range can hold"):
        make_space(config({"blend.gamma": [0.1, 1.0]}, blend={"gamma": 0.0}), OURS)


def test_no_such_model_and_nothing_to_search() -> None:
    with pytest.raises(ConfigError, match="no model is called 'svd'; expected one of kindling"):
        make_space(Config(), "svd")
    with pytest.raises(ConfigError, match="'popularity' has no settings to search"):
        make_space(Config(), "popularity")


def test_suggestions_have_few_digits_and_stay_inside() -> None:
    alpha = parse_axis("factorize.alpha", [1.2346, 60.0])
    assert alpha.rounded(23.456789) == 23.5
    assert alpha.rounded(1.2346) == 1.2346
    assert alpha.rounded(alpha.rounded(7.77777)) == alpha.rounded(7.77777)
    assert parse_axis("factorize.n_factors", [16, 4096]).rounded(1234) == 1234


def test_apply_changes_what_is_named_and_refuses_what_a_section_refuses() -> None:
    start = config({}, evaluate={"baseline_settings": {"als_alpha": 3.0}}, factorize={"seed": 5})
    changed = apply(
        start,
        {
            "factorize.alpha": 2.5,
            "factorize.n_factors": 8,
            "evaluate.baseline_settings.als_regularization": 7.0,
        },
    )
    assert (changed.factorize.alpha, changed.factorize.n_factors, changed.factorize.seed) == (2.5, 8, 5)
    assert changed.evaluate.baseline_settings == {"als_alpha": 3.0, "als_regularization": 7.0}
    assert baseline_settings(changed).n_factors == 8  # shared unless set
    assert changed.blend == start.blend
    with pytest.raises(ConfigError, match="cannot be used"):
        apply(start, {"factorize.alpha": -1.0})
