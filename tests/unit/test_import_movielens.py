"""Every MovieLens that GroupLens has published, from small files of exactly those formats."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.validation import print_validation
from pipelines.core.config import load_config
from pipelines.core.errors import ConfigError, InputError
from pipelines.core.importers import archives
from pipelines.core.importers.archives import FolderFiles, ZipFiles, open_files
from pipelines.core.importers.movielens import CONFIG, import_movielens
from pipelines.core.importers.movielens_files import Tabbed, find, split_title
from pipelines.core.importers.running import Imported, Made, run_import
from pipelines.core.importers.staging import Staging
from pipelines.progress import Progress
from tests.unit.movielens_sets import FOLDERS, write_folder, write_zip

BARS = Progress(quiet=True).bar


def imported(source: Path, to: Path) -> Imported:
    def make(work: Staging) -> Made:
        return Made(import_movielens(open_files(source), work, BARS), CONFIG)

    return run_import("movielens", {str(source): source}, to, {}, make, overwrite=False)


def rows(folder: Path, table: str) -> list[dict[str, object]]:
    return list(pq.read_table(folder / f"{table}.parquet").to_pylist())


@pytest.mark.parametrize("name", FOLDERS)
def test_zip_and_folder_give_the_same_tables_that_a_build_accepts(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zipped = imported(write_zip(name, tmp_path), tmp_path / "from_zip")
    imported(write_folder(name, tmp_path / "unpacked"), tmp_path / "from_folder")
    for table in ("items", "interactions"):
        assert rows(tmp_path / "from_zip", table) == rows(tmp_path / "from_folder", table)
    assert zipped.record["rows"]["ratings"]["kept"] == zipped.record["rows"]["ratings"]["read"]
    config = load_config(zipped.config)
    assert config.data.like_threshold == 4.0
    assert print_validation(str(zipped.destination), config), capsys.readouterr().out


def test_100k(tmp_path: Path) -> None:
    imported(write_zip("ml-100k", tmp_path), tmp_path / "to")
    items = rows(tmp_path / "to", "items")
    assert [(i["item_id"], i["title"], i["year"], i["categories"]) for i in items] == [
        ("1", "Café Lumière", 1994, ["Comedy", "Drama"]),
        ("3", "The Lantern", 1996, ["Action"]),
        ("267", "unknown", None, []),
    ]
    assert [(u["user_id"], u["description"]) for u in rows(tmp_path / "to", "users")] == [
        ("7", "technician, man, 24 years old"),
        ("9", "woman, 53 years old"),
    ]
    assert rows(tmp_path / "to", "interactions")[0] == {
        "user_id": "7", "item_id": "1", "weight": 5.0, "timestamp": 881250949,
    }  # fmt: skip


def test_columns_that_a_set_knows_nothing_of_are_not_there(tmp_path: Path) -> None:
    for name, more in (
        ("ml-1m", set()),
        ("ml-10M100K", {"tags"}),
        ("ml-latest-small", {"tags", "imdb_id", "tmdb_id"}),
    ):
        imported(write_zip(name, tmp_path), tmp_path / f"{name}-tables")
        columns = set(pq.read_schema(tmp_path / f"{name}-tables" / "items.parquet").names)
        assert columns == {"item_id", "title", "year", "categories"} | more


def test_100k_without_its_list_of_genres(tmp_path: Path) -> None:
    folder = write_folder("ml-100k", tmp_path)
    (folder / "u.genre").unlink()
    imported(folder, tmp_path / "to")
    assert rows(tmp_path / "to", "items")[0]["categories"] == ["Comedy", "Drama"]


def test_1m(tmp_path: Path) -> None:
    imported(write_zip("ml-1m", tmp_path), tmp_path / "to")
    items = rows(tmp_path / "to", "items")
    assert [(i["title"], i["year"], i["categories"]) for i in items] == [
        ("Le Château d'Eau", 1999, ["Drama"]),
        ("Robots: Part II", 1987, ["Action", "Children's", "Sci-Fi"]),
    ]
    assert [u["description"] for u in rows(tmp_path / "to", "users")] == [
        "K-12 student, woman, under 18 years old",
        "self-employed, man, 56 years old or older",
    ]
    assert "zip" not in " ".join(pq.read_schema(tmp_path / "to" / "users.parquet").names)


def test_10m(tmp_path: Path) -> None:
    imported(write_zip("ml-10M100K", tmp_path), tmp_path / "to")
    items = rows(tmp_path / "to", "items")
    assert [(i["title"], i["year"], i["categories"], i["tags"]) for i in items] == [
        ("Boomerang: The Return", 1992, ["Comedy", "Romance"], ["boats", "excellent!"]),
        ("Net::Work", 1995, [], ["a::b"]),
    ]
    assert not (tmp_path / "to" / "users.parquet").exists()
    assert [r["weight"] for r in rows(tmp_path / "to", "interactions")] == [5.0, 0.5, 4.5]


def test_latest(tmp_path: Path) -> None:
    imported(write_zip("ml-latest-small", tmp_path), tmp_path / "to")
    assert rows(tmp_path / "to", "items") == [
        {
            "item_id": "1", "title": "Paper Boats", "year": 1995, "categories": ["Adventure", "Children"],
            "tags": ["boats", "funny, dry"], "imdb_id": "tt0114709", "tmdb_id": "862",
        },
        {
            "item_id": "3", "title": "The City of Lanterns (Cité des lanternes, La)", "year": 1995,
            "categories": ["Drama", "Sci-Fi"], "tags": None, "imdb_id": "tt0113228", "tmdb_id": None,
        },
        {
            "item_id": "4", "title": "Series of Letters", "year": 2006, "categories": [], "tags": None,
            "imdb_id": None, "tmdb_id": None,
        },
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "title", "year"),
    [
        ("Godfather, The (1972)", "The Godfather", 1972),
        ("Avventura, L' (1960)", "L'Avventura", 1960),
        ("Babylon 5", "Babylon 5", None),
        ("2001: A Space Odyssey (1968) ", "2001: A Space Odyssey", 1968),
        ("Me, Myself & Irene (2000)", "Me, Myself & Irene", 2000),
        ("Letters (2009– )", "Letters", 2009),
        ("Letters (1975-1979)", "Letters", 1975),
        ("(1999)", "", 1999),
    ],
)
def test_titles_as_people_say_them(written: str, title: str, year: int | None) -> None:
    assert split_title(written) == (title, year)


@given(st.lists(st.sampled_from(["1", "::", "4.5", ":", "\n"])), st.integers(1, 9))
def test_tabs_in_the_place_of_double_colons_wherever_a_read_ends(parts: list[str], size: int) -> None:
    raw = "".join(parts).replace(":::", "::").encode()
    while b":::" in raw:
        raw = raw.replace(b":::", b"::")
    read = b"".join(iter(lambda: stream.read(size + 1), b"")) if (stream := Tabbed(io.BytesIO(raw))) else b""
    assert read == raw.replace(b"::", b"\t")


def test_bad_rows_are_counted_and_named(tmp_path: Path) -> None:
    folder = write_folder("ml-latest-small", tmp_path)
    good = "".join(f"{n},1,4.0,96498{n:04}\n" for n in range(1, 200))
    bad = "1,1,9.0,964982703\n1,x,4.0,964982703\n1,1,4.0\n,1,4.0,964982703\n1,1,4.0,yesterday\n1,99,4.0,964982703\n"
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + good + bad)
    told = imported(folder, tmp_path / "to").record["rows"]["ratings"]
    assert (told["read"], told["kept"]) == (205, 199)
    assert told["bad"] == {
        "rating is not 0.5 to 5 in halves": 1,
        "movieId is no whole number": 1,
        "the line has not the four columns of a rating": 1,
        "userId is no whole number": 1,
        "timestamp is no number of seconds": 1,
    }
    assert told["left_out"] == {"of films that are not in the list of films": 1}
    assert "'rating': '9.0'" in told["examples"]["rating is not 0.5 to 5 in halves"]


def test_what_is_no_movielens(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"is no MovieLens: it has notes.txt. Expected u.data and u.item"):
        imported(source, tmp_path / "to")
    write_folder("ml-1m", source)
    write_folder("ml-100k", source)
    with pytest.raises(InputError, match=r"more than one MovieLens: ml-100k .*, ml-1m"):
        find(FolderFiles(source))
    with pytest.raises(ConfigError, match=r"lies in .* which is read"):
        imported(source, source / "to")


def test_files_of_another_kind_stop_the_import(tmp_path: Path) -> None:
    folder = write_folder("ml-latest-small", tmp_path)
    (folder / "ratings.csv").write_text("user,film,stars,when\n1,1,4.0,1\n")
    with pytest.raises(InputError, match=r"begins with user,film,stars,when, expected userId"):
        imported(folder, tmp_path / "to")
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1,many,1\n")
    with pytest.raises(InputError, match=r"1 of 1 ratings cannot be understood.*'rating': 'many'"):
        imported(folder, tmp_path / "to")
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("name", ["../u.data", "/etc/u.data", "ml/../../u.data", "C:\\u.data", "..\\u.data"])
def test_a_zip_that_points_out_of_itself(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr(name, "1\t1\t5\t1\n")
    with pytest.raises(InputError, match="points out of the archive"):
        ZipFiles(tmp_path / "evil.zip")


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("u.item", "1|a (1999)|||x" + "|0" * 19 + "\n")
        with archive.open("u.data", "w", force_zip64=True) as member:
            for _ in range(80):
                member.write(b"0" * (1 << 20))
    with pytest.raises(
        InputError, match=r"unpack to 83886080, more than is believed .* looks like a zip bomb"
    ):
        imported(path, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MAX_MEMBERS", 3)
    with pytest.raises(InputError, match="more than 3"):
        ZipFiles(write_zip("ml-1m", tmp_path))


def test_a_zip_that_did_not_come_whole(tmp_path: Path) -> None:
    path = write_zip("ml-1m", tmp_path)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(InputError, match="no whole zip"):
        open_files(path)
    start = raw.index(b"ml-1m/ratings.dat") + 20
    path.write_bytes(raw[:start] + b"\xff\x00\xff\x00" + raw[start + 4 :])
    with pytest.raises(InputError, match=r"ratings.dat cannot be unpacked"):
        imported(path, tmp_path / "to")
