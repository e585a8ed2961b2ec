"""The generated catalogue: the same for a seed, well-formed, and with a known signal in it."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from pipelines.core.catalogue import Catalogue, GeneratorConfig, generate, listing, write
from pipelines.core.catalogue.behaviour import END, PERIOD
from pipelines.core.catalogue.tastes import N_HIDDEN
from pipelines.core.catalogue.vocabulary import CATEGORIES, SHELVES
from pipelines.core.catalogue.wording import with_article
from pipelines.core.catalogue.words import LANGUAGES, fitting

SMALL = GeneratorConfig(n_items=60, n_users=80, n_interactions=800)
MEDIUM = GeneratorConfig(n_items=400, n_users=500, n_interactions=8_000)


@pytest.fixture(scope="module")
def small() -> Catalogue:
    return generate(SMALL)


@pytest.fixture(scope="module")
def medium() -> Catalogue:
    return generate(MEDIUM)


def is_chinese(text: pd.Series) -> pd.Series:
    return text.str.contains(r"[\u4e00-\u9fff]")


def test_same_seed_gives_the_same_catalogue(small: Catalogue) -> None:
    again = generate(SMALL)
    pd.testing.assert_frame_equal(small.items_df, again.items_df)
    pd.testing.assert_frame_equal(small.users_df, again.users_df)
    pd.testing.assert_frame_equal(small.interactions_df, again.interactions_df)
    np.testing.assert_array_equal(small.item_tastes, again.item_tastes)
    np.testing.assert_array_equal(small.user_tastes, again.user_tastes)


def test_another_seed_gives_another_catalogue(small: Catalogue) -> None:
    other = generate(SMALL.model_copy(update={"seed": 8}))
    assert not small.items_df["title"].equals(other.items_df["title"])
    assert not small.interactions_df.equals(other.interactions_df)


def test_sizes_are_exact(medium: Catalogue) -> None:
    assert len(medium.items_df) == MEDIUM.n_items
    assert len(medium.users_df) == MEDIUM.n_users
    assert len(medium.interactions_df) == MEDIUM.n_interactions
    assert medium.item_tastes.dtype == medium.user_tastes.dtype == np.float32
    assert len(medium.item_tastes) == MEDIUM.n_items
    assert medium.user_tastes.shape == (MEDIUM.n_users, medium.item_tastes.shape[1])


def test_columns(medium: Catalogue) -> None:
    assert list(medium.items_df) == [
        "item_id",
        "title",
        "description",
        "brand",
        "categories",
        "price",
        "created_at",
    ]
    assert list(medium.users_df) == ["user_id", "description", "language"]
    assert list(medium.interactions_df) == ["user_id", "item_id", "weight", "timestamp", "event"]
    assert not medium.items_df.isna().any().any()
    assert not medium.interactions_df.isna().any().any()
    assert (medium.items_df["price"] > 0).all()
    assert set(medium.items_df["categories"].map(len)) == {1, 2}
    assert set(medium.users_df["language"]) == set(LANGUAGES)
    assert (medium.interactions_df["weight"] == 1.0).all()


def test_ids_and_titles_are_unique(medium: Catalogue) -> None:
    assert medium.items_df["item_id"].is_unique
    assert medium.items_df["title"].is_unique
    assert medium.users_df["user_id"].is_unique


def test_titles_stay_distinct_when_the_words_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "title_item", lambda *_: "The Only Title")
    titles = generate(GeneratorConfig(n_items=20, n_users=30, n_interactions=90)).items_df["title"]
    assert titles.is_unique
    assert titles.str.startswith("The Only Title").all()


def test_interactions_are_distinct_known_pairs(medium: Catalogue) -> None:
    pairs = medium.interactions_df[["user_id", "item_id"]]
    assert not pairs.duplicated().any()
    assert pairs["item_id"].isin(medium.items_df["item_id"]).all()
    assert set(pairs["user_id"]) == set(medium.users_df["user_id"])
    assert pairs.groupby("user_id").size().min() >= 3


def test_timestamps_are_sorted_and_follow_creation(medium: Catalogue) -> None:
    times = medium.interactions_df["timestamp"]
    created_at = medium.items_df.set_index("item_id")["created_at"]
    assert times.is_monotonic_increasing
    assert (times.to_numpy() >= created_at[medium.interactions_df["item_id"]].to_numpy()).all()
    assert times.between(END - PERIOD, END, inclusive="left").all()
    assert (created_at >= END - 0.2 * PERIOD).mean() == pytest.approx(0.15)


def test_end_is_the_date_it_says() -> None:
    assert pd.Timestamp(END, unit="s") == pd.Timestamp("2026-06-01")


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_chinese_share_is_kept(share: float) -> None:
    catalogue = generate(SMALL.model_copy(update={"chinese_share": share}))
    titles, users = catalogue.items_df["title"], catalogue.users_df
    assert is_chinese(titles).mean() == pytest.approx(share)
    assert (users["language"] == "zh").mean() == pytest.approx(share)
    told = users[users["description"] != ""]
    assert (is_chinese(told["description"]) == (told["language"] == "zh")).all()


def test_some_text_is_missing(medium: Catalogue) -> None:
    assert (medium.users_df["description"] == "").mean() == pytest.approx(0.05)
    assert (medium.items_df["description"] == "").mean() == pytest.approx(0.01)


def test_texts_are_filled_in_and_varied(medium: Catalogue) -> None:
    for text in [*medium.items_df["description"], *medium.users_df["description"]]:
        assert not set(text) & set("{}@")
        assert "  " not in text
    descriptions = medium.items_df["description"]
    assert descriptions[descriptions != ""].is_unique
    # Few items of a shop begin alike.
    english = descriptions[~is_chinese(descriptions) & (descriptions != "")]
    assert english.str.split().str[:3].str.join(" ").value_counts(normalize=True).max() < 0.1


def test_deeper_events_go_with_higher_affinity(medium: Catalogue) -> None:
    interactions_df = medium.interactions_df
    shares = interactions_df["event"].value_counts(normalize=True)
    assert list(shares.index) == ["view", "click", "cart", "purchase"]
    users = interactions_df["user_id"].str.removeprefix("user-").astype(int)
    items = interactions_df["item_id"].str.removeprefix("item-").astype(int)
    affinity = (medium.user_tastes[users] * medium.item_tastes[items]).sum(axis=1)
    by_event = pd.Series(affinity).groupby(interactions_df["event"]).mean()
    assert by_event["purchase"] > by_event["click"] > by_event["view"]


def recall_of_held_out_items(catalogue: Catalogue, scores: npt.NDArray[np.floating], k: int = 10) -> float:
    """Mean recall at k over every fifth item; `scores` is n_users x n_items."""
    users = catalogue.interactions_df["user_id"].str.removeprefix("user-").astype(int)
    items = catalogue.interactions_df["item_id"].str.removeprefix("item-").astype(int)
    relevant = np.zeros(scores.shape, dtype=bool)
    relevant[users, items] = True
    relevant, scores = relevant[:, ::5], scores[:, ::5]
    top = np.argsort(-scores, axis=1)[:, :k]
    n_relevant = relevant.sum(axis=1)
    hits = np.take_along_axis(relevant, top, axis=1).sum(axis=1)
    return float((hits[n_relevant > 0] / n_relevant[n_relevant > 0]).mean())


def test_oracle_beats_popularity_on_held_out_items(medium: Catalogue) -> None:
    counts = medium.interactions_df["item_id"].value_counts()
    of_item = counts.reindex(medium.items_df["item_id"], fill_value=0).to_numpy().astype(np.float64)
    popularity = np.broadcast_to(of_item, (MEDIUM.n_users, MEDIUM.n_items))
    oracle = medium.user_tastes @ medium.item_tastes.T
    assert recall_of_held_out_items(medium, oracle) > 1.5 * recall_of_held_out_items(medium, popularity)


@pytest.mark.parametrize("text_signal", [0.0, 1.0])
def test_text_signal_at_its_ends_switches_a_part_off(text_signal: float) -> None:
    catalogue = generate(SMALL.model_copy(update={"text_signal": text_signal}))
    told, hidden = np.split(catalogue.user_tastes, [-N_HIDDEN], axis=1)
    assert bool(told.any()) == (text_signal == 1.0)
    assert bool(hidden.any()) == (text_signal == 0.0)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"n_items": 5}, "n_items is 5; expected at least 20.* Raise n_items"),
        ({"n_users": 0}, "n_users is 0; expected at least 1. Raise n_users"),
        ({"n_interactions": 100}, "n_interactions is 100; expected at least 240.* Raise n_interactions or"),
        ({"n_interactions": 1441}, "n_interactions is 1441; expected at most 1440.* Lower n_interactions"),
    ],
)
def test_impossible_sizes_are_refused_with_advice(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeneratorConfig(**{"n_items": 60, "n_users": 80, "n_interactions": 800, **sizes})


def test_the_fullest_shop_can_be_made() -> None:
    catalogue = generate(GeneratorConfig(n_items=20, n_users=30, n_interactions=180))
    assert len(catalogue.interactions_df.drop_duplicates(["user_id", "item_id"])) == 180


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="n_itmes"):
        GeneratorConfig.model_validate({"n_itmes": 60})


def test_write_gives_readable_tables_and_nothing_else(small: Catalogue, tmp_path: Path) -> None:
    paths = write(small, tmp_path / "shop")
    assert {name: path.name for name, path in paths.items()} == {
        "items": "items.parquet",
        "users": "users.parquet",
        "interactions": "interactions.parquet",
    }
    assert sorted((tmp_path / "shop").iterdir()) == sorted(paths.values())
    items_df = pd.read_parquet(paths["items"])
    items_df["categories"] = items_df["categories"].map(list)
    pd.testing.assert_frame_equal(items_df, small.items_df)
    pd.testing.assert_frame_equal(pd.read_parquet(paths["users"]), small.users_df)
    pd.testing.assert_frame_equal(pd.read_parquet(paths["interactions"]), small.interactions_df)


def test_an_interrupted_write_leaves_the_old_file_whole(
    small: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write(small, tmp_path)
    before = paths["items"].read_bytes()

    def die(*_: object) -> None:
        raise OSError("the disk went away")

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(OSError, match="went away"):
        write(generate(SMALL.model_copy(update={"seed": 8})), tmp_path)
    assert paths["items"].read_bytes() == before
    assert sorted(tmp_path.iterdir()) == sorted(paths.values())


def test_every_product_has_words_in_both_languages() -> None:
    assert len(CATEGORIES) >= 8
    assert len({subcategory.key for _, subcategory in SHELVES}) == len(SHELVES)
    for _, subcategory in SHELVES:
        for language in LANGUAGES:
            words = subcategory.words(language)
            assert len(words.kinds) == len(subcategory.prices)
            assert words.hobbies
            for kind in range(len(words.kinds)):
                assert fitting(words.features, kind)
                assert fitting(words.uses, kind)


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("tent", "a tent"),
        ("espresso machine", "an espresso machine"),
        ("ukulele", "a ukulele"),
        ("understated mug", "an understated mug"),
        ("eucalyptus", "a eucalyptus"),
    ],
)
def test_article_follows_the_sound(noun: str, expected: str) -> None:
    assert with_article(noun) == expected
