"""An ordinary night passes, a broken one does not, and the measures are what they are called."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import jensenshannon

from jobs.drifting import measure_drift
from pipelines.core.config import Config, parse_config
from pipelines.core.drift.comparing import compare
from pipelines.core.drift.findings import Comparison
from pipelines.core.drift.measures import divergence, histogram, largest_gap, stability_index
from pipelines.core.drift.sources import encoder_columns, of_build, of_bundle, pick
from pipelines.core.errors import ArtefactError
from pipelines.core.incumbent import Incumbent
from pipelines.core.layout import Layout
from pipelines.core.storage import read_json, read_rows, write_rows, write_text
from pipelines.progress import Progress
from tests.unit.drift_builds import VERSION, Shop, a_shop, build, publish, until

FULL = a_shop(n_items=160, n_users=140, n_interactions=2000)
IN_SERVICE = Incumbent(VERSION, is_warm=False)
Change = Callable[[Shop], Shop]


def compared(shop: Shop, layout: Layout) -> Comparison:
    config = shop.config()
    before, after = of_bundle(layout.bundle(VERSION)), of_build(layout, config)
    return compare(before, after, config.drift, encoder_columns(layout), config.evaluate.k)


def measured(before: Shop, after: Shop, root: Path) -> Comparison:
    publish(before, Layout(root))
    return compared(after, build(after, root))


def values(drift: Comparison) -> dict[str, float | None]:
    return {f.name: f.value for f in drift.findings}


@pytest.mark.parametrize("share", [1.0, 0.99, 0.95, 1 / 1.2], ids=lambda s: f"{1 / s - 1:.0%} more")
def test_an_ordinary_night_passes(share: float, tmp_path: Path) -> None:
    drift = measured(until(FULL, share), until(FULL, 1.0), tmp_path)
    assert drift.beyond == []
    assert all(f.value is not None for f in drift.findings)
    if share == 1.0:
        assert values(drift) == pytest.approx(dict.fromkeys(values(drift), 0.0), abs=1e-5)


def without_half(shop: Shop) -> Shop:
    items = shop.items.iloc[::2]
    events = shop.interactions[shop.interactions["item_id"].isin(items["item_id"])]
    return shop | {"items": items, "interactions": events}


def emptied(shop: Shop) -> Shop:
    texts = shop.items["text"].where(np.arange(len(shop.items)) % 3 > 0, "")
    return shop | {"items": shop.items.assign(text=texts)}


def hidden(shop: Shop) -> Shop:
    return shop | {"items": shop.items.assign(is_hidden=np.arange(len(shop.items)) % 2 > 0)}


def flooded(shop: Shop, n_bots: int = 400, weight: float = 1.0) -> Shop:
    bots = pd.DataFrame({"user_id": [f"bot{i}" for i in range(n_bots)], "text": ""})
    item = shop.items["item_id"].iloc[3]
    events = pd.DataFrame({"user_id": bots["user_id"], "item_id": item, "weight": weight})
    return shop | {
        "users": pd.concat([shop.users, bots]),
        "interactions": pd.concat([shop.interactions, events]),
    }


def shuffled(shop: Shop) -> Shop:
    ids = shop.users["user_id"].to_numpy()
    others = dict(zip(ids, np.random.default_rng(0).permutation(ids), strict=True))
    return shop | {"interactions": shop.interactions.assign(user_id=shop.interactions["user_id"].map(others))}


def renamed(shop: Shop) -> Shop:
    return shop | {
        table: getattr(shop, table).assign(user_id="x" + getattr(shop, table)["user_id"])
        for table in ("users", "interactions")
    }


def translated(shop: Shop) -> Shop:
    return shop | {"items": shop.items.assign(text="中文 " + shop.items["text"])}


def obsessed(shop: Shop) -> Shop:
    weights = shop.interactions["weight"].to_numpy().copy()
    weights[5] = 1000.0
    return shop | {"interactions": shop.interactions.assign(weight=weights)}


@pytest.mark.parametrize(
    ("broken", "seen"),
    [
        (without_half, {"items_gone", "interactions_lost", "popularity"}),
        (emptied, {"texts_empty", "text_length"}),
        (hidden, {"items_hidden"}),
        (flooded, {"top_item", "users_new", "pairs_per_user"}),
        (lambda shop: flooded(shop, 20, 500.0), {"top_item", "top_items"}),
        (shuffled, {"histories_lost"}),
        (renamed, {"users_gone", "users_new"}),
        (translated, {"han", "texts_changed"}),
        (obsessed, {"top_user"}),
        (lambda shop: shop | {"rejected": 400}, {"rejected"}),
    ],
)
def test_a_broken_night_does_not_pass(broken: Change, seen: set[str], tmp_path: Path) -> None:
    drift = measured(FULL, broken(FULL), tmp_path)
    assert seen <= set(drift.beyond)
    assert all(f.is_beyond == (f.name in drift.beyond) for f in drift.findings)


def test_hidden_items_are_in_no_list(tmp_path: Path) -> None:
    few = FULL | {"items": FULL.items.assign(is_hidden=np.arange(160) >= 12)}
    drift = measured(few, few, tmp_path)
    (finding,) = (f for f in drift.findings if f.name == "coverage_lost")
    assert (finding.before, finding.after) == (1.0, 1.0)  # of the twelve, all are in somebody's list


def test_collapsed_scores_do_not_pass(tmp_path: Path) -> None:
    publish(FULL, Layout(tmp_path))
    layout = build(FULL, tmp_path)
    for side in ("user", "item"):
        factors = read_rows(layout.factors("full", side))
        shutil.rmtree(layout.factors("full", side))
        write_rows(layout.factors("full", side), 0, 0.01 * factors)
    drift = compared(FULL, layout)
    assert "scores" in drift.beyond


def test_other_vectors_of_the_same_texts_do_not_pass(tmp_path: Path) -> None:
    publish(FULL, Layout(tmp_path))
    layout = build(FULL, tmp_path)
    profiles = read_rows(layout.item_profiles("full"))
    shutil.rmtree(layout.item_profiles("full"))
    write_rows(layout.item_profiles("full"), 0, profiles[::-1])
    drift = compared(FULL, layout)
    assert "text_vectors" in drift.beyond
    assert "texts_changed" not in drift.beyond


def test_a_bound_of_zero_is_none(tmp_path: Path) -> None:
    free = {"drift": {"items_gone": 0, "interactions_lost": 0, "popularity": 0, "pairs_per_user": 0}}
    drift = measured(FULL, without_half(FULL) | {"settings": free}, tmp_path)
    assert drift.beyond == []
    assert values(drift)["items_gone"] == 0.5


def test_the_first_build_says_that_it_is_the_first(tmp_path: Path) -> None:
    drift = measure_drift(Config(), Layout(tmp_path), None, Progress(quiet=True))
    assert (drift.findings, drift.beyond) == ((), [])
    assert "nothing to drift from" in drift.report.read_text()
    assert read_json(Layout(tmp_path).drift)["incumbent"] is None


def test_an_older_version_of_the_training_slice(tmp_path: Path) -> None:
    """Schema 2 knows no program, no run; without refit the two builds are fitted on other rows."""
    layout = Layout(tmp_path)
    publish(FULL, layout, {"schema_version": 2, "model": "train"})
    old_settings = (Path(__file__).parent / "schema_2_config.toml").read_text(encoding="utf-8")
    write_text(layout.bundle(VERSION) / "config.toml", old_settings)
    found = compared(FULL, build(FULL, tmp_path))
    not_compared = {name for name, value in values(found).items() if value is None}
    assert not_compared == {
        "text_mean", "text_vectors", "rejected", "interactions_lost", "interactions_gained", "pairs_per_user",
        "histories_lost", "popularity", "top_item", "top_items", "top_user",
    }  # fmt: skip
    assert not set(found.beyond) & not_compared
    without = FULL | {"settings": {"publish": {"refit": False}}}
    layout = build(without, tmp_path, "train")
    again = compared(without, layout)
    assert values(again)["histories_lost"] == 0.0


def test_another_encoder_is_said_to_be_one(tmp_path: Path) -> None:
    drift = measured(FULL, FULL | {"encoder": "other"}, tmp_path)
    (finding,) = (f for f in drift.findings if f.name == "text_vectors")
    assert finding.value is None
    assert "encoder is another one" in finding.says


@pytest.mark.parametrize("n_users", [140, 0])
def test_text_alone(n_users: int, tmp_path: Path) -> None:
    silent = FULL | {"interactions": FULL.interactions.iloc[:0], "users": FULL.users.iloc[:n_users]}
    drift = measured(silent, silent, tmp_path)
    assert drift.beyond == []
    assert values(drift)["popularity"] is None
    assert values(drift)["lists_changed"] == (0.0 if n_users else None)


def test_nobody_and_nothing_in_common(tmp_path: Path) -> None:
    other = renamed(FULL)
    other = other | {
        "items": other.items.assign(item_id="x" + other.items["item_id"]),
        "interactions": other.interactions.assign(item_id="x" + other.interactions["item_id"]),
    }
    drift = measured(FULL, other, tmp_path)
    assert {"items_gone", "users_gone", "popularity"} <= set(drift.beyond)
    assert values(drift)["popularity"] == pytest.approx(1.0)
    for name in ("scores", "histories_lost", "texts_changed", "text_vectors"):
        assert values(drift)[name] is None


def test_a_sample_is_the_same_one_on_both_sides(tmp_path: Path) -> None:
    few = {"drift": {"sample_items": 60, "sample_users": 40}}
    drift = measured(until(FULL, 0.95), until(FULL, 1.0) | {"settings": few}, tmp_path)
    assert drift.beyond == []
    assert values(drift)["texts_changed"] == 0.0


def test_both_sides_are_read_alike(tmp_path: Path) -> None:
    publish(FULL, Layout(tmp_path))
    layout = build(FULL, tmp_path)
    published, made = of_bundle(layout.bundle(VERSION)), of_build(layout, FULL.config())
    rows = np.array([7, 3, 150, 3])
    assert (
        published.texts(rows).to_pylist()
        == list(FULL.items["text"].iloc[rows])
        == made.texts(rows).to_pylist()
    )
    users = np.array([5, 1])
    scores = [s.user_vectors(users) @ s.item_vectors(rows).T for s in (published, made)]
    np.testing.assert_allclose(scores[0], scores[1])
    whole = made.user_vectors(np.arange(140)) @ made.item_vectors(np.arange(160)).T
    np.testing.assert_allclose(scores[0], whole[users][:, rows], rtol=1e-4, atol=1e-6)
    liked = made.history.toarray() > 0
    assert whole[liked].mean() > whole[~liked].mean() + 0.1  # they are scores
    lists = np.argsort(-np.where(liked, -np.inf, whole), axis=1)[:, :20]
    (finding,) = (f for f in compared(FULL, layout).findings if f.name == "coverage_lost")
    assert finding.after == len(np.unique(lists)) / 160
    assert pick(made.item_factors, np.zeros(0, dtype=np.int64)).shape == (0, 8)


def test_the_report_is_written_needs_nothing_else_and_escapes(tmp_path: Path) -> None:
    named = FULL.items["item_id"].iloc[3]
    evil = FULL | {
        "items": FULL.items.replace({named: "<script>1</script>"}),
        "interactions": FULL.interactions.replace({named: "<script>1</script>"}),
    }
    publish(evil, Layout(tmp_path))
    now = flooded(evil)
    layout = build(now, tmp_path)
    drift = measure_drift(now.config(), layout, IN_SERVICE, Progress(quiet=True))
    page = drift.report.read_text(encoding="utf-8")
    assert f"{len(drift.beyond)} things lie farther" in page
    assert page.count('class="plot"') == 3
    assert "&lt;script&gt;1" in page
    assert "<script" not in page
    assert not any(outside in page for outside in ("src=", "<link", "@import"))
    report = read_json(layout.drift)
    assert report["incumbent"] == VERSION
    assert report["beyond"] == drift.beyond
    assert [f["name"] for f in report["findings"]] == [f.name for f in drift.findings]
    assert list(report["looked_at"].values()) == [160, 540]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    publish(FULL, Layout(tmp_path))
    layout = build(FULL, tmp_path)
    (layout.bundle(VERSION) / "user_arrays.safetensors").write_bytes(b"cut short")
    with pytest.raises(ArtefactError, match=r"user_arrays\.safetensors cannot be read"):
        compared(FULL, layout)


def test_the_stability_index_is_the_textbooks() -> None:
    before = np.repeat(np.arange(10.0), 1000)
    after = np.repeat(np.arange(10.0), np.r_[np.full(5, 500), np.full(5, 1500)])
    p, q = np.full(10, 0.1), np.r_[np.full(5, 0.05), np.full(5, 0.15)]
    assert stability_index(before, after).value == pytest.approx(((q - p) * np.log(q / p)).sum(), rel=0.05)
    assert stability_index(before, before).value == 0.0
    for moved in (before + 100, before - 100, np.full(10_000, -1.0)):
        assert stability_index(before, moved).value > 5
    assert stability_index(np.zeros(500), np.ones(500)).value > 5  # one value, and another
    assert stability_index(np.ones(500), np.zeros(500)).value > 5


def test_chance_is_not_drift() -> None:
    """Few rows of one source look far apart, and are known to."""
    rng = np.random.default_rng(0)
    tries = [stability_index(rng.normal(size=20), rng.normal(size=20)) for _ in range(200)]
    assert np.mean([d.value > 0.25 for d in tries]) > 0.3
    assert np.mean([d.value > d.chance for d in tries]) < 0.02
    counts = [divergence(*rng.multinomial(300, np.full(50, 0.02), size=2)) for _ in range(200)]
    assert np.mean([d.value > d.chance for d in counts]) < 0.02
    assert divergence(np.array([1000, 0]), np.array([0, 1000])).value == pytest.approx(1.0)
    a, b = np.array([5, 3, 2]), np.array([1, 1, 8])
    assert divergence(a, b).value == pytest.approx(jensenshannon(a / 10, b / 10, 2) ** 2)
    assert largest_gap(np.array([0.0, 1.0]), np.array([0.0, 2.0, 2.0, 2.0])) == 0.75


def test_bars_hold_everything() -> None:
    values_ = np.r_[np.arange(100.0), 1e9]
    for low in (0.0, -50.0):
        bars = histogram(values_ + low, values_[:50] + low)
        assert sum(bars["before"]) == pytest.approx(1.0)
        assert sum(bars["after"]) == pytest.approx(1.0)
        assert len(bars["edges"]) == len(bars["before"]) + 1
    assert histogram(np.array([1.0, 2, 2]), np.array([3.0]))["edges"][:4] == [0, 1, 2, 3]
    assert sum(histogram(np.zeros(3), np.zeros(2))["before"]) == 1.0


@pytest.mark.parametrize("bound", [-0.1, "much", None])
def test_bounds_are_numbers_from_zero_on(bound: object) -> None:
    with pytest.raises(Exception, match=r"drift\.items_gone"):
        parse_config({"drift": {"items_gone": bound}}, "test")
