"""Rules looked up in a catalogue: what they find, what they refuse, what they add."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.core.errors import ConfigError
from pipelines.core.rules import Rules, Spread, check_rules
from pipelines.core.sections.rules import RulesConfig

DAY = 86_400.0
NOW = datetime(2026, 5, 31, tzinfo=UTC).timestamp()
ITEMS = pa.table(
    {
        "item_id": ["a", "b", "c", "d"],
        "brand": ["Acme", "Böse", None, "Acme"],
        "price": pa.array([1.0, 2.0, 3.0, None]),
        "left": pa.array([2, 0, None, 1]),
        "size": [{"w": 1}] * 4,
        "day": pa.array([date(2026, 5, 31), date(2026, 5, 21), None, date(2027, 1, 1)]),
    }
)


def rules(items: pa.Table = ITEMS, now: float = NOW, **raw: object) -> Rules:
    config = RulesConfig.model_validate(raw)
    check_rules(config, items.schema, ["click", "purchase"])
    ids = items.column("item_id").to_pylist()
    return Rules(
        config, items, ["click", "purchase"], lambda i: ids.index(i) if i in ids else None, lambda: now
    )


def test_boosts_add_up_and_are_told_apart() -> None:
    found = rules(
        boost=[
            {"name": "ours", "when": {"brand": "Acme"}, "amount": 0.5},
            {"name": "两", "when": {"brand": ["Acme", "Böse"], "price": {"max": 2}}, "amount": 2.0},
        ],
        bury=[{"name": "dear", "when": {"price": {"min": 2}}, "amount": 1}],
    ).raised()
    assert found is not None
    assert found.additions.values.tolist() == [2.5, 1.0, -1.0, 0.5]
    assert found.shares(0, 3.0) == {"rule: ours": 1.5, "rule: 两": 6.0}
    assert found.shares(1, 3.0) == {"rule: 两": 6.0, "rule: dear": -3.0}


@pytest.mark.parametrize(
    "column",
    [
        ITEMS.column("day"),
        ITEMS.column("day").cast(pa.timestamp("us")),
        pa.array([NOW, NOW - 10 * DAY, None, NOW + 300 * DAY]),
        pa.array(["2026-05-31T00:00:00Z", "2026-05-21", "", "2027-01-01"]),
    ],
)
def test_freshness_halves(column: pa.ChunkedArray) -> None:
    items = ITEMS.append_column("born", column)
    found = rules(items, freshness={"column": "born", "half_life_days": 10, "amount": 0.8}).raised()
    assert found is not None
    assert found.additions.values == pytest.approx([0.8, 0.4, 0.0, 0.8], abs=1e-6)
    later = rules(
        items, NOW + 20 * DAY, freshness={"column": "born", "half_life_days": 10, "amount": 0.8}
    ).raised()
    assert later is not None
    assert later.additions.values == pytest.approx([0.2, 0.1, 0.0, 0.8], abs=1e-6)


def test_freshness_moves_with_the_clock() -> None:
    config = RulesConfig.model_validate({"freshness": {"column": "day", "half_life_days": 1}})
    now = [NOW]
    made = Rules(config, ITEMS, [], lambda _: None, lambda: now[0])
    first = made.raised()
    now[0] += 30
    assert made.raised() is first, "within a minute nothing moves, so that pages are parts of one list"
    now[0] += 60
    assert made.raised() is not first


@pytest.mark.parametrize(
    "column", [pa.array(["soon", "2026-05-31", None, "x"]), pa.array([NOW * 1000, NOW, 0, None])]
)
def test_what_is_no_date_is_told_and_adds_nothing(column: pa.Array) -> None:
    made = rules(ITEMS.append_column("born", column), freshness={"column": "born", "amount": 1})
    found = made.raised()
    assert found is not None
    assert found.additions.values[0] == 0.0
    assert found.additions.values[1] == pytest.approx(1.0)
    (remark,) = made.remarks
    assert re.match(r"rules.freshness: [12] items have no date in 'born', the first '(soon|178)", remark)


def test_stock() -> None:
    assert rules(stock="left").may_show.tolist() == [True, False, False, True]  # type: ignore[union-attr]
    flags = ITEMS.append_column("there", pa.array([True, False, None, True]))
    assert rules(flags, stock="there").may_show.tolist() == [True, False, False, True]  # type: ignore[union-attr]
    assert rules().may_show is None
    assert rules().raised() is None


def test_pins_of_items_that_are_gone_are_told_and_left_out() -> None:
    found = rules(pin=[{"item_id": "gone", "place": 1}, {"item_id": "d", "place": 3}])
    assert found.pins == {3: 3}
    assert found.remarks == ["rules.pin: not in this catalogue, left out: gone"]


def test_which_events_hide() -> None:
    def hidden(made: Rules) -> list[bool]:
        return [made.hides(kind) for kind in ("click", "purchase", None)]

    assert hidden(rules()) == [True, True, True]
    assert hidden(rules(hide_events=["purchase"])) == [False, True, True]
    assert hidden(rules(hide_seen=False)) == [False, False, False]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (
            {"boost": [{"name": "x", "when": {"colour": "red"}, "amount": 1}]},
            ["rules.boost 'x'", "no column 'colour'", "item_id, brand, price"],
        ),
        (
            {"bury": [{"name": "x", "when": {"price": "dear"}, "amount": 1}]},
            ["rules.bury 'x'", "'dear' cannot be compared with column 'price' of double"],
        ),
        (
            {"bury": [{"name": "x", "when": {"brand": {"min": 1}}, "amount": 1}]},
            ["rules.bury 'x'", "'brand'"],
        ),
        ({"cap": [{"column": "maker", "most": 1}]}, ["rules.cap: no column 'maker'", "item_id, brand"]),
        ({"cap": [{"column": "size", "most": 1}]}, ["rules.cap", "'size' is a struct"]),
        ({"stock": "there"}, ["rules.stock: no column 'there'"]),
        ({"stock": "brand"}, ["rules.stock: column 'brand' is a string; expected true/false or numbers"]),
        ({"freshness": {}}, ["rules.freshness: no column 'created_at'"]),
        ({"freshness": {"column": "size"}}, ["rules.freshness", "'size' is a struct"]),
        ({"hide_events": ["smell"]}, ["rules.hide_events: 'smell' is no event", "click, purchase"]),
    ],
)
def test_rules_that_do_not_fit_are_refused_by_the_columns_alone(
    raw: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_rules(RulesConfig.model_validate(raw), ITEMS.schema, ["click", "purchase"])
    for word in words:
        assert word in str(caught.value)


def test_the_unit_is_the_deviation_of_the_scores() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.standard_normal((500, 9)) + 3.0).astype(np.float32)
    user = rng.standard_normal(9).astype(np.float32)
    assert Spread(vectors).of(user) == pytest.approx((vectors @ user).std(), rel=1e-5)
    assert Spread(vectors).of(np.zeros(9, np.float32)) == 0.0
    assert Spread(vectors[:0]).of(user) == 0.0
