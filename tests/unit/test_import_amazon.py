"""Amazon Reviews 2023 from small files of exactly its formats, all of them made up."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.validation import print_validation
from pipelines.core.config import load_config
from pipelines.core.errors import InputError
from pipelines.core.importers import amazon, lines
from pipelines.core.importers.amazon import CONFIG, find_sources, import_amazon, latest
from pipelines.core.importers.amazon_files import item, price, review
from pipelines.core.importers.running import Imported, Made, run_import
from pipelines.core.importers.staging import Staging
from pipelines.progress import Progress

BARS = Progress(quiet=True).bar


def meta(asin: str, **other: object) -> dict[str, object]:
    """An item with every field that is published."""
    return {
        "main_category": "All Beauty", "title": f"Soap {asin}", "average_rating": 4.8, "rating_number": 10,
        "features": ["Mild", "No scent"], "description": ["A bar of soap.", "Made of olive oil."], "price": None,
        "images": [
            {"thumb": "https://m/t.jpg", "large": "https://m/l.jpg", "variant": "MAIN", "hi_res": None},
        ],
        "videos": [], "store": "Howard", "categories": ["Beauty & Personal Care", "Bath"],
        "details": {"Brand": "Olive & Co", "Item Form": "Bar"}, "parent_asin": asin, "bought_together": None, **other,
    }  # fmt: skip


def said(user: str, asin: str, stars: float, ms: int, **other: object) -> dict[str, object]:
    """A review with every field that is published."""
    return {
        "rating": stars, "title": "Such a lovely scent", "text": "I use it daily.\nWould buy again.", "images": [],
        "asin": f"{asin}V", "parent_asin": asin, "user_id": user, "timestamp": ms, "helpful_vote": 0,
        "verified_purchase": True, **other,
    }  # fmt: skip


def write_lines(path: Path, records: list[dict[str, object]]) -> Path:
    raw = "".join(json.dumps(r) + "\n" for r in records).encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "amazon"
    source.mkdir()
    write_lines(
        source / "meta_All_Beauty.jsonl.gz", [meta("B01"), meta("B02", price=12.5), meta("B03"), meta("B02")]
    )
    write_lines(
        source / "All_Beauty.jsonl.gz",
        [
            said("AE1", "B01", 5.0, 1588687728923),
            said("AE1", "B02", 2.0, 1588687728000),
            said("AE2", "B02", 4.0, 1500000000000),
            said("AE2", "B99", 5.0, 1500000000001),
            said("AE1", "B01", 3.0, 1400000000000),
        ],
    )
    return source


def imported(sources: list[Path], to: Path, *, rated_only: bool = False) -> Imported:
    def make(work: Staging) -> Made:
        return Made(import_amazon(find_sources(sources), work, BARS, rated_only=rated_only), CONFIG)

    return run_import(
        "amazon-reviews-2023", {str(s): s for s in sources}, to, {"rated": rated_only}, make, overwrite=False
    )


def interactions(folder: Path) -> list[dict[str, object]]:
    table = pq.read_table(folder / "interactions").sort_by(
        [("user_id", "ascending"), ("item_id", "ascending")]
    )
    return list(table.to_pylist())


def test_reviews_and_items(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = imported([folder], tmp_path / "to")
    assert interactions(tmp_path / "to") == [
        {"user_id": "AE1", "item_id": "B01", "weight": 5.0, "timestamp": 1588687728.923},
        {"user_id": "AE1", "item_id": "B02", "weight": 2.0, "timestamp": 1588687728.0},
        {"user_id": "AE2", "item_id": "B02", "weight": 4.0, "timestamp": 1500000000.0},
    ]
    items = pq.read_table(tmp_path / "to" / "items.parquet").to_pylist()
    assert [i["item_id"] for i in items] == ["B01", "B02", "B03"]
    assert items[0] == {
        "item_id": "B01", "title": "Soap B01", "brand": "Olive & Co", "categories": ["Beauty & Personal Care", "Bath"],
        "description": "A bar of soap. Made of olive oil. Mild No scent", "main_category": "All Beauty",
        "store": "Howard", "price": None, "average_rating": 4.8, "rating_number": 10, "image_url": "https://m/l.jpg",
    }  # fmt: skip
    assert done.record["rows"]["reviews"]["left_out"] == {
        "of items without metadata": 1,
        "of an item that the same user reviewed later": 1,
    }
    assert done.record["rows"]["items"]["left_out"] == {"of an item that was there already": 1}
    assert print_validation(str(done.destination), load_config(done.config)), capsys.readouterr().out


def test_ratings_alone_with_and_without_history(folder: Path, tmp_path: Path) -> None:
    header = "user_id,parent_asin,rating,timestamp"
    rows = ["AE1,B01,5.0,1588687728923", "AE2,B02,4.0,1500000000000", "AE3,B03,1.0,1500000000002"]
    long = " ".join(["B01"] * 50_000)
    (folder / "All_Beauty.csv").write_text("\n".join([header, *rows]) + "\n")
    (folder / "All_Beauty.test.csv").write_text(f"{header},history\n{rows[0]},\n{rows[1]},{long}\n")
    packed = folder / "All_Beauty.train.csv.gz"
    packed.write_bytes(gzip.compress(f"{header},history\n{rows[2]},B01 B02\n".encode()))
    metas = folder / "meta_All_Beauty.jsonl.gz"
    whole = imported([metas, folder / "All_Beauty.csv"], tmp_path / "whole")
    split = imported([metas, folder / "All_Beauty.test.csv", packed], tmp_path / "split")
    assert interactions(whole.destination) == interactions(split.destination)
    assert [r["item_id"] for r in interactions(whole.destination)] == ["B01", "B02", "B03"]


def test_many_buckets_say_the_same(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people = [said(f"A{n % 37}", f"B0{n % 3 + 1}", 1.0 + n % 5, 1500000000000 + n) for n in range(500)]
    write_lines(folder / "All_Beauty.jsonl.gz", people)
    imported([folder], tmp_path / "one")
    monkeypatch.setattr(amazon, "_BYTES_PER_BUCKET", 100)
    monkeypatch.setattr(amazon, "_MAX_BUCKETS", 7)
    monkeypatch.setattr(amazon, "_LOT", 64)
    imported([folder], tmp_path / "many")
    assert len(list((tmp_path / "many" / "interactions").iterdir())) == 7
    assert interactions(tmp_path / "many") == interactions(tmp_path / "one")
    naive = {(p["user_id"], p["parent_asin"]): p["rating"] for p in people}
    assert {(r["user_id"], r["item_id"]): r["weight"] for r in interactions(tmp_path / "one")} == naive


def test_only_what_was_rated(folder: Path, tmp_path: Path) -> None:
    done = imported([folder], tmp_path / "to", rated_only=True)
    assert pq.read_table(tmp_path / "to" / "items.parquet").column("item_id").to_pylist() == ["B01", "B02"]
    assert done.record["rows"]["items"]["left_out"]["that nobody has rated"] == 1


def test_of_equal_moments_the_last_counts() -> None:
    table = pa.table(
        {"user_id": ["u", "u"], "item_id": ["a", "a"], "weight": [1.0, 5.0], "timestamp": [7.0, 7.0]}
    )
    assert latest(table).column("weight").to_pylist() == [5.0]
    assert latest(table.slice(0, 0)).num_rows == 0


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (None, None), (12.5, 12.5), (0, 0.0), ("$1,299.00", 1299.0), ("from 14.99", 14.99), ("10.99 - 20.99", 10.99),
        ("—", None), ("None", None), ("", None), (float("nan"), None), (True, None),
    ],
)  # fmt: skip
def test_prices(written: object, meant: float | None) -> None:
    assert price(written) == meant


def test_items_of_the_other_editions() -> None:
    other = meta(
        "B07", details='{"Brand": "Olive & Co"}', images={"hi_res": [None], "large": ["https://m/l.jpg"]},
        subtitle="Paperback – January 1, 2001", description=None, features=None, categories=None, store=None,
        title=None, price="None",
    )  # fmt: skip
    columns = item(other)
    assert isinstance(columns, dict)
    assert (columns["brand"], columns["image_url"], columns["price"]) == (
        "Olive & Co",
        "https://m/l.jpg",
        None,
    )
    assert (columns["title"], columns["description"]) == ("Paperback – January 1, 2001", None)
    assert columns["categories"] == []
    assert item(meta("B08", details="{cut")) != "parent_asin is missing"
    assert item({"title": "x"}) == "parent_asin is missing"


def test_reviews_of_the_website_name_their_time_otherwise() -> None:
    record = said("AE1", "B01", 4.0, 0)
    del record["timestamp"]
    assert review({**record, "sort_timestamp": 1634275259292}) == {
        "user_id": "AE1", "item_id": "B01", "weight": 4.0, "timestamp": 1634275259.292,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"user_id": None}, "user_id is missing"),
        ({"parent_asin": "", "asin": None}, "parent_asin is missing"),
        ({"rating": "five"}, "rating or timestamp is no number"),
        ({"rating": float("nan")}, "rating is not 1 to 5"),
        ({"rating": 0}, "rating is not 1 to 5"),
        ({"timestamp": None}, "rating or timestamp is no number"),
        ({"timestamp": -5}, "timestamp is no number of milliseconds"),
    ],
)
def test_reviews_that_make_no_sense(changed: dict[str, object], why: str) -> None:
    assert review({**said("AE1", "B01", 4.0, 1500000000000), **changed}) == why


def test_bad_lines_are_counted_and_named(folder: Path, tmp_path: Path) -> None:
    good = [json.dumps(said(f"A{n}", "B01", 4.0, 1500000000000)) for n in range(100)]
    (folder / "All_Beauty.jsonl.gz").unlink()
    path = folder / "All_Beauty.jsonl"
    path.write_text("\n".join([*good, '{"rating": 5.0, "user_id', "", "[1]"]) + "\n")
    told = imported([folder], tmp_path / "to").record["rows"]["reviews"]
    assert (told["read"], told["kept"], told["bad"]) == (102, 100, {"the line is no JSON object": 2})
    assert "All_Beauty.jsonl line 101" in told["examples"]["the line is no JSON object"]


def cut_short(folder: Path) -> None:
    path = folder / "All_Beauty.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-20])


def damage(folder: Path) -> None:
    path = folder / "All_Beauty.jsonl.gz"
    raw = bytearray(path.read_bytes())
    raw[-8] ^= 0xFF  # the checksum at the end
    path.write_bytes(bytes(raw))


def remove(name: str, folder: Path) -> None:
    (folder / name).unlink()


def other_keys(folder: Path) -> None:
    write_lines(folder / "All_Beauty.jsonl.gz", [{"reviewerID": "A", "asin": "B", "overall": 5}])


def other_header(folder: Path) -> None:
    (folder / "x.csv").write_text("user,item\n")


def nonsense(folder: Path) -> None:
    write_lines(folder / "All_Beauty.jsonl.gz", [said("A", "B01", 9, 1)] * 3)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut_short, "ends in the middle: it did not come whole"),
        (damage, "cannot be unpacked"),
        (partial(remove, "meta_All_Beauty.jsonl.gz"), "no items among the sources: All_Beauty.jsonl.gz"),
        (partial(remove, "All_Beauty.jsonl.gz"), "no reviews among the sources"),
        (other_keys, "its first line has asin, overall, reviewerID"),
        (other_header, "begins with user,item, expected user_id,parent_asin"),
        (nonsense, r"3 of 3 reviews cannot be understood.*rating is not 1 to 5"),
    ],
)
def test_what_stops_an_import_leaves_nothing(
    spoil: Callable[[Path], None], message: str, folder: Path, tmp_path: Path
) -> None:
    spoil(folder)
    with pytest.raises(InputError, match=message):
        imported([folder], tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_a_line_that_never_ends(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE", 1000)
    write_lines(folder / "All_Beauty.jsonl.gz", [said("A", "B01", 4.0, 1, text="x" * 2000)])
    with pytest.raises(InputError, match="a line of more than 1000 bytes"):
        imported([folder], tmp_path / "to")
