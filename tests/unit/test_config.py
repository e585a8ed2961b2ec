"""The configuration: read, refused, printed, fingerprinted."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.core.bundle import OLDEST_SCHEMA
from pipelines.core.config import Config, Section, load_config, parse_config, to_toml
from pipelines.core.errors import ConfigError

PRESETS = sorted((Path(__file__).parents[2] / "jobs" / "configs").glob("*.toml"))
SECTIONS = list(Config.model_fields)


def reload(config: Config, tmp_path: Path) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    return load_config(path)


def test_without_a_file_there_are_the_defaults() -> None:
    assert load_config(None) == Config()


def test_the_defaults_come_back_from_toml(tmp_path: Path) -> None:
    assert reload(Config(), tmp_path) == Config()


def test_settings_of_bundles_of_the_oldest_schema_are_read() -> None:
    """Bundles carry their settings: one that is taken away or renamed needs a place where its old name is known."""
    path = Path(__file__).parent / f"schema_{OLDEST_SCHEMA}_config.toml"
    config = load_config(path).model_dump(mode="json")
    for name, section in tomllib.loads(path.read_text(encoding="utf-8")).items():
        assert config[name] == config[name] | section  # as it says, whatever the default is by now


def test_changed_settings_of_every_kind_come_back_from_toml(tmp_path: Path) -> None:
    config = parse_config(
        {
            "data": {
                "columns": {"item_id": "asin", "weight": 'the "stars", 1.5', "title": "名前"},
                "item_text": ["title_zh"],
                "event_weights": {"add to cart": 2.5, "a.b": -1.0},
                "like_threshold": 4.0,
                "csv_delimiter": "\t",
                "text_only": True,
            },
            "encoder": {"model": r"C:\models\mine", "prefix": "passage: "},
            "factorize": {"user_ridge": 1e-5, "user_regularization": 1e5},
            "evaluate": {"ks": [20], "baselines": []},
            "rules": {
                "boost": [
                    {"name": "品牌", "when": {"brand": ["a", "b"], "price": {"max": 5}}, "amount": 2},
                    {"name": 'odd "one"', "when": {"a.b": True, "n": 3}, "amount": 0.5},
                ],
                "pin": [{"item_id": "x", "place": 1}],
                "freshness": {"half_life_days": 3},
            },
        },
        "here",
    )
    assert config.data.like_threshold == 4.0
    assert reload(config, tmp_path) == config


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.floats(min_value=1e-6, max_value=1e6),
)
def test_any_text_and_number_comes_back_from_toml(columns: dict[str, str], prefix: str, ridge: float) -> None:
    config = parse_config(
        {"data": {"columns": columns}, "encoder": {"prefix": prefix}, "factorize": {"item_ridge": ridge}},
        "here",
    )
    assert parse_config(tomllib.loads(to_toml(config)), "there") == config


def test_every_section_and_every_description_is_printed() -> None:
    printed = to_toml(Config())
    for name in SECTIONS:
        section: Section = getattr(Config(), name)
        assert f"[{name}] # {type(section).__doc__}" in printed
        for key, info in type(section).model_fields.items():
            assert info.description, f"{name}.{key} has no description"
            assert f"# {info.description}\n" in printed
            assert f"\n{key} = " in printed or f"\n# {key} = (unset)" in printed


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_load_and_change_something(path: Path) -> None:
    assert load_config(path) != Config()


def test_there_are_presets() -> None:
    assert PRESETS


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        ({"factorize": {"n_factor": 64}}, ["factorize.n_factor: no such setting", "kindling config"]),
        ({"factorise": {"n_factors": 64}}, ["factorise: no such setting"]),
        ({"factorize": {"n_factors": "many"}}, ["factorize.n_factors = 'many'", "integer"]),
        ({"factorize": {"n_factors": 0}}, ["factorize.n_factors = 0", "greater than or equal to 1"]),
        ({"factorize": {"user_regularization": 0}}, ["factorize.user_regularization = 0", "greater than"]),
        ({"factorize": {"alpha": float("inf")}}, ["factorize.alpha = inf", "finite"]),
        ({"factorize": {"solver": "sgd"}}, ["factorize.solver = 'sgd'", "'cholesky' or 'cg'"]),
        ({"factorize": {"seed": -2}}, ["factorize.seed = -2"]),
        ({"split": {"seed": 2**32}}, [f"split.seed = {2**32}"]),
        ({"evaluate": {"seed": -1}}, ["evaluate.seed = -1"]),
        ({"data": {"event_weights": {"view": float("nan")}}}, ["data.event_weights.view = nan", "finite"]),
        ({"data": {"csv_delimiter": "::"}}, ["data.csv_delimiter = '::'", "one character"]),
        ({"data": {"csv_delimiter": "你"}}, ["data.csv_delimiter = '你'", "one character"]),
        ({"data": {"csv_delimiter": "\n"}}, ["data.csv_delimiter", "one character"]),
        ({"privacy": {"phone_regions": ["XX"]}}, ["privacy.phone_regions", "XX: no such country"]),
        ({"blend": {"gamma": 1e300}}, ["blend.gamma = 1e+300"]),
        ({"data": {"columns": "asin"}}, ["data.columns = 'asin'"]),
        ({"encoder": {"max_tokens": 3}}, ["encoder.max_tokens = 3"]),
        ({"evaluate": {"ks": []}}, ["evaluate.ks = []"]),
        ({"evaluate": {"ks": [5, 0]}}, ["evaluate.ks.1 = 0"]),
        ({"serve": {"port": 70_000}}, ["serve.port = 70000"]),
        ({"split": {"cold_items": 1.0}}, ["split.cold_items = 1.0", "less than 1"]),
        ({"split": {"validation": 0.5, "test": 0.5}}, ["split.validation 0.5 + split.test 0.5", "below 1"]),
        ({"split": 3}, ["split = 3"]),
        ({"rules": {"boost": {"name": "x"}}}, ["rules.boost", "expected a list"]),
        (
            {"rules": {"boost": [{"name": "x", "when": {}, "amount": 1}]}},
            ["rules.boost.0.when", "at least 1"],
        ),
        (
            {"rules": {"bury": [{"name": "x", "when": {"a": {}}, "amount": 1}]}},
            ["rules.bury.0.when.a", "min"],
        ),
        (
            {"rules": {"bury": [{"name": "x", "when": {"a": {"min": 2, "max": 1}}, "amount": 1}]}},
            ["no item meets"],
        ),
        ({"rules": {"boost": [{"name": "x", "when": {"a": 1}, "amount": 0}]}}, ["rules.boost.0.amount = 0"]),
        ({"rules": {"boost": [{"name": "pin", "when": {"a": 1}, "amount": 1}]}}, ["named 'pin'"]),
        (
            {"rules": {"boost": [{"name": "x", "when": {"a": 1}, "amount": 1}] * 2}},
            ["name 'x' is there twice"],
        ),
        (
            {"rules": {"pin": [{"item_id": "a", "place": 1}, {"item_id": "b", "place": 1}]}},
            ["place 1 is there"],
        ),
        (
            {"rules": {"pin": [{"item_id": "a", "place": 1}, {"item_id": "a", "place": 2}]}},
            ["item_id 'a' is"],
        ),
        ({"rules": {"hide_seen": False, "hide_events": ["click"]}}, ["hide_seen is false"]),
        ({"split": {"newcomers": 1.0}}, ["split.newcomers = 1.0", "less than 1"]),
        ({"lexical": {"weight": -0.1}}, ["lexical.weight = -0.1"]),
        ({"lexical": {"max_share": 0}}, ["lexical.max_share = 0", "greater than 0"]),
        ({"lexical": {"n_dims": 0}}, ["lexical.n_dims = 0"]),
        ({"factorize": {"user_frequency_power": 2.5}}, ["factorize.user_frequency_power = 2.5"]),
        ({"factorize": {"text_weight": 1.5}}, ["factorize.text_weight = 1.5"]),
        ({"factorize": {"cold_ridge": -1}}, ["factorize.cold_ridge = -1"]),
        ({"factorize": {"item_text_fade": float("nan")}}, ["factorize.item_text_fade = nan", "finite"]),
        ({"blend": {"cold_scale": 0}}, ["blend.cold_scale = 0"]),
        ({"blend": {"text_fade": -0.5}}, ["blend.text_fade = -0.5"]),
        ({"evaluate": {"max_users": 0}}, ["evaluate.max_users = 0"]),
        ({"evaluate": {"baselines": ["svd"]}}, ["evaluate.baselines.0 = 'svd'", "'popularity'", "'cmfrec'"]),
        (
            {"evaluate": {"baseline_settings": {"als_alfa": 3.0}}},
            [
                "evaluate.baseline_settings = ",
                "als_alfa is no setting of a baseline; expected some of",
                "als_alpha",
            ],
        ),
        (
            {"evaluate": {"baseline_settings": {"als_alpha": -3.0}}},
            ["evaluate.baseline_settings.als_alpha = -3.0", "greater than"],
        ),
        (
            {"evaluate": {"baseline_settings": {"iterations": 2.5}}},
            ["evaluate.baseline_settings.iterations = 2.5", "integer"],
        ),
        (
            {"evaluate": {"baseline_settings": {"bm25_b": "much"}}},
            ["evaluate.baseline_settings.bm25_b = 'much'"],
        ),
        ({"data": {"vectors": {"title": 1.0}}}, ["data.vectors names title, which is no column of numbers"]),
    ],
)
def test_what_cannot_be_used_is_named(raw: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(raw, "build.toml")
    message = str(caught.value)
    assert message.startswith("build.toml: 1 setting(s) cannot be used:")
    for part in named:
        assert part in message


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"2 setting\(s\)") as caught:
        parse_config({"blend": {"gamma": -1}, "publish": {"keep": 0}}, "x")
    assert "blend.gamma = -1" in str(caught.value)
    assert "publish.keep = 0" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the configuration .*config.toml"),
        (b"[data\n", r"config\.toml is not valid TOML.*line 1"),
        (b"[data]\nitems = '\xff'\n", "cannot read the configuration .*UTF-8"),
        (b"[blend]\ngamma = 'x'\n", r"(?s)config\.toml: 1 setting.*blend\.gamma = 'x'"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "config.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_a_configuration_is_frozen() -> None:
    config = Config()
    with pytest.raises(ValidationError, match="frozen"):
        config.blend.gamma = 2.0  # type: ignore[misc]


def test_the_fingerprint_sees_its_sections_and_nothing_else() -> None:
    base = Config().fingerprint("factorize", "blend", exclude=frozenset({"factorize.shards"}))

    def changed(raw: dict[str, Any]) -> str:
        config = parse_config(raw, "x")
        return config.fingerprint("factorize", "blend", exclude=frozenset({"factorize.shards"}))

    assert changed({}) == base
    assert changed({"factorize": {"shards": 7}}) == base
    assert changed({"serve": {"port": 9000}}) == base
    assert changed({"factorize": {"n_factors": 64}}) != base
    assert changed({"blend": {"gamma": 0.31}}) != base
    assert Config().fingerprint("factorize") != Config().fingerprint("factorize", "blend")


@pytest.mark.parametrize(
    ("ks", "k"),
    [((5, 10, 20, 50), 20), ((1,), 1), ((10, 30), 10), ((30, 10), 10), ((1000, 24, 15), 24), ((50, 100), 50)],
)
def test_the_leading_length_is_the_one_nearest_to_20(ks: tuple[int, ...], k: int) -> None:
    assert parse_config({"evaluate": {"ks": list(ks)}}, "x").evaluate.k == k


@pytest.mark.parametrize(
    ("split", "hides"),
    [
        ({}, True),
        ({"newcomers": 0}, False),
        ({"kind": "time"}, False),
        ({"kind": "time", "newcomers": 0}, False),
    ],
)
def test_users_are_hidden_from_a_model_of_their_own_in_a_random_split(
    split: dict[str, Any], hides: bool
) -> None:
    assert parse_config({"split": split}, "x").split.hides_users == hides


def test_settings_of_baselines_come_back_from_toml(tmp_path: Path) -> None:
    given_settings = {"als_alpha": 40.0, "bm25_b": 0.5, "iterations": 8.0}
    config = parse_config({"evaluate": {"baseline_settings": given_settings}}, "x")
    assert config.evaluate.baseline_settings == given_settings
    assert reload(config, tmp_path) == config


@pytest.mark.parametrize(
    ("section", "key", "values"),
    [
        ("evaluate", "baselines", ["bm25", "als", "bm25"]),
        ("evaluate", "ks", [20, 5, 20]),
        ("relations", "columns", ["brand", "brand"]),
    ],
)
def test_nothing_is_named_twice(section: str, key: str, values: list[object]) -> None:
    with pytest.raises(ConfigError, match=rf"{section}\.{key} = .*{values[-1]} is named twice"):
        parse_config({section: {key: values}}, "test")
