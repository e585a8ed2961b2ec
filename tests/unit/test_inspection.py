"""`kindling data validate` over tables as people have them: what is wrong, where, why, and which settings help."""

from __future__ import annotations

import gzip
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from jobs.validation import print_validation
from pipelines.core.config import Config, parse_config

ITEMS = "item_id,title\ni1,A red cup\ni2,A blue pot\ni3,An old tin\n"
CLICKS = "user_id,item_id\nu1,i1\nu2,i2\nu1,i3\n"


@dataclass
class Told:
    """What came of one validation."""

    is_fine: bool
    said: str

    @property
    def suggested(self) -> dict[str, object]:
        """The section `data` of the configuration it suggests."""
        _, found, toml = self.said.partition("then checked with --config:\n")
        return dict(tomllib.loads(toml)["data"]) if found else {}


Validate = Callable[..., Told]


@pytest.fixture
def validate(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Validate:
    monkeypatch.setenv("COLUMNS", "200")

    def run(
        config: Config | None = None, *, strict: bool = False, **tables: str | bytes | pd.DataFrame
    ) -> Told:
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        for name, content in {"items": ITEMS, "interactions": CLICKS, **tables}.items():
            if isinstance(content, pd.DataFrame):
                content.to_parquet(folder / f"{name}.parquet")
            elif content:
                (folder / f"{name}.csv").write_bytes(
                    content.encode() if isinstance(content, str) else content
                )
        is_fine = print_validation(str(folder), config or Config(), strict=strict)
        return Told(is_fine, capsys.readouterr().out)

    return run


def test_sound_tables(validate: Validate) -> None:
    told = validate(strict=True)
    assert told.is_fine
    assert told.said.splitlines()[-1] == "a build would accept these tables"
    assert "note:" not in told.said


def test_columns_under_other_names(validate: Validate) -> None:
    told = validate(
        items="id,name,desc\ni1,A red cup,x y\ni2,A pot,x z\n",
        interactions="customer,product,stars\nu1,i1,5\nu2,i2,1\n",
        users="id,bio\nu1,I like tea\n",
    )
    assert not told.is_fine
    assert "table 'items': column 'item_id' is missing; it has id, name, desc" in told.said
    assert "table 'interactions': column 'user_id' is missing; it has customer, product, stars" in told.said
    assert "item_id is called id and product in different tables" in told.said
    assert "user_id is called customer and id in different tables" in told.said
    assert "1 × " not in told.said, "rows are checked as though the names were right"
    assert "description is called bio and desc in different tables" in told.said
    assert told.suggested == {"columns": {"title": "name", "weight": "stars"}, "like_threshold": 4.0}


def test_the_suggested_columns_make_the_tables_fine(validate: Validate) -> None:
    tables = {
        "items": "sku,name\ni1,A red cup\ni2,A pot\n",
        "interactions": "customer,sku,stars,date\nu1,i1,5,2024-01-31\nu2,i2,4,2024-02-01\n",
    }
    told = validate(**tables)
    assert not told.is_fine
    assert told.suggested == {
        "columns": {
            "item_id": "sku",
            "title": "name",
            "user_id": "customer",
            "weight": "stars",
            "timestamp": "date",
        },
        "like_threshold": 4.0,
    }
    again = validate(parse_config({"data": told.suggested}, "suggested"), strict=True, **tables)
    assert (again.is_fine, again.suggested) == (True, {}), again.said


def test_a_column_that_could_be_used_is_suggested_and_not_read(validate: Validate) -> None:
    told = validate(interactions="user_id,item_id,rating\nu1,i1,5\nu2,i2,0\nu1,i3,4\n")
    assert told.is_fine, told.said
    assert told.suggested == {"columns": {"weight": "rating"}, "like_threshold": 4.0}


def test_candidates_are_named_where_names_do_not_tell(validate: Validate) -> None:
    told = validate(items="sku,asin,title\n1,2,A cup\n3,4,A pot\n")
    assert not told.is_fine
    assert (
        "item_id may be 'sku' or 'asin'. Say which it is with data.columns = {item_id = \"sku\"}" in told.said
    )
    assert "interactions: not looked at, for the items could not be read" in told.said


def test_duplicate_ids_with_their_rows(validate: Validate) -> None:
    told = validate(items=ITEMS + "i2,Something else\ni1,A red cup\n")
    assert "items: 1 × item_id was there already with a different text" in told.said
    assert "items.csv row 4: i2" in told.said
    assert "-> an id stands for one thing; keep one row" in told.said
    assert "identical_duplicates_merged 1" in told.said


@pytest.mark.parametrize(
    ("items", "clicks", "hint"),
    [
        (
            ["1.0", "2.0", "3.0"],
            ["1", "2", "3"],
            "3 of 3 unknown ids would be known were they not written 12.0",
        ),
        (
            ["1", "2", "3"],
            ["001", "002", "9"],
            "2 of 3 unknown ids would be known were they not written with zeros",
        ),
        (["ab", "cd", "ef"], ["AB", "CD", "EF"], "written in capitals in one table only"),
        (["a-1", "a-2", "a-3"], ["a1", "'a2'", "a3"], "written with marks around or between them"),
        (
            ["a", "b", "c"],
            ["x", "y", "z"],
            "interactions name items that the items table has not, such as x, y, z",
        ),
    ],
)
def test_ids_of_two_kinds(items: list[str], clicks: list[str], hint: str, validate: Validate) -> None:
    told = validate(
        items=pd.DataFrame({"item_id": items, "title": ["A red cup", "A pot", "A tin"]}),
        interactions=pd.DataFrame({"user_id": ["u1", "u2", "u3"], "item_id": clicks}),
    )
    assert not told.is_fine
    assert hint in told.said
    assert ("unknown ids would be known" in told.said) == (clicks[0] != "x")


def test_floats_and_strings_that_a_build_takes_for_the_same(validate: Validate) -> None:
    told = validate(
        items=pd.DataFrame({"item_id": [1.0, 2.0], "title": ["A red cup", "A pot"]}),
        interactions=pd.DataFrame({"user_id": [1, 2], "item_id": ["1", "2"]}),
    )
    assert told.is_fine, told.said


def test_tables_in_each_others_place(validate: Validate) -> None:
    told = validate(items=CLICKS, interactions=ITEMS)
    assert not told.is_fine
    assert "tables 'items' and 'interactions' are in each other's place" in told.said
    assert told.suggested == {"items": "interactions", "interactions": "items"}
    assert validate(parse_config({"data": told.suggested}, ""), items=CLICKS, interactions=ITEMS).is_fine


def test_columns_in_each_others_place(validate: Validate) -> None:
    told = validate(interactions="item_id,user_id\nu1,i1\nu2,i2\nu1,i3\n")
    assert not told.is_fine
    assert "its columns user_id and item_id are in each other's place" in told.said


def test_users_in_the_place_of_items(validate: Validate) -> None:
    told = validate(
        items="item_id,title\nu1,I like tea\nu2,I like mugs\n", users="user_id,description\ni1,A red cup\ni2,A pot\n",
        interactions="user_id,item_id\nx,i1\ny,i2\n",
    )  # fmt: skip
    assert "these ids are in the users table" in told.said


def test_moments_of_two_kinds(validate: Validate) -> None:
    clicks = "user_id,item_id,timestamp\nu1,i1,1706659200\nu2,i2,1706659200000\nu1,i3,31.1.2024\nu2,i1,2024-01-31\n"
    told = validate(interactions=clicks)
    assert "timestamps are mixed: 1 in seconds, 1 in milliseconds; a build reads seconds" in told.said
    assert "timestamps are mixed: 1 dates and 2 numbers" in told.said
    assert "1 timestamps are neither numbers nor dates with one reading" in told.said
    assert "interactions.csv row 3" in told.said
    assert "-> write 2024-01-31" in told.said
    only = validate(interactions="user_id,item_id,timestamp\nu1,i1,1706659200000\nu2,i2,1706659200001\n")
    assert not only.is_fine
    assert "timestamps are not in seconds: 2 in milliseconds" in only.said


def test_negative_weights_and_unknown_events(validate: Validate) -> None:
    told = validate(interactions="user_id,item_id,weight,event\nu1,i1,-1,buy\nu2,i2,2,pv\nu1,i2,1,like\n")
    assert "interactions: 1 × weight is negative" in told.said
    assert "1 weights are below zero, down to -1" in told.said
    weights = told.suggested["event_weights"]
    assert isinstance(weights, dict)
    assert (weights["buy"], weights["pv"], weights["like"]) == (3.0, 1.0, 2.0)


@pytest.mark.parametrize("packed", [False, True])
def test_gbk(packed: bool, validate: Validate, tmp_path: Path) -> None:
    raw = "item_id,title\ni1,青花茶壶\ni2,紫砂茶杯\ni3,A pot\n".encode("gbk")
    if packed:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "items.csv.gz").write_bytes(gzip.compress(raw))
        told = validate(items="")
    else:
        told = validate(items=raw)
    assert not told.is_fine
    assert "items: 2 × column title is not UTF-8; save the file as UTF-8" in told.said
    assert "looks like gb18030: `iconv -f gb18030 -t utf-8 items.csv" in told.said


def test_gbk_in_the_names_of_columns(validate: Validate) -> None:
    told = validate(items="item_id,标题\ni1,青花茶壶\ni2,紫砂茶杯\n".encode("gbk"))
    assert not told.is_fine
    assert "looks like gb18030" in told.said


def test_latin_1(validate: Validate) -> None:
    told = validate(items="item_id,title\ni1,Café crème\ni2,A pot\ni3,A tin\n".encode("latin-1"))
    assert "looks like cp1252" in told.said
    assert "items.csv row 1" in told.said


def test_chinese_and_an_english_encoder(validate: Validate) -> None:
    items = "item_id,title\ni1,青花茶壶\ni2,紫砂茶杯\ni3,A pot\n"
    told = validate(items=items)
    assert told.is_fine
    assert "67% of the items have Chinese text, and all-MiniLM-L6-v2 knows English" in told.said
    assert not validate(items=items, strict=True).is_fine
    other = validate(parse_config({"encoder": {"model": "a-multilingual-one"}}, ""), items=items)
    assert "Chinese" not in other.said


def test_empty_and_huge_texts(validate: Validate) -> None:
    told = validate(items=f"item_id,title\ni1,A cup\ni2,\ni3,{'word ' * 9000}\n")
    assert "1 of 3 items have no text in title, brand, categories, description: row 2 (i2)" in told.said
    assert (
        "1 items have texts of data.max_text_chars = 20000 characters or more, which are cut: row 3 (i3)"
        in told.said
    )


def test_text_in_columns_that_are_not_looked_at(validate: Validate) -> None:
    items = "item_id,wording,size\ni1,A red cup,3\ni2,A blue pot,4\ni3,An old tin,5\n"
    told = validate(items=items)
    assert not told.is_fine
    assert "none of the 3 items has any text" in told.said
    assert told.suggested == {"columns": {"title": "wording"}}
    own = parse_config({"data": {"item_text": ["wording"]}}, "")
    assert (validate(own, items="").is_fine, validate(own, items="").suggested) == (True, {})
    two = validate(
        items="item_id,wording,lore\ni1,A red cup,From Kent\ni2,A blue pot,From Bath\ni3,An old tin,From Ely\n"
    )
    assert not two.is_fine
    assert "none of the 3 items has any text" in two.said
    assert two.suggested["item_text"] == ["title", "brand", "categories", "description", "wording", "lore"]
    assert validate(parse_config({"data": two.suggested}, ""), items="").is_fine


def test_columns_that_say_nothing(validate: Validate) -> None:
    told = validate(
        items="item_id,title,colour,stock\ni1,A red cup,red,\ni2,A pot,red,\n",
        interactions="user_id,item_id,weight\nu1,i1,1\nu2,i2,1\n",
    )
    assert told.is_fine
    assert "items: column 'colour' is 'red' in all 2 rows and says nothing" in told.said
    assert "items: column 'stock' is empty in all 2 rows" in told.said
    assert "interactions: column 'weight' is '1' in all 2 rows" in told.said
    assert "column 'title'" not in told.said


@pytest.mark.parametrize(
    ("dates", "said"),
    [
        (("2026-01-31", "2026-02-01T10:00:00Z"), ""),
        (("1769817600", "1769904000"), ""),
        (("", "2026-01-31"), ""),
        (("soon", "2026-01-31"), "1 items have no date in 'created_at', the first 'soon'"),
        (
            ("1769817600000", "1769904000000"),
            "2 items have no date in 'created_at', the first '1769817600000'",
        ),
    ],
)
def test_dates_of_items_that_are_none(validate: Validate, dates: tuple[str, str], said: str) -> None:
    told = validate(
        items=f"item_id,title,created_at\ni1,A red cup,{dates[0]}\ni2,A pot,{dates[1]}\ni3,An old tin,\n"
    )
    assert told.is_fine, "a build takes such items for old"
    assert said in told.said
    assert ("created_at" in told.said) == bool(said)


def test_other_marks_between_columns(validate: Validate) -> None:
    told = validate(items=ITEMS.replace(",", ";"), interactions=CLICKS.replace(",", ";"))
    assert not told.is_fine
    assert told.suggested == {"csv_delimiter": ";"}
    config = parse_config({"data": told.suggested}, "")
    assert validate(config, items=ITEMS.replace(",", ";"), interactions=CLICKS.replace(",", ";")).is_fine


def test_no_interactions(validate: Validate) -> None:
    told = validate(interactions="")
    assert not told.is_fine
    assert told.suggested == {"text_only": True}
    assert validate(parse_config({"data": told.suggested}, ""), interactions="").is_fine


def test_strict_minds_every_rejected_row(validate: Validate) -> None:
    clicks = CLICKS + "".join(f"u{n},i1\n" for n in range(60)) + ",i1\n"
    assert validate(interactions=clicks).is_fine
    assert not validate(interactions=clicks, strict=True).is_fine
