"""Somebody's own files: columns found or refused, encodings, moments, ids alike on both sides, settings that fit."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.importing import options_of
from jobs.validation import print_validation
from pipelines.core.config import Config, load_config
from pipelines.core.errors import ConfigError, InputError
from pipelines.core.importers.encodings import detect
from pipelines.core.importers.generic import Options, import_generic
from pipelines.core.importers.guess import guess_columns
from pipelines.core.importers.moments import seconds_of
from pipelines.core.importers.running import Imported, Made, run_import
from pipelines.core.importers.scales import event_weights, rating_threshold
from pipelines.core.importers.staging import Staging
from pipelines.core.schema import TableName
from pipelines.core.storage import part_paths
from pipelines.progress import Progress

BARS = Progress(quiet=True).bar

PRODUCTS = (
    "sku,name,desc,price\nA-1,Olive soap,A bar of soap,3.5\nA-2,Clay cup,Holds tea,7\nA-3,Pot,Holds soup,20\n"
)
RATINGS = "customer,sku,stars,date\nu1,A-1,5,2024-01-31\nu2,A-2,4,2024-02-01\nu1,A-3,2,2024-02-02\n"


def imported(tmp_path: Path, options: Options | None = None, **sources: Path) -> Imported:
    paths: dict[TableName, Path] = sources  # type: ignore[assignment]

    def make(work: Staging) -> Made:
        return Made(*import_generic(paths, options or Options(), work, BARS))

    found = {str(p): p for p in paths.values()}
    return run_import("generic", found, tmp_path / "to", {"options": options}, make, overwrite=True)


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows(done: Imported, table: str) -> list[dict[str, object]]:
    return list(pq.read_table(done.destination / table).to_pylist())


def test_names_tell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = imported(
        tmp_path, items=written(tmp_path, "p.csv", PRODUCTS), interactions=written(tmp_path, "r.csv", RATINGS)
    )
    assert rows(done, "items")[0] == {
        "item_id": "A-1", "title": "Olive soap", "description": "A bar of soap", "price": 3.5,
    }  # fmt: skip
    assert rows(done, "interactions")[0] == {
        "user_id": "u1", "item_id": "A-1", "weight": "5", "timestamp": 1706659200.0,
    }  # fmt: skip
    assert "items: item_id = 'sku' (by its name), title = 'name' (by its name)" in done.record["remarks"][0]
    config = load_config(done.config)
    assert config.data.like_threshold == 4.0
    assert print_validation(str(done.destination), config), capsys.readouterr().out


def test_contents_tell_where_names_do_not(tmp_path: Path) -> None:
    items = pd.DataFrame(
        {"kode": range(100, 130), "was": [f"Gute Tasse Nummer {n}" for n in range(30)], "typ": ["x"] * 30}
    )
    clicks = pd.DataFrame({"uid": [1, 2] * 30, "ziel": [100 + n % 30 for n in range(60)], "anzahl": [1] * 60})
    items.to_parquet(tmp_path / "i.parquet")
    clicks.to_parquet(tmp_path / "c.parquet")
    done = imported(tmp_path, items=tmp_path / "i.parquet", interactions=tmp_path / "c.parquet")
    assert done.record["remarks"][:2] == [
        "items: item_id = 'kode' (by the ids in it), title = 'was' (the only one with prose in it)",
        "interactions: user_id = 'uid' (by its name), item_id = 'ziel' (by the ids in it)",
    ]
    assert rows(done, "items")[0] == {"item_id": "100", "title": "Gute Tasse Nummer 0", "typ": "x"}
    assert load_config(done.config) == Config()


@pytest.mark.parametrize(
    ("items", "interactions", "message"),
    [
        (
            "sku,asin,name\n1,2,a b\n3,4,c d\n",
            "user,item\nu,1\n",
            r"item_id may be 'sku' or 'asin'. Say which it is with --col",
        ),
        (
            "a,b,name\n1,2,a b\n3,4,c d\n",
            "user,item\nu,1\n",
            "item_id may be 'a' or 'b', whose values are all different",
        ),
        (
            "id,x,y\n1,red cup,blue pot\n2,old tin,new pan\n",
            "user,item\nu,1\n",
            "items: title may be 'x' or 'y'",
        ),
        (
            "id,name\n1,red cup\n",
            "user,item,date,time\nu,1,2,3\n",
            r"timestamp may be 'date' or 'time'.*timestamp= if it is none",
        ),
        (
            "id,name\n1,red cup\n",
            "who,item\nu,1\n",
            "no column looks like user_id; the table has who, item. Say which",
        ),
        ("id,name\n1,red cup\n", "9,1\nu,1\n8,1\n", "no column looks like user_id"),
        ("id,name\n1,red cup\n", "9,1\n8,1\n", "its first line is '9,1', which looks like data"),
        ("id;name,x\n1;red cup,2\n", "user,item\nu,1\n", "may be ',' or ';'"),
    ],
)
def test_what_is_ambiguous_is_an_error_that_names_the_candidates(
    items: str, interactions: str, message: str, tmp_path: Path
) -> None:
    if message == "no column looks like user_id":
        interactions = "who,item\nu,1\n"
    sources = {
        "items": written(tmp_path, "i.csv", items),
        "interactions": written(tmp_path, "c.csv", interactions),
    }
    with pytest.raises(InputError, match=message):
        imported(tmp_path, **sources)
    assert not (tmp_path / "to").exists()


def test_what_the_caller_says_decides(tmp_path: Path) -> None:
    items = written(tmp_path, "i.csv", "sku;asin;name\n1;2;a b\n3;4;c d\n")
    clicks = written(tmp_path, "c.csv", "user;item;date;time\nu;2;31.12.2024;x\nv;4;01.01.2025;y\n")
    said = ["items.item_id=asin", "interactions.timestamp=date"]
    done = imported(tmp_path, options_of(said, None, None, "%d.%m.%Y"), items=items, interactions=clicks)
    assert [r["item_id"] for r in rows(done, "items")] == ["2", "4"]
    assert [r["timestamp"] for r in rows(done, "interactions")] == [1735603200.0, 1735689600.0]
    without = imported(
        tmp_path, options_of([*said[:1], "interactions.timestamp="], None, None, None), items=items
    )
    assert load_config(without.config).data.text_only
    with pytest.raises(InputError, match="there is no column 'ean', but sku, asin, name"):
        imported(tmp_path, options_of(["items.item_id=ean"], None, None, None), items=items)
    for bad in ("item_id=asin", "items.colour=x", "items.item_id"):
        with pytest.raises(
            ConfigError, match=r"expected TABLE.OURS=THEIRS, the first part one of items.item_id"
        ):
            options_of([bad], None, None, None)
    with pytest.raises(ConfigError, match="expected one character"):
        options_of([], None, "||", None)


def test_chinese_tables_in_gbk(tmp_path: Path) -> None:
    items = written(
        tmp_path, "i.csv", "商品编号,标题,品牌\n茶-1,青花茶壶,景德\n茶-2,紫砂茶杯,宜兴\n".encode("gbk")
    )
    clicks = written(
        tmp_path,
        "c.csv",
        "用户ID,商品编号,行为,时间\n甲,茶-1,购买,2024年03月01日\n乙,茶-2,收藏,1709251200000\n",
    )
    done = imported(tmp_path, items=items, interactions=clicks)
    assert rows(done, "items")[0] == {"item_id": "茶-1", "title": "青花茶壶", "brand": "景德"}
    assert [r["timestamp"] for r in rows(done, "interactions")] == [1709251200.0, 1709251200.0]
    assert load_config(done.config).data.event_weights == {"购买": 3.0, "收藏": 2.0}
    assert "items: i.csv is read as gb18030" in done.record["remarks"]
    with pytest.raises(InputError, match=r"is not gb18030 all through.*it looks like utf-8"):
        imported(
            tmp_path, Options(encoding="gb18030"), items=written(tmp_path, "u.csv", "id,title\n1,一二三")
        )


@pytest.mark.parametrize(
    ("text", "encoding", "found"),
    [
        ("id,name\n1,Olive soap\n", "utf-8", "utf-8"),
        ("1,青花茶壶，景德镇制\n" * 3, "gbk", "gb18030"),
        ("1,鎔鎬鎛鎜鎞鎟鎠鎡\n" * 3, "gbk", "gb18030"),
        ("1,青花茶壺，景德鎮製\n" * 3, "big5", "big5"),
        ("1,Café crème, déjà vu\n2,Straße nach Köln\n", "latin-1", "cp1252"),
        ("1,a – b “c” €\n", "cp1252", "cp1252"),
        ("1,青花茶壶\n", "utf-16", "utf-16"),
        ("1,青花茶壶\n", "utf-8-sig", "utf-8-sig"),
    ],
)
def test_encodings_are_told_apart(text: str, encoding: str, found: str) -> None:
    assert detect(text.encode(encoding)) == found


def test_latin_is_asked_for(tmp_path: Path) -> None:
    items = written(tmp_path, "i.csv", "id,name\n1,Café crème\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"is not UTF-8; it may be cp1252.*Say which with --encoding cp1252"):
        imported(tmp_path, items=items)
    done = imported(tmp_path, Options(encoding="cp1252"), items=items)
    assert rows(done, "items")[0]["title"] == "Café crème"
    with pytest.raises(InputError, match="is not known; gb18030"):
        imported(tmp_path, Options(encoding="klingon"), items=items)


def test_ids_written_as_floats_meet_those_that_are_not(tmp_path: Path) -> None:
    pd.DataFrame(
        {"item_id": [1.0, 2.0, None, np.inf, 1.5], "title": ["a cup", "a pot", "lost", "x", "y"]}
    ).to_parquet(tmp_path / "i.parquet")
    clicks = written(tmp_path, "c.csv", "user_id,item_id\n7.0,1.0\n8.0,2.0\n")
    done = imported(tmp_path, items=tmp_path / "i.parquet", interactions=clicks)
    assert [r["item_id"] for r in rows(done, "items")] == ["1", "2", None, None, None]
    assert rows(done, "interactions") == [{"user_id": "7", "item_id": "1"}, {"user_id": "8", "item_id": "2"}]
    assert (
        "ids written as 12.0 became 12: interactions.item_id, interactions.user_id, items.item_id"
        in done.record["remarks"]
    )


def test_a_folder_of_json_lines_and_bad_rows(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    folder.mkdir()
    good = "".join(
        f'{{"user": {n}, "product_id": "p{n % 3}", "action": "buy", "ts": {1700000000000 + n}}}\n'
        for n in range(60)
    )
    written(folder, "a.jsonl", good + '{"user": \n')
    written(folder, "b.ndjson", '{"user": 9, "product_id": "p1", "action": "unfold", "ts": 1700000000}\n')
    items = written(tmp_path, "i.jsonl", "".join(f'{{"id": "p{n}", "title": "Cup {n}"}}\n' for n in range(3)))
    done = imported(tmp_path, items=items, interactions=folder)
    told = done.record["rows"]["interactions"]
    assert (told["read"], told["kept"]) == (62, 61)
    assert "a.jsonl row 61" in next(iter(told["examples"].values()))
    assert load_config(done.config).data.event_weights == {"buy": 3.0, "unfold": 1.0}
    remarks = " ".join(done.record["remarks"])
    assert "timestamps: 60 in milliseconds, 1 in seconds; all are written in seconds" in remarks
    assert "events buy, unfold: look at data.event_weights" in remarks


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"whose names end in .parquet, .jsonl"):
        imported(tmp_path, items=written(tmp_path, "items.xlsx", "PK"))
    with pytest.raises(InputError, match=r"cannot be used: it has no rows"):
        imported(tmp_path, items=written(tmp_path, "i.csv", "id,name\n"))


def test_moments() -> None:
    texts = [
        "1706659200",
        "1706659200000",
        "2024-01-31T00:00:00Z",
        "2024/01/31",
        "20240131",
        "2024年1月31日",
        None,
        "31/1",
    ]
    seconds, found = seconds_of(pa.chunked_array([texts]), None)
    assert seconds.tolist()[:6] == [1706659200.0] * 6
    assert pd.isna(seconds[6:]).all()
    assert dict(found) == {"seconds": 1, "milliseconds": 1, "dates": 4, "unreadable": 1}
    days, _ = seconds_of(pa.chunked_array([pa.array([20240131, 20240201])]), None)
    assert days.tolist() == [1706659200.0, 1706745600.0]
    mixed, found = seconds_of(pa.chunked_array([["31.01.2024", "1706659200000", "2024-01-31"]]), "%d.%m.%Y")
    assert mixed.tolist()[:2] == [1706659200.0] * 2
    assert dict(found) == {"dates": 1, "milliseconds": 1, "unreadable": 1}
    packed, _ = seconds_of(pa.chunked_array([["20240131000000"]]), "%Y%m%d%H%M%S")
    assert packed.tolist() == [1706659200.0]
    for unit in ("us", "ns"):
        column = pa.chunked_array([pa.array([pd.Timestamp("2024-01-31")], pa.timestamp(unit))])
        assert seconds_of(column, None)[0].tolist() == [1706659200.0]
        assert seconds_of(column.cast(pa.int64()), None)[0].tolist() == [1706659200.0]


def test_scales_and_events() -> None:
    assert rating_threshold("Stars", 1.0, 5.0, n_distinct=5) == 4.0
    assert rating_threshold("rating", 1.0, 10.0, n_distinct=10) == 8.0
    assert rating_threshold("opinion", 0.0, 5.0, n_distinct=11) == 4.0
    assert rating_threshold("quantity", 1.0, 300.0, n_distinct=80) is None
    assert rating_threshold("weight", 1.0, 5.0, n_distinct=5) is None
    assert rating_threshold("rating", -1.0, 1.0, n_distinct=2) is None
    assert event_weights(["pv", "AddToCart", "buy", "unfold"]) == {
        "AddToCart": 2.0,
        "buy": 3.0,
        "pv": 1.0,
        "unfold": 1.0,
    }


def test_our_own_name_wins() -> None:
    sample = pa.table({"item_id": ["a"], "sku": ["b"], "title": ["A red cup"], "name": ["x"]})
    assert guess_columns({"items": sample}, {})["items"].columns == {"item_id": "item_id", "title": "title"}


CELLS = st.text(max_size=6) | st.sampled_from(
    [
        "i1", "1.0", "inf", "nan", "", "-1", "2024-01-01", "1700000000000", "99999999999999999999", "0001-01-01",
        "20240230", "红茶 x", "a b c", '"', "\x00", "9999/12/31", "1e400",
    ]
)  # fmt: skip


def csv_files(names: list[str]) -> st.SearchStrategy[bytes]:
    """Tables with these names in any order, cells of all kinds, any mark and encoding."""
    rows = st.lists(st.lists(CELLS, min_size=1, max_size=6), max_size=5)
    parts = st.tuples(
        st.permutations(names),
        rows,
        st.sampled_from(",;\t"),
        st.sampled_from(["utf-8", "gbk", "utf-16", "big5"]),
    )
    return parts.map(lambda p: "\n".join(p[2].join(row) for row in [p[0], *p[1]]).encode(p[3], "replace"))


@settings(max_examples=40, deadline=None)
@given(
    csv_files(["item_id", "title", "price"]),
    csv_files(["user_id", "item_id", "weight", "timestamp", "event"]),
    st.binary(max_size=60),
)
def test_any_files_are_imported_and_validated_or_refused_as_input(
    tmp_path_factory: pytest.TempPathFactory, items: bytes, interactions: bytes, users: bytes
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "data").mkdir()
    for name, content in (("items", items), ("interactions", interactions), ("users", users)):
        written(folder / "data", f"{name}.csv", content)
    with suppress(InputError):
        print_validation(str(folder / "data"), Config())
    paths = {name: folder / "data" / f"{name}.csv" for name in ("items", "interactions")}
    with suppress(InputError):
        done = imported(folder, **paths)
        told = done.record["rows"]["items"]
        assert (
            sum(pq.read_metadata(p).num_rows for p in part_paths(done.destination / "items")) == told["kept"]
        )
        print_validation(str(done.destination), load_config(done.config))
