"""Two builds side by side: known differences, pairing, what makes a comparison impossible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipelines.core.comparison import Measured, compare, config_differences
from pipelines.core.config import Config, parse_config
from pipelines.core.errors import ArtefactError, ConfigError
from pipelines.core.per_user import metric_columns, read_per_user
from pipelines.core.report import render_comparison
from pipelines.core.slices import SLICES
from pipelines.core.storage import write_json, write_table

WHICH = ("validation", "test")
Users = Mapping[str, tuple[int, float]]
"""user_id to a hash of what was to be found and the recall@20 that was reached."""

BASE: dict[str, Users] = {
    "cold": {"u1": (1, 0.5), "用户二": (2, 1.0), "u3": (3, 0.0)},
    "warm": {"u1": (7, 0.0), "u3": (8, 1.0)},
}


def rows(slices: Mapping[str, Users], which: str = "test", ks: Sequence[int] = (10, 20)) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "held_out": which,
                "slice": name,
                "user_id": user,
                "to_find": np.uint64(hashed),
                **{f"recall@{k}": np.float32(value * k / 20) for k in ks},
                **{f"novelty@{max(ks)}": np.float32(10 + value)},
            }
            for name, users in slices.items()
            for user, (hashed, value) in users.items()
        ]
    )


def measured(
    name: str,
    slices: Mapping[str, Users] = BASE,
    *,
    settings: dict[str, Any] | None = None,
    ks: Sequence[int] = (10, 20),
    coverage: float = 0.25,
    resamples: int = 200,
    tables: str = "t",
    split: Mapping[str, Any] | None = None,
    candidates: int = 50,
) -> Measured:
    """A build measured on test alone; of the slices that are not named nobody could be measured."""
    users_df = rows(slices, ks=ks)
    metrics = [*metric_columns(users_df), f"coverage@{max(ks)}"]
    figures: dict[str, dict[str, float | None]] = {s: dict.fromkeys(metrics) for s in SLICES}
    for s in slices:
        mine_df = users_df[users_df["slice"] == s]
        figures[s] = {m: float(mine_df[m].mean()) for m in metrics[:-1]} | {metrics[-1]: coverage}
    nobody = {s: dict.fromkeys(metrics) for s in SLICES}
    evaluation = {
        "k": max(ks),
        "ks": list(ks),
        "bootstrap": {"resamples": resamples, "seed": 0, "level": 0.95},
        "split": {"kind": "random", "seed": 42} | dict(split or {}),
        "models": ["kindling"],
        "test": {"kindling": figures},
        "validation": {"kindling": nobody},
        "candidates": {w: dict.fromkeys(SLICES, candidates) for w in WHICH},
        "users": {w: {s: len(slices.get(s, ())) if w == "test" else 0 for s in SLICES} for w in WHICH},
        "intervals": {},
        "differences": {},
        "absent": {},
    }
    return Measured(name, None, tables, parse_config(settings or {}, "test"), evaluation, users_df)


def shifted(by: float, slices: Mapping[str, Users] = BASE) -> dict[str, Users]:
    return {
        name: {user: (hashed, value + by) for user, (hashed, value) in users.items()}
        for name, users in slices.items()
    }


def test_the_same_users_are_paired_and_a_difference_that_all_share_is_certain() -> None:
    found = compare(measured("a"), measured("b", shifted(0.25), coverage=0.75))
    assert found["paired"]
    assert found["why_unpaired"] is None
    assert found["users"] == {"validation": {}, "test": {"cold": 3, "warm": 2}}
    assert found["test"]["cold"]["recall@20"] == {
        "a": 0.5,
        "b": 0.75,
        "difference": 0.25,
        "interval": [0.25, 0.25],
    }
    assert found["test"]["warm"]["recall@10"]["difference"] == 0.125
    assert found["test"]["cold"]["coverage@20"] == {
        "a": 0.25,
        "b": 0.75,
        "difference": 0.5,
        "interval": None,
    }
    assert found["validation"] == {}


def test_a_paired_interval_is_that_of_the_users_differences() -> None:
    """Against the slow way: every resample drawn by hand from the differences."""
    rng = np.random.default_rng(5)
    names = [f"u{i:03d}" for i in range(60)]
    a = {"all": {n: (i, float(rng.random())) for i, n in enumerate(names)}}
    b = {"all": {n: (i, a["all"][n][1] + float(rng.normal(0.05, 0.1))) for i, n in enumerate(names)}}
    low, high = compare(measured("a", a), measured("b", b, resamples=4000))["test"]["all"]["recall@20"][
        "interval"
    ]
    differences = np.array([b["all"][n][1] - a["all"][n][1] for n in names])
    means = [rng.choice(differences, 60).mean() for _ in range(4000)]
    assert [low, high] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.004)


def test_the_order_of_rows_and_the_numbers_of_users_do_not_matter() -> None:
    b = measured("b", shifted(0.25))
    turned = Measured(
        b.name, b.version, b.tables, b.config, b.evaluation, b.users[::-1].reset_index(drop=True)
    )
    assert compare(measured("a"), turned) == compare(measured("a"), b)


def test_swapped_builds_have_the_opposite_difference() -> None:
    a, b = measured("a"), measured("b", {"cold": {"u1": (1, 1.0), "用户二": (2, 0.9), "u3": (3, 0.0)}})
    one, other = (compare(*pair)["test"]["cold"]["recall@20"] for pair in ((a, b), (b, a)))
    assert one["difference"] == pytest.approx(-other["difference"])
    assert one["interval"] == pytest.approx([-bound for bound in reversed(other["interval"])], abs=2e-6)


def test_other_users_are_resampled_on_their_own() -> None:
    """Two users of 0 and 1 each, drawn apart: the difference of two means of two coins."""
    a = measured("a", {"warm": {"u1": (1, 0.0), "u2": (2, 1.0)}}, split={"seed": 1})
    b = measured("b", {"warm": {"u2": (2, 0.0), "u9": (9, 1.0)}}, resamples=4000)
    found = compare(a, b)
    assert not found["paired"]
    assert found["why_unpaired"].startswith(
        "the splits differ in seed, 1 and 42; of warm (test) 1 of 2 users"
    )
    assert found["unpaired"] == {"validation": [], "test": ["warm"]}
    assert found["users_in_common"]["test"] == {"warm": 1}
    figure = found["test"]["warm"]["recall@20"]
    assert figure["difference"] == 0.0
    # -1 and 1 each have probability 1/16, more than 2.5 %
    assert figure["interval"] == [-1.0, 1.0]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"split": {"kind": "time"}}, "the splits differ in kind, random and time"),
        ({"settings": {"split": {"cold_items": 0.1}}}, "the splits differ in split.cold_items, 0.2 and 0.1"),
        ({"tables": "others"}, "made from different tables"),
        ({"settings": {"evaluate": {"max_users": 9}}}, "different samples of users"),
        ({}, "different users were measured, or the same for different items"),
    ],
)
def test_the_first_reason_against_pairing_is_named(other: dict[str, Any], said: str) -> None:
    moved = {"cold": {**BASE["cold"], "u3": (99, 0.0)}, "warm": BASE["warm"]}
    found = compare(measured("a"), measured("b", moved, **other))
    assert not found["paired"]
    assert said in found["why_unpaired"]
    assert "3 of 3 users are in both. This concerns cold alone" in found["why_unpaired"]
    # what is the same is still taken user by user
    assert found["test"]["warm"]["recall@20"]["interval"] == [0.0, 0.0]
    assert said in render_comparison(found).replace("&#x27;", "'")


def test_other_tables_alone_do_not_keep_users_from_being_paired() -> None:
    assert compare(measured("a"), measured("b", tables="others"))["paired"]


def test_a_slice_that_one_build_lacks_has_half_its_figures() -> None:
    found = compare(measured("a", {"cold": BASE["cold"]}), measured("b"))
    assert found["paired"]
    assert found["test"]["warm"]["recall@20"] == {"a": None, "b": 0.5, "difference": None, "interval": None}
    assert found["users"]["test"]["warm"] == 2
    back = compare(measured("b"), measured("a", {"cold": BASE["cold"]}))
    assert back["users"]["test"]["warm"] == 2
    assert back["test"]["warm"]["recall@20"]["b"] is None
    render_comparison(found)


def test_only_lengths_that_both_have_are_compared() -> None:
    found = compare(measured("a", ks=(5, 10)), measured("b", ks=(10, 20, 50)))
    assert list(found["test"]["cold"]) == ["recall@10"]
    assert (found["k"], found["ks"]) == (10, [10])
    assert "recall@10" in render_comparison(found)
    with pytest.raises(ConfigError, match=r"a was measured on lists of 5, b on 10, 20: .*evaluate.ks"):
        compare(measured("a", ks=(5,)), measured("b", ks=(10, 20)))


def test_without_resamples_there_are_no_intervals() -> None:
    figure = compare(measured("a"), measured("b", shifted(0.25), resamples=0))["test"]["cold"]["recall@20"]
    assert (figure["difference"], figure["interval"]) == (0.25, None)


def test_builds_without_users_have_nothing_to_compare(tmp_path: Path) -> None:
    write_table(tmp_path / "per_user.parquet", pa.table({}))
    empty = measured("a")
    nobody = Measured(
        "a", None, "t", Config(),
        {**empty.evaluation, "test": {"kindling": {s: {} for s in SLICES}}},
        read_per_user(tmp_path / "per_user.parquet"),
    )  # fmt: skip
    found = compare(nobody, nobody)
    assert not found["paired"]
    assert found["why_unpaired"] == "no slice has users in both builds"
    assert found["test"] == found["validation"] == {}
    render_comparison(found)
    assert compare(nobody, measured("b"))["test"]["cold"] == {}


def test_candidates_are_told_where_they_differ() -> None:
    assert compare(measured("a"), measured("b"))["candidates_differ"] == {}
    found = compare(measured("a"), measured("b", candidates=60))
    assert found["candidates_differ"] == {"test.cold": [50, 60], "test.warm": [50, 60]}


def test_settings_that_differ_go_by_their_dotted_names() -> None:
    assert config_differences(Config(), Config()) == {}
    a = parse_config({"factorize": {"alpha": 2}, "evaluate": {"baseline_settings": {"als_alpha": 4.0}}}, "a")
    b = parse_config({"evaluate": {"ks": [7]}, "data": {"columns": {"item_id": "编号"}}}, "b")
    assert config_differences(a, b) == {
        "data.columns.item_id": [None, "编号"],
        "factorize.alpha": [2.0, Config().factorize.alpha],
        "evaluate.ks": [list(Config().evaluate.ks), [7]],
        "evaluate.baseline_settings.als_alpha": [4.0, None],
    }


def test_a_comparison_is_valid_json(tmp_path: Path) -> None:
    write_json(tmp_path / "comparison.json", compare(measured("a"), measured("b", shifted(0.1))))


def stored(users_df: pd.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "out" / "stages" / "evaluate" / "per_user.parquet"
    write_table(path, pa.Table.from_pandas(users_df, preserve_index=False))
    return path


def test_figures_of_users_are_read_as_they_were_written(tmp_path: Path) -> None:
    users_df = rows(BASE)
    path = stored(users_df, tmp_path)
    pd.testing.assert_frame_equal(read_per_user(path), users_df, check_dtype=False)
    assert metric_columns(users_df) == ["recall@10", "recall@20", "novelty@20"]


SPOILT = {
    "a user twice": (lambda df: pd.concat([df, df[1:2]]), "user '用户二' is twice in the slice 'cold' of test"),
    "no number": (lambda df: df.assign(**{"recall@20": [0.1, np.nan, 0, 0, 0]}), "of user '用户二' in 'cold' is nan"),
    "infinite": (lambda df: df.assign(**{"recall@10": [0, 0, 0, 0, np.inf]}), "of user 'u3' in 'warm' is inf"),
    "null": (lambda df: df.assign(**{"novelty@20": [None, 1, 1, 1, 1]}), "novelty@20 of user 'u1'"),
    "words": (lambda df: df.assign(**{"recall@20": "high"}), "is high; expected a number"),
    "no column": (lambda df: df.drop(columns="to_find"), "no column 'to_find'"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILT)
def test_a_table_that_cannot_be_right_is_refused(case: str, tmp_path: Path) -> None:
    spoil, said = SPOILT[case]
    path = stored(spoil(rows(BASE)), tmp_path)
    with pytest.raises(ArtefactError) as refused:
        read_per_user(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)
    assert f"kindling evaluate --out {tmp_path / 'out'}" in str(refused.value)


def test_the_same_user_in_other_slices_and_held_out_sets_is_no_duplicate(tmp_path: Path) -> None:
    users_df = pd.concat([rows(BASE), rows(BASE, "validation")], ignore_index=True)
    assert len(read_per_user(stored(users_df, tmp_path))) == 10


@pytest.mark.parametrize("content", [b"", b"PAR1 this is none PAR1"])
def test_what_is_no_parquet_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "per_user.parquet"
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match=r"per_user\.parquet cannot be read"):
        read_per_user(path)
    path.unlink()
    with pytest.raises(ArtefactError, match=r"per_user\.parquet is not there"):
        read_per_user(path)
