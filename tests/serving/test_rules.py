"""Lists under business rules, against ranking every item; and what each rule has in a score."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.bundle import BundlePaths, write_manifest
from pipelines.core.config import to_toml
from pipelines.core.encoder import Encoder
from pipelines.core.errors import ConfigError
from pipelines.core.index import ApproximateRanker, build_index
from pipelines.core.kinds import kind_bits
from pipelines.core.layout import Layout
from pipelines.core.sections.rules import Cap, RulesConfig
from pipelines.core.storage import read_json, write_text
from serving.api import create_app
from serving.catalogue import Catalogue, Items
from serving.recommender import Recommender
from serving.requests import Event, Recommended, Request
from serving.rules import Ruling, check_against
from tests.serving.databases import file_store
from tests.serving.shop import CONFIG, HIDDEN, N_ITEMS, Shop

EVERYTHING = N_ITEMS - len(HIDDEN)
USER = "user-000002"
ASKED = [
    {"query": "tea"},
    {"user_text": "我喜欢露营", "query": "a warm coat"},
    {"user_id": USER},
    {"user_id": USER, "events": [Event("item-000001", "click"), Event("item-000119")]},
    {},
]
FULL: dict[str, Any] = {
    "boost": [{"name": "cheap", "when": {"price": {"max": 60}}, "amount": 1.5}],
    "bury": [{"name": "kitchen", "when": {"categories": ["Kitchen", "Coffee & Tea"]}, "amount": 2}],
    "freshness": {"column": "released", "half_life_days": 7, "amount": 1},
    "pin": [{"item_id": "item-000060", "place": 2}, {"item_id": "item-000061", "place": 30}],
    "cap": [{"column": "categories", "most": 3, "within": 10}],
    "stock": "stock",
}


def now() -> float:
    return 1_706_745_600.0  # 2024-02-01


def under(model: Recommender, clock: Callable[[], float] = now, **raw: object) -> Recommender:
    """The same version with these rules."""
    found = copy.copy(model)
    kinds = model.config.data.event_weights
    found._ruling = Ruling(RulesConfig.model_validate(raw), kinds, clock)
    found._ruling.over(found.catalogue)
    return found


def ids(answer: list[Recommended]) -> list[str]:
    return [item.item_id for item in answer]


def unit_of(model: Recommender, request: Request) -> float:
    """From the scores of all items, hidden and seen ones too."""
    every = model.recommend(Request(**{**vars(request), "among": model.catalogue.ids, "n": N_ITEMS, "offset": 0,
                                       "filter": {}, "exclude_ids": (), "rules": False}))  # fmt: skip
    assert len(every) == N_ITEMS
    return float(np.std([item.score for item in every], dtype=np.float64))


class Slowly:
    """Every item is scored and looked at by itself, in plain Python."""

    def __init__(self, model: Recommender, request: Request, rules: RulesConfig) -> None:
        """Score every item without rules."""
        self.rules, self.request = rules, request
        self.rows = {row["item_id"]: row for row in model.catalogue.bundle.table.to_pylist()}
        self.unit = unit_of(model, request)
        plain = Request(**{**vars(request), "rules": False, "n": EVERYTHING, "offset": 0, "diversity": 0.0})
        self.scores = {i.item_id: i.score for i in model.recommend(plain)}

    def value(self, item: str) -> float:
        """What rules add, in units."""
        row, total = self.rows[item], 0.0
        for sign, rules in ((1, self.rules.boost), (-1, self.rules.bury)):
            for rule in rules:
                if "price" in rule.when:
                    meets = row["price"] is not None and row["price"] <= rule.when["price"].max  # type: ignore[operator,union-attr]
                else:
                    meets = bool(set(row["categories"] or ()) & set(rule.when["categories"]))  # type: ignore[arg-type]
                total += sign * rule.amount * meets
        if self.rules.freshness is not None and row["released"] is not None:
            days = max(0.0, now() - row["released"].timestamp()) / 86_400
            total += self.rules.freshness.amount * 0.5 ** (days / self.rules.freshness.half_life_days)
        return total

    def may(self, item: str) -> bool:
        """Whether it is in stock."""
        return not self.rules.stock or (self.rows[item]["stock"] or 0) > 0

    def answer(self) -> list[str]:
        """The list."""
        shown = [item for item in self.scores if self.may(item)]
        pins = {pin.place: pin.item_id for pin in self.rules.pin if pin.item_id in shown}
        ranking = sorted(shown, key=lambda item: -(self.scores[item] + self.unit * self.value(item)))
        found: list[str] = []
        while len(found) < self.request.offset + self.request.n:
            place = len(found) + 1
            rest = [pins[place]] if place in pins else [
                item for item in ranking
                if item not in found and item not in pins.values()
                and not any(self.is_full(item, cap, found, pins) for cap in self.rules.cap
                            if not cap.within or place <= cap.within)
            ]  # fmt: skip
            if not rest:
                found += [item for p, item in sorted(pins.items()) if p > place]
                break
            found.append(rest[0])
        return found[self.request.offset : self.request.offset + self.request.n]

    def is_full(self, item: str, cap: Cap, found: list[str], pins: dict[int, str]) -> bool:
        """Whether the list has enough of its values."""
        there = [i for p, i in pins.items() if not cap.within or p <= cap.within]
        there += [i for i in found if i not in pins.values()]

        def values(i: str) -> set[str]:
            value = self.rows[i][cap.column]
            return set(value if isinstance(value, list) else [value] if value is not None else [])

        return any(sum(v in values(i) for i in there) >= cap.most for v in values(item))


AMOUNTS = st.sampled_from([0.1, 0.5, 1.0, 3.0, 20.0])
CATEGORIES = ["Coffee & Tea", "Kitchen", "Cycling", "Camping & Hiking", "Musical Instruments"]
CONDITIONS = st.fixed_dictionaries({"price": st.fixed_dictionaries({"max": st.integers(5, 200)})}) | st.fixed_dictionaries(  # noqa: E501
    {"categories": st.lists(st.sampled_from(CATEGORIES), min_size=1, max_size=3)}
)  # fmt: skip


def named(letter: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    one = st.fixed_dictionaries({"when": CONDITIONS, "amount": AMOUNTS})
    return st.lists(one, max_size=2).map(lambda rs: [{**r, "name": f"{letter}{k}"} for k, r in enumerate(rs)])


PINS = st.lists(
    st.tuples(st.integers(0, N_ITEMS - 1), st.integers(1, 40)), max_size=3,
    unique_by=(lambda p: p[0], lambda p: p[1]),
).map(lambda pins: [{"item_id": f"item-{row:06d}", "place": place} for row, place in pins])  # fmt: skip
CAPS = st.lists(
    st.fixed_dictionaries({
        "column": st.sampled_from(["brand", "categories"]), "most": st.integers(1, 4),
        "within": st.sampled_from([0, 0, 5, 20]),
    }), max_size=2, unique_by=lambda cap: (cap["column"], cap["within"]),
)  # fmt: skip
FRESH = st.none() | st.fixed_dictionaries(
    {"column": st.just("released"), "half_life_days": st.sampled_from([1.0, 30.0]), "amount": AMOUNTS}
)
RULES = st.fixed_dictionaries({
    "boost": named("a"), "bury": named("b"), "pin": PINS, "cap": CAPS, "freshness": FRESH,
    "stock": st.sampled_from(["", "", "stock"]),
})  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(
    RULES, st.sampled_from(ASKED), st.integers(1, EVERYTHING), st.integers(0, 30), st.booleans(),
    st.sampled_from([{}, {"price": {"min": 20}}]),
)  # fmt: skip
def test_lists_are_those_of_ranking_every_item(
    model: Recommender, raw: dict[str, Any], asked: dict[str, Any], n: int, offset: int,
    is_approximate: bool, condition: dict[str, Any],
) -> None:  # fmt: skip
    request = Request(**asked, n=n, offset=offset, filter=condition, explain=True)
    if is_approximate:  # so few items that none can be missed
        model = with_index(model)
    answer = under(model, **raw).recommend(request)
    slow = Slowly(model, request, RulesConfig.model_validate(raw))
    expected = slow.answer()
    total = {i.item_id: i.score for i in answer}
    size = max([slow.unit, *map(abs, slow.scores.values())])
    for item in answer:
        by_hand = slow.scores[item.item_id] + slow.unit * slow.value(item.item_id)
        assert item.score == pytest.approx(by_hand, abs=1e-5 * size, rel=1e-5)
        assert sum((item.parts or {}).values()) == pytest.approx(item.score, abs=1e-5 * size, rel=1e-5)
    if ids(answer) != expected:  # but for scores that rounding alone tells apart
        assert len(answer) == len(expected)
        differ = [pair for pair in zip(ids(answer), expected, strict=True) if pair[0] != pair[1]]
        for mine, theirs in differ:
            other = total.get(theirs, slow.scores[theirs] + slow.unit * slow.value(theirs))
            assert total[mine] == pytest.approx(other, abs=1e-5 * size, rel=1e-5)


def with_index(model: Recommender) -> Recommender:
    found = copy.copy(model)
    own = model.catalogue.bundle
    found.catalogue = Catalogue.of(own, ApproximateRanker(own.vectors, build_index(own.vectors, 1)))
    return found


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("diversity", [0.0, 0.4])
def test_pages_are_parts_of_one_list(model: Recommender, asked: dict[str, Any], diversity: float) -> None:
    ruled = under(model, **FULL)
    whole = ruled.recommend(Request(**asked, n=40, diversity=diversity))
    pages = [ruled.recommend(Request(**asked, n=8, offset=k, diversity=diversity)) for k in range(0, 40, 8)]
    assert ids([item for page in pages for item in page]) == ids(whole)
    assert (whole[1].item_id, whole[29].item_id) == ("item-000060", "item-000061")
    of = {row["item_id"]: row for row in model.catalogue.bundle.table.to_pylist()}
    first = [value for i in ids(whole)[:10] for value in set(of[i]["categories"])]
    assert max(first.count(value) for value in first) <= 3
    assert all(of[i]["stock"] > 0 for i in ids(whole))


@pytest.mark.parametrize("asked", ASKED)
def test_parts_add_up_and_name_the_rules(model: Recommender, asked: dict[str, Any]) -> None:
    plain = {i.item_id: i for i in model.recommend(Request(**asked, n=EVERYTHING, explain=True))}
    ruled = under(model, **FULL).recommend(Request(**asked, n=EVERYTHING, explain=True))
    seen: set[str] = set()
    for item in ruled:
        parts = dict(item.parts or {})
        assert sum(parts.values()) == pytest.approx(item.score, abs=1e-5, rel=1e-6)
        of_rules = {name: parts.pop(name) for name in list(parts) if name.startswith("rule: ")}
        assert parts == plain[item.item_id].parts, "rules leave the model's own parts as they are"
        assert ("rule: pin" in of_rules) is (item.item_id in ("item-000060", "item-000061"))
        assert of_rules.get("rule: pin", 0.0) == 0.0
        assert item.source == plain[item.item_id].source
        seen |= of_rules.keys()
    assert seen == {"rule: cheap", "rule: kitchen", "rule: freshness", "rule: pin"}


def test_what_an_item_has_for_everybody_is_split_exactly(model: Recommender, shop: Shop) -> None:
    items = model.recommend(Request(query="tea", n=EVERYTHING, explain=True))
    cold = set(shop.cold_ids)
    for item in items:
        assert ("what others did" in (item.parts or {})) is (item.item_id not in cold)
    catalogue, maps = model.catalogue, model._maps
    rows = catalogue.rows_of(shop.cold_ids)
    direction = catalogue.profiles(rows) / np.linalg.norm(catalogue.profiles(rows), axis=1, keepdims=True)
    by_text = np.concatenate([direction, np.ones((len(rows), 1))], axis=1) @ maps["item_map"]
    np.testing.assert_allclose(
        catalogue.factors(rows), by_text, atol=1e-5
    )  # of a cold item it is all there is


def test_pins_stay_away_where_they_may_not_be_shown(model: Recommender) -> None:
    def first(pin: str, **asked: object) -> str:
        ruled = under(model, pin=[{"item_id": pin, "place": 1}], stock="stock")
        return ids(ruled.recommend(Request(query="tea", **asked)))[0]

    assert first("item-000060") == "item-000060"
    assert first("item-000060", exclude_ids=["item-000060"]) != "item-000060"
    assert first("item-000060", events=[Event("item-000060", "click")]) != "item-000060"
    assert first("item-000050") != "item-000050", "hidden"
    assert first("item-000063") != "item-000063", "not in stock"
    assert first("item-000060", filter={"stock": {"max": 50}}) != "item-000060"


def test_what_was_seen(model: Recommender, shop: Shop) -> None:
    events = [Event("item-000060", "click"), Event("item-000061", "purchase"), Event("item-000062")]
    request = Request(user_id=USER, events=events, n=EVERYTHING)
    hidden = {shop.item_ids[row] for row in HIDDEN}
    given, history = {event.item_id for event in events}, set(shop.history[USER])

    def seen(**raw: object) -> set[str]:
        return (given | history) - set(ids(under(model, **raw).recommend(request))) - hidden

    shown_history = history - hidden
    assert seen() == given | shown_history
    assert seen(hide_seen=False) == set()
    assert seen(hide_events=["purchase"]) == {"item-000061", "item-000062"} | shown_history
    views = copy.copy(model)
    views.users = copy.copy(model.users)
    n_pairs = len(model.users.arrays["indices"])
    bit = kind_bits(model.config.data.event_weights)["view"]
    views.users.arrays = model.users.arrays | {"kinds": np.full(n_pairs, bit)}
    bought = set(ids(under(views, hide_events=["purchase"]).recommend(request)))
    assert history - hidden - {"item-000061", "item-000062"} <= bought, "they have only looked at these"
    assert not bought & {"item-000061", "item-000062"}
    assert not (history & set(ids(under(views).recommend(request))))
    scores = {i.item_id: i.score for i in model.recommend(request)}
    free = {i.item_id: i.score for i in under(model, hide_seen=False).recommend(request)}
    assert scores.items() <= free.items(), "what is shown changes, not what is known"


def test_similar_items_are_in_stock(model: Recommender) -> None:
    ruled = under(model, stock="stock", pin=[{"item_id": "item-000060", "place": 1}])
    found = [item for item, _ in ruled.similar("item-000000", EVERYTHING)]
    assert found == [item for item, _ in model.similar("item-000000", EVERYTHING)
                     if int(item[-6:]) % 7 and int(item[-6:]) > 0]  # fmt: skip


def test_rules_follow_items_that_come_and_change(model: Recommender) -> None:
    ruled = under(model, boost=[{"name": "top", "when": {"brand": "新牌"}, "amount": 50}], stock="stock",
                  cap=[{"column": "brand", "most": 1}], pin=[{"item_id": "new", "place": 3}])  # fmt: skip
    own = model.catalogue.bundle
    late = own.table.slice(60, 3)
    for name, values in {
        "item_id": ["item-000060", "new", "none left"], "brand": ["新牌", None, "新牌"], "stock": [5, 6, 0],
    }.items():  # fmt: skip
        late = late.set_column(
            late.column_names.index(name), name, pa.array(values, late.schema.field(name).type)
        )
    some = slice(60, 63)
    items = Items(late, own.factors[some], own.profiles[some], own.vectors[some], own.popularity[some])
    ruled = ruled.with_late(items)
    for asked in ASKED:
        found = ids(ruled.recommend(Request(**asked)))
        assert found[0] == "item-000060"
        assert found[2] == "new"
        assert "none left" not in found
    for request in (Request(query="tea", n=50), Request(n=50)):
        for item in ruled.recommend(Request(**{**vars(request), "explain": True})):
            assert sum((item.parts or {}).values()) == pytest.approx(item.score, abs=1e-4)


def test_without_rules_for_a_request(model: Recommender, tmp_path: Path) -> None:
    ruled = under(model, **FULL)
    plain = Request(query="tea", n=20)
    assert ruled.recommend(Request(query="tea", n=20, rules=False)) == model.recommend(plain)
    assert ids(ruled.recommend(plain)) != ids(model.recommend(plain))
    some = model.catalogue.ids[:40]
    with TestClient(create_app(lambda: ruled, file_store(tmp_path), CONFIG.serve)) as client:

        def post(route: str, body: dict[str, Any]) -> list[dict[str, Any]]:
            return list(client.post(f"/v1/{route}", json={"query": "tea", **body}).json()["items"])

        assert post("recommend", {})[1]["item_id"] == "item-000060"
        assert post("recommend", {"rules": False})[1]["item_id"] != "item-000060"
        by_score, by_rules = post("rank", {"item_ids": some}), post("rank", {"item_ids": some, "rules": True})
        expected = model.recommend(Request(query="tea", among=some, n=40))
        assert [i["item_id"] for i in by_score] == ids(expected)
        assert [i["item_id"] for i in by_rules] != [i["item_id"] for i in by_score]
        assert {i["item_id"] for i in by_rules} == set(some), "those and no others, in stock or not"
        to_user = client.get("/v1/recommend/nobody", params={"rules": False}).json()["items"]
        assert [i["item_id"] for i in to_user] == ids(model.recommend(Request()))


def test_rules_are_of_the_version_or_of_the_service(out: Path, encoder: Encoder) -> None:
    paths = BundlePaths(Layout(out).bundle("v1"))
    ours = RulesConfig.model_validate({"pin": [{"item_id": "item-000060", "place": 1}]})
    write_text(paths.config, to_toml(CONFIG.model_copy(update={"rules": ours})))
    write_manifest(paths, "v1", {"encoder": read_json(paths.manifest)["encoder"]})
    check_against(paths, None)
    request = Request(query="tea")
    assert ids(Recommender(paths.root, encoder).recommend(request))[0] == "item-000060"
    other = RulesConfig.model_validate({"pin": [{"item_id": "item-000061", "place": 1}]})
    assert ids(Recommender(paths.root, encoder, rules=other).recommend(request))[0] == "item-000061"
    none = Recommender(paths.root, encoder, rules=RulesConfig()).recommend(request)
    assert ids(none)[0] not in ("item-000060", "item-000061")
    bad = RulesConfig(stock="warehouse")
    for load in (
        lambda: Recommender(paths.root, encoder, rules=bad),
        lambda: check_against(paths, bad),
    ):
        with pytest.raises(ConfigError, match=r"rules.stock: no column 'warehouse'; the items have item_id"):
            load()


def test_gone_pins_are_named_in_the_log(model: Recommender, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        ruled = under(model, pin=[{"item_id": "gone", "place": 1}])
    assert caplog.text.count("gone") == 1
    caplog.clear()
    assert ids(ruled.with_late(None).recommend(Request(query="tea")))
    assert not caplog.text, "not told again with every item that comes"
    assert ids(ruled.recommend(Request(query="tea"))) == ids(model.recommend(Request(query="tea")))
