"""From a request to a list: who gets what, why it is there, and what never is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import publish
from pipelines.core.bundle import BundlePaths, write_manifest
from pipelines.core.config import AttributesConfig, ServeConfig, to_toml
from pipelines.core.encoder import Encoder
from pipelines.core.errors import ArtefactError, InputError
from pipelines.core.index import ApproximateRanker
from pipelines.core.layout import Layout
from pipelines.core.storage import read_json, read_tensors, write_json, write_table, write_text
from serving import loading
from serving.recommender import Recommender, load_current
from serving.requests import Event, Recommended, Request
from serving.understanding import merge_events
from tests.serving.shop import CONFIG, HIDDEN, N_ITEMS, Shop

EVERYTHING = N_ITEMS - len(HIDDEN)
SOMEBODY = 2
DISLIKER = 5
"""Row numbers of users: one who only likes, one with a dislike."""


def ids(answer: Sequence[Recommended]) -> list[str]:
    return [item.item_id for item in answer]


def scores(answer: Sequence[Recommended]) -> dict[str, float]:
    return {item.item_id: item.score for item in answer}


def names(answer: Sequence[Recommended]) -> set[str]:
    return {name for item in answer for name in item.parts or {}}


def categories(shop: Shop, item_ids: Sequence[str]) -> list[str]:
    of = dict(zip(shop.item_ids, shop.items.column("categories").to_pylist(), strict=True))
    return [of[item][0] for item in item_ids]


def in_category(shop: Shop, category: str) -> set[str]:
    return {i for i, c in zip(shop.item_ids, categories(shop, shop.item_ids), strict=True) if c == category}


@pytest.mark.parametrize(
    ("query", "category"),
    [
        ("espresso and coffee beans", "Coffee & Tea"),
        ("a bicycle for the daily commute", "Cycling"),
        ("running shoes", "Running & Fitness"),
        ("guitar", "Musical Instruments"),
    ],
)
def test_a_query_finds_what_it_names(model: Recommender, shop: Shop, query: str, category: str) -> None:
    answer = model.recommend(Request(query=query, n=5))
    assert categories(shop, ids(answer)).count(category) >= 3


def test_own_words_raise_what_they_speak_of(model: Recommender, shop: Shop) -> None:
    words = "I brew coffee every morning and collect teapots"
    answer = model.recommend(Request(user_text=words, n=EVERYTHING, explain=True))
    share = {item.item_id: (item.parts or {})["your words"] for item in answer}
    coffee = in_category(shop, "Coffee & Tea") & share.keys()
    assert np.mean([share[i] for i in coffee]) > np.quantile(list(share.values()), 0.8)


def test_chinese_words_find_chinese_items(model: Recommender, shop: Shop) -> None:
    answer = model.recommend(Request(query="咖啡与茶，茶叶", n=5))
    assert sum(any("\u4e00" <= c <= "\u9fff" for c in name) for name in map(model.title, ids(answer))) >= 4


@pytest.mark.parametrize("query", ["ночной поезд", "قهوة", "🏕️🏕️", "x", "?", "0" * 300, "<b></b>&amp;"])
def test_any_words_get_an_answer(model: Recommender, query: str) -> None:
    assert len(model.recommend(Request(query=query, user_text=query))) == 10


def test_scores_fall_and_ranks_count_from_one(model: Recommender) -> None:
    for request in (Request(), Request(query="tea"), Request(user_id="user-000002")):
        answer = model.recommend(request)
        assert [item.rank for item in answer] == list(range(1, 11))
        assert [item.score for item in answer] == sorted((item.score for item in answer), reverse=True)
        assert all(item.parts is None for item in answer)


def test_the_same_request_gets_the_same_answer(model: Recommender, shop: Shop, encoder: Encoder) -> None:
    request = Request(
        user_id=shop.user_ids[3], query="gift", events=[Event(shop.item_ids[1])], n=30, explain=True
    )
    assert model.recommend(request) == model.recommend(request)
    assert Recommender(shop.bundle, encoder).recommend(request) == model.recommend(request)


def test_nobody_in_particular_gets_what_is_popular(model: Recommender, shop: Shop) -> None:
    answer = model.recommend(Request(n=EVERYTHING, explain=True))
    popularity = dict(zip(shop.item_ids, shop.items.column("n_wanted").to_pylist(), strict=True))
    counts = [popularity[i] for i in ids(answer)]
    assert counts == sorted(counts, reverse=True)
    assert {item.source for item in answer} == {"fallback"}
    assert all(item.parts == {"popularity": item.score} for item in answer)
    assert len(set(scores(answer).values())) == EVERYTHING  # unpopular items too have an order


@pytest.mark.parametrize("text", ["", "   \n\u3000", "<p> </p>", "\u200b", "\ud800"])
def test_empty_words_are_none(model: Recommender, text: str) -> None:
    nothing = model.recommend(Request())
    assert model.recommend(Request(user_text=text, query=text)) == nothing
    assert model.recommend(Request(user_id="who?", user_text=text)) == nothing


def test_unknown_users_are_new_users(model: Recommender) -> None:
    assert not model.knows_user("who?")
    assert model.recommend(Request(user_id="who?", query="tea")) == model.recommend(Request(query="tea"))


def test_a_known_user_without_words_or_history_is_a_new_user(model: Recommender, shop: Shop) -> None:
    assert model.knows_user(shop.bare)
    assert model.recommend(Request(user_id=shop.bare)) == model.recommend(Request())


def test_a_stored_description_speaks_until_another_one_is_given(model: Recommender, shop: Shop) -> None:
    text = shop.user_texts[shop.user_ids.index(shop.described)]
    stored = model.recommend(Request(user_id=shop.described, n=20, explain=True))
    given = model.recommend(Request(user_text=text, n=20, explain=True))
    assert ids(stored) == ids(given)
    assert scores(stored) == pytest.approx(scores(given), abs=1e-5)
    assert names(stored) == {"this item's text", "what others did", "your profile"}
    other = model.recommend(Request(user_id=shop.described, user_text="piano", n=20, explain=True))
    assert names(other) == {"this item's text", "what others did", "your words"}
    assert {item.source for item in stored} == {"text"}


def test_a_known_user_is_the_stored_factor(model: Recommender, shop: Shop) -> None:
    arrays = read_tensors(BundlePaths(shop.bundle).user_arrays)
    for row in (SOMEBODY, DISLIKER):
        request = Request(user_id=shop.user_ids[row])
        known = model.users.understand(request, *model.users.words([request]), model.catalogue)
        _, folded = model.users.solve(known, model.catalogue)
        np.testing.assert_allclose(folded.total, arrays["factors"][row], atol=2e-5)
        np.testing.assert_array_equal(shop.user_factors[row], arrays["factors"][row])


def test_history_is_never_shown_and_sources_tell_behaviour_from_text(model: Recommender, shop: Shop) -> None:
    for row in (SOMEBODY, DISLIKER):
        user = shop.user_ids[row]
        answer = model.recommend(Request(user_id=user, n=EVERYTHING))
        assert not set(ids(answer)) & shop.history[user].keys()
        cold = set(shop.cold_ids)
        assert all(item.source == ("text" if item.item_id in cold else "hot") for item in answer)
        assert {item.source for item in answer} == {"text", "hot"}


def test_the_first_click_changes_the_list(model: Recommender, shop: Shop) -> None:
    words = "I like beautiful things"
    before = model.recommend(Request(user_text=words, n=EVERYTHING))
    clicked = sorted(in_category(shop, "Coffee & Tea") - set(shop.cold_ids))[0]
    after = model.recommend(Request(user_text=words, n=EVERYTHING, events=[Event(clicked, "click")]))
    assert {item.source for item in before} == {"text"}
    assert clicked in ids(before)
    assert clicked not in ids(after)
    coffee = in_category(shop, "Coffee & Tea") - {clicked}

    def place(answer: Sequence[Recommended]) -> float:
        return float(np.mean([rank for rank, item in enumerate(ids(answer)) if item in coffee]))

    assert place(after) < place(before)
    cold = set(shop.cold_ids)
    assert all(item.source == ("text" if item.item_id in cold else "fold_in") for item in after)


def test_a_click_on_a_cold_item_counts(model: Recommender, shop: Shop) -> None:
    answer = model.recommend(Request(events=[Event(shop.cold_ids[0])], explain=True))
    assert names(answer) == {"this item's text", "what others did", f"item {shop.cold_ids[0]}"}


def test_an_item_liked_before_and_one_liked_now_are_the_same(model: Recommender, shop: Shop) -> None:
    history = shop.history[shop.user_ids[SOMEBODY]]
    text = shop.user_texts[SOMEBODY]
    stored = model.recommend(Request(user_id=shop.user_ids[SOMEBODY], n=50))
    now = model.recommend(
        Request(user_text=text, events=[Event(i, weight=w) for i, w in history.items()], n=50)
    )
    assert scores(now) == pytest.approx(scores(stored), abs=1e-4)


def test_events_add_up(model: Recommender, shop: Shop) -> None:
    item, other = shop.item_ids[0], shop.item_ids[1]
    twice = model.recommend(Request(events=[Event(item), Event(other), Event(item)]))
    once = model.recommend(Request(events=[Event(item, weight=2.0), Event(other)]))
    assert scores(twice) == pytest.approx(scores(once), abs=1e-6)
    purchase = model.recommend(Request(events=[Event(item, "purchase")]))
    assert scores(purchase) == scores(model.recommend(Request(events=[Event(item, weight=3.0)])))


def test_events_that_cancel_say_nothing_but_are_not_shown(model: Recommender, shop: Shop) -> None:
    item = ids(model.recommend(Request()))[0]
    events = [Event(item, "click"), Event(item, "dislike")]
    answer = model.recommend(Request(events=events, n=EVERYTHING))
    assert ids(answer) == [i for i in ids(model.recommend(Request(n=EVERYTHING))) if i != item]
    user = shop.user_ids[SOMEBODY]
    fresh = next(i for i in ids(model.recommend(Request(user_id=user))) if i not in shop.cold_ids)
    events = [Event(fresh, "click"), Event(fresh, "dislike")]
    answer = model.recommend(Request(user_id=user, events=events, n=EVERYTHING))
    assert {item.source for item in answer} == {"text", "hot"}  # the events took no part
    assert fresh not in ids(answer)
    old = next(iter(shop.history[user]))
    answer = model.recommend(Request(user_id=user, events=[Event(old, "dislike")], n=EVERYTHING))
    assert {item.source for item in answer} == {"text", "fold_in"}  # what it did was to take one away
    assert old not in ids(answer)


def test_a_dislike_lowers_the_item_and_its_like(model: Recommender, shop: Shop) -> None:
    coffee = sorted(in_category(shop, "Coffee & Tea") - set(shop.cold_ids))
    words = Request(user_text="I like beautiful things", n=EVERYTHING)
    before = scores(model.recommend(words))
    after = scores(
        model.recommend(
            Request(user_text=words.user_text, n=EVERYTHING, events=[Event(coffee[0], "dislike", 3.0)])
        )
    )
    assert coffee[0] not in after
    others = [i for i in after if i not in coffee]
    fall = np.mean([before[i] - after[i] for i in coffee[1:]])
    assert fall > np.mean([before[i] - after[i] for i in others])
    assert fall > 0


def test_excluded_ids_are_left_out(model: Recommender, shop: Shop) -> None:
    first = ids(model.recommend(Request(query="tea", n=5)))
    answer = model.recommend(Request(query="tea", n=5, exclude_ids=[*first[:2], "unknown", first[0]]))
    assert ids(answer)[:3] == first[2:]
    assert model.recommend(Request(query="tea", exclude_ids=shop.item_ids)) == []


def test_a_shop_of_some_items_shows_these_alone_hidden_or_not(model: Recommender, shop: Shop) -> None:
    some = [shop.item_ids[row] for row in (*HIDDEN, 1, 2, 60)]
    user = next(u for u, items in shop.history.items() if items.keys() & set(some))
    seen, before = shop.history[user].keys(), ids(model.recommend(Request(user, n=500)))
    smaller = model.showing([*some, "nowhere"])
    for request in (Request(n=500), Request(query="a tent", n=500), Request("a stranger", n=500)):
        assert set(ids(smaller.recommend(request))) == set(some)
    assert set(ids(smaller.recommend(Request(user, n=500)))) == set(some) - seen
    assert ids(model.recommend(Request(user, n=500))) == before  # itself it is as it was
    assert not ids(model.showing([]).recommend(Request(n=5)))


def test_hidden_items_are_never_shown(model: Recommender, shop: Shop) -> None:
    hidden = {shop.item_ids[row] for row in HIDDEN}
    title = model.title(shop.item_ids[HIDDEN[0]])
    for request in (Request(n=500), Request(query=title, n=500), Request(filter={"is_hidden": True}, n=500)):
        assert not hidden & set(ids(model.recommend(request)))


def test_filters_hold_for_every_kind_of_answer(model: Recommender, shop: Shop) -> None:
    rows = {row["item_id"]: row for row in shop.items.to_pylist()}
    for known in ({}, {"query": "tea"}, {"user_id": shop.user_ids[0]}):
        answer = model.recommend(Request(**known, filter={"price": {"max": 40}, "in_stock": True}))  # type: ignore[arg-type]
        assert answer
        assert all(rows[i]["price"] <= 40 and rows[i]["in_stock"] for i in ids(answer))
        assert model.recommend(Request(**known, filter={"brand": "nobody"})) == []  # type: ignore[arg-type]
        with pytest.raises(InputError, match="no column 'colour'"):
            model.recommend(Request(**known, filter={"colour": "red"}))  # type: ignore[arg-type]


def test_lengths(model: Recommender) -> None:
    assert len(model.recommend(Request(query="tea", n=1))) == 1
    assert len(model.recommend(Request(query="tea", n=500))) == EVERYTHING
    for n in (0, -1, 501, 10**9):
        with pytest.raises(InputError, match=f"n is {n}, expected 1 to 500"):
            model.recommend(Request(n=n))


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (Event("nothing"), "item_id 'nothing' is not in this catalogue"),
        (Event("item-000000", "teleport"), "'teleport' is no event of this build; it knows view, click"),
        (Event("item-000000", weight=0.0), "weight 0.0 is not above 0"),
        (Event("item-000000", weight=-1.0), "weight -1.0 is not above 0"),
        (Event("item-000000", weight=float("nan")), "weight nan is not above 0"),
        (Event("item-000000", weight=float("inf")), "weight inf is not above 0 and at most 1000000"),
        (Event("item-000000", weight=1e30), "weight 1e[+]30 is not above 0 and at most 1000000"),
    ],
)
def test_events_that_make_no_sense(model: Recommender, event: Event, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.recommend(Request(events=[event]))


def test_heavy_events_still_give_finite_scores(model: Recommender, shop: Shop) -> None:
    events = [
        Event(item, "dislike" if row % 2 else "purchase", 1e6) for row, item in enumerate(shop.item_ids)
    ]
    answer = model.recommend(Request(events=events[:60], n=500))
    assert len(answer) >= EVERYTHING - 60
    assert np.isfinite([item.score for item in answer]).all()


@pytest.mark.parametrize(
    "request_",
    [
        Request(user_text="I love hiking", query="tent", n=30, explain=True),
        Request(query="茶", n=30, explain=True),
        Request(user_id="user-000002", n=30, explain=True),
        Request(user_id="user-000005", query="tea", events=[Event("item-000004", "dislike"), Event("item-000119")],
                n=30, explain=True),
        Request(events=[Event("item-000001"), Event("item-000001"), Event("item-000002", "purchase")], n=30,
                explain=True),
        Request(user_id="newcomer", n=30, explain=True),
        Request(n=30, explain=True),
    ],
)  # fmt: skip
def test_parts_add_up_to_the_score(model: Recommender, request_: Request) -> None:
    answer = model.recommend(request_)
    assert len(answer) == 30
    for item in answer:
        assert sum((item.parts or {}).values()) == pytest.approx(item.score, abs=1e-5)


def test_a_megabyte_of_words_is_cut(model: Recommender) -> None:
    limit = CONFIG.serve.max_text_chars
    text = "light camping gear " * 55_000
    whole_words = text[:limit].rsplit(" ", 1)[0]
    answer = model.recommend(Request(user_text=text))
    assert answer == model.recommend(Request(user_text=whole_words))
    fewer = whole_words.rsplit(" ", 1)[0]
    assert answer != model.recommend(Request(user_text=fewer)), "every word up to the limit counts"


def test_titles(model: Recommender, shop: Shop) -> None:
    assert model.title(shop.item_ids[0]) == shop.items.column("title")[0].as_py()


def test_tags_come_with_their_confidences(
    model: Recommender, shop: Shop, out: Path, encoder: Encoder
) -> None:
    assert model.tags(shop.item_ids[0]) == {}, "a build without labels has none"
    paths = BundlePaths(Layout(out).bundle("v1"))
    labels = {"style": ("modern", "rustic"), "用途": ("户外", "室内")}
    config = CONFIG.model_copy(update={"attributes": AttributesConfig(labels=labels)})
    write_text(paths.config, to_toml(config))
    items = pq.read_table(paths.items)
    rest = [[]] * (N_ITEMS - 2)
    for name, tags, confidences in (
        ("style", [["rustic"], []], [[0.75], []]),
        ("用途", [["户外", "室内"], ["室内"]], [[0.5, 0.25], [1.0]]),
    ):
        items = items.append_column(name, pa.array(tags + rest, pa.list_(pa.string())))
        items = items.append_column(
            f"{name}_confidence", pa.array(confidences + rest, pa.list_(pa.float32()))
        )
    write_table(paths.items, items)
    write_manifest(paths, "v1", {"encoder": read_json(paths.manifest)["encoder"]})
    tagged = Recommender(paths.root, encoder)
    assert tagged.tags(shop.item_ids[0]) == {"style": {"rustic": 0.75}, "用途": {"户外": 0.5, "室内": 0.25}}
    assert tagged.tags(shop.item_ids[1]) == {"style": {}, "用途": {"室内": 1.0}}
    outdoors = tagged.recommend(Request(filter={"用途": "户外"}, n=9))
    assert ids(outdoors) == [shop.item_ids[0]]


def test_a_batch_answers_what_each_request_alone_is_answered(model: Recommender, shop: Shop) -> None:
    every = [
        Request(),
        Request(query="tea", n=7),
        Request(n=0),
        Request(user_id=shop.user_ids[SOMEBODY], filter={"price": {"max": 40}}),
        Request(user_text="I love hiking", query="tent", exclude_ids=shop.item_ids[:50], explain=True),
        Request(events=[Event("nothing")]),
        Request(events=[Event(shop.item_ids[1])], n=EVERYTHING),
        Request(filter={"colour": "red"}),
        Request(query="tea", filter={"brand": "nobody"}),
    ]
    together = model.recommend_many(every)
    assert model.recommend_many([]) == []
    for request, answer in zip(every, together, strict=True):
        if isinstance(answer, InputError):
            with pytest.raises(InputError, match=re.escape(str(answer))):
                model.recommend(request)
            continue
        alone = model.recommend(request)
        assert ids(answer) == ids(alone)
        assert scores(answer) == pytest.approx(scores(alone), abs=1e-5)  # the encoder pads texts of a batch
        assert [(i.rank, i.source) for i in answer] == [(i.rank, i.source) for i in alone]
    assert [isinstance(answer, InputError) for answer in together].count(True) == 3


def test_lists_are_those_of_scoring_every_item(model: Recommender, shop: Shop) -> None:
    for row in range(0, 80, 7):
        request = Request(user_id=shop.user_ids[row], n=EVERYTHING)
        asked = model._prepare(0, request, *model.users.words([request]))
        assert asked.wanted is not None
        every = model.catalogue.bundle.vectors @ asked.wanted.user
        every[asked.left_out] = -np.inf
        order = [shop.item_ids[i] for i in np.argsort(-every, kind="stable") if np.isfinite(every[i])]
        assert ids(model.recommend(request)) == order


def test_a_build_with_an_index_answers_from_it(out: Path, model: Recommender, encoder: Encoder) -> None:
    paths = BundlePaths(Layout(out).bundle("v1"))
    for index, there in (("exact", False), ("auto", False), ("approximate", True)):
        config = CONFIG.model_copy(update={"serve": ServeConfig(index=index)})
        publish._write_index._function(config, paths)
        assert paths.item_index.exists() is there
    write_manifest(paths, "v1", {"encoder": read_json(paths.manifest)["encoder"]})
    indexed = Recommender(paths.root, encoder)
    assert isinstance(indexed.catalogue.ranker, ApproximateRanker)
    for request in (
        Request(query="tea"),
        Request(user_id="user-000002", n=EVERYTHING),
        Request(query="tea", filter={"price": {"max": 40}}, exclude_ids=indexed.catalogue.ids[:30]),
        Request(query="tea", filter={"brand": "nobody"}),
    ):  # so few items that none can be missed
        assert indexed.recommend(request) == model.recommend(request)


def test_the_published_version_is_loaded_with_its_own_encoder(shop: Shop, model: Recommender) -> None:
    loaded = load_current(shop.out)
    assert loaded.version == "v1"
    request = Request(query="tea", n=20)
    assert ids(loaded.recommend(request)) == ids(model.recommend(request))


def test_another_encoder_than_the_bundles_is_refused(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "encoder_fingerprint", lambda _: "another")
    with pytest.raises(
        ArtefactError, match=r"encoder all-MiniLM-L6-v2 of fingerprint .*, here it is another"
    ):
        Recommender(shop.bundle)


def test_an_encoder_in_the_bundle_is_used(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(loading, "Encoder", lambda settings: seen.append(settings.model))
    paths = BundlePaths(Layout(out).bundle("v1"))
    paths.encoder.mkdir()
    Recommender(paths.root)
    assert seen == [str(paths.encoder)]


def test_a_corrupt_bundle_is_refused(out: Path, encoder: Encoder) -> None:
    paths = BundlePaths(Layout(out).bundle("v1"))
    with paths.items.open("r+b") as file:
        file.seek(100)
        file.write(b"\x00\x01\x02")
    with pytest.raises(ArtefactError, match="checksum"):
        Recommender(paths.root, encoder)
    write_json(paths.manifest, read_json(paths.manifest) | {"schema_version": 99})
    with pytest.raises(ArtefactError, match="schema version 99"):
        Recommender(paths.root, encoder)


def test_weights_that_cancel_but_for_rounding_say_nothing() -> None:
    weights = np.array([0.1, 0.1, 0.1, -0.3, 2.0], dtype=np.float32)
    items, merged = merge_events(np.array([7, 7, 7, 7, 3]), weights)
    assert items.tolist() == [3]
    assert merged.tolist() == [2.0]


def test_a_text_that_comes_again_is_not_encoded_again(
    shop: Shop, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, read = Recommender(shop.bundle, encoder), []
    encode = encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda texts: (read.extend(texts), encode(texts))[1])
    asked = [Request(user_text="tea"), Request(query="tea"), Request(user_text="tea", query="a tent")]
    first = model.recommend_many(asked)
    assert read == ["tea", "tea", "a tent"]  # own words and a query are read less another mean
    again = model.recommend_many(asked)
    assert again == first
    assert len(read) == 3
    assert model.recommend(asked[1]) == first[1]
    assert first[0] != first[1]


@pytest.mark.parametrize("asked", [{}, {"query": "tea"}, {"user_id": "user-000002"}])
@pytest.mark.parametrize("diversity", [0.0, 0.4])
def test_pages_are_parts_of_one_list(model: Recommender, asked: dict[str, str], diversity: float) -> None:
    whole = model.recommend(Request(**asked, n=20, diversity=diversity))
    pages = [model.recommend(Request(**asked, n=5, offset=k, diversity=diversity)) for k in (0, 5, 10, 15)]
    assert [item for page in pages for item in page] == whole
    assert [item.rank for item in whole] == list(range(1, 21))
    beyond = model.recommend(Request(**asked, n=100, offset=400, diversity=diversity))
    assert beyond == []


def test_various_items_are_less_alike(model: Recommender) -> None:
    def likeness(diversity: float) -> float:
        found = model.recommend(Request(query="tea", n=10, diversity=diversity))
        vectors = model.catalogue.vectors(model.catalogue.rows_of([item.item_id for item in found]))
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return float(np.triu(unit @ unit.T, 1).sum())

    assert likeness(0.0) > likeness(0.3) > likeness(0.8)
    plain = model.recommend(Request(query="tea", n=10))
    assert plain == model.recommend(Request(query="tea", n=10, diversity=0.0))
    assert model.recommend(Request(query="tea", n=1, diversity=0.9)) == plain[:1]


@pytest.mark.parametrize(("n", "offset"), [(10, 491), (500, 1), (1, -1), (1, 500)])
def test_a_page_that_is_out_of_reach(model: Recommender, n: int, offset: int) -> None:
    with pytest.raises(InputError, match="offset"):
        model.recommend(Request(n=n, offset=offset))
