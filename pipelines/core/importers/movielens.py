"""MovieLens, any of the sets that GroupLens has published, as tables that a build reads."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from pipelines.core.config import Config, DataConfig
from pipelines.core.errors import InputError
from pipelines.core.importers.archives import Files
from pipelines.core.importers.movielens_files import Found, Tabbed, films, find, tags, users
from pipelines.core.importers.staging import Staging
from pipelines.core.importers.tally import Tally
from pipelines.core.importers.watching import Advance, Bars
from pipelines.core.importers.writing import table_writer

CONFIG = Config(data=DataConfig(item_text=("title", "year", "categories", "tags"), like_threshold=4.0))
"""Four stars of five and more are likes."""
_MAX_TAGS = 10
"""Of a film, those that most people gave; the text is about what it is, not about every joke."""

_FILMS = pa.schema(
    [
        ("item_id", pa.string()), ("title", pa.string()), ("year", pa.int32()), ("categories", pa.list_(pa.string())),
        ("tags", pa.list_(pa.string())), ("imdb_id", pa.string()), ("tmdb_id", pa.string()),
    ]
)  # fmt: skip
_USERS = pa.schema([(name, pa.string()) for name in ("user_id", "description", "age", "sex", "occupation")])
_RATINGS = pa.schema(
    [("user_id", pa.string()), ("item_id", pa.string()), ("weight", pa.float32()), ("timestamp", pa.int64())]
)
_RATING_COLUMNS = ("userId", "movieId", "rating", "timestamp")
_RATING_FILES = {"tab": "u.data", "dat": "ratings.dat", "csv": "ratings.csv"}
_BLOCK = 8 << 20


def import_movielens(files: Files, work: Staging, bars: Bars) -> list[Tally]:
    """Write items, users (where the set has some) and interactions.

    Raises:
        InputError: no MovieLens, or one that makes no sense.

    """
    found = find(files)
    told = work.once("films", lambda: _write_films(found, work).as_json())
    tallies = [Tally.from_json("films", told)]
    if found.path("u.user") or found.path("users.dat"):
        told = work.once("users", lambda: _write_users(found, work).as_json())
        tallies.append(Tally.from_json("users", told))
    told = work.once("ratings", lambda: _write_ratings(found, work, bars).as_json())
    return [*tallies, Tally.from_json("ratings", told)]


def _write_films(found: Found, work: Staging) -> Tally:
    words = _film_tags(found)
    from_files = {"tags": ("tags.csv", "tags.dat"), "imdb_id": ("links.csv",), "tmdb_id": ("links.csv",)}
    absent = {name for name, files in from_files.items() if not any(found.path(file) for file in files)}
    schema = pa.schema([column for column in _FILMS if column.name not in absent])
    tagged = (
        (None if film is None else {**film, "tags": words.get(film["item_id"])}, line)
        for film, line in films(found)
    )
    return _write_entities("film", "item_id", tagged, work.tables / "items.parquet", schema)


def _film_tags(found: Found) -> dict[str, list[str]]:
    """Up to `_MAX_TAGS` of each film, those that most people gave first."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for tag in tags(found):
        words = tag[1].strip().casefold() if tag else ""
        if tag and words:
            counts[tag[0]][words] += 1
    order = {film: sorted(c, key=lambda t, c=c: (-c[t], t)) for film, c in counts.items()}  # type: ignore[misc]
    return {film: words[:_MAX_TAGS] for film, words in order.items()}


def _write_users(found: Found, work: Staging) -> Tally:
    return _write_entities("user", "user_id", users(found), work.tables / "users.parquet", _USERS)


def _write_entities(
    what: str, key: str, rows: Iterable[tuple[dict[str, Any] | None, str]], path: Path, schema: pa.Schema
) -> Tally:
    """The first row of each id; None stands for a line that could not be read."""
    tally, seen = Tally(f"{what}s"), set[str]()
    with table_writer(path, schema) as out:
        for row, line in rows:
            tally.read += 1
            if row is None:
                tally.reject(f"the line has not the columns of a {what}", line)
            elif row[key] in seen:
                tally.reject("its id was there already", line)
            else:
                seen.add(row[key])
                out.add_row(row)
    tally.check()
    return tally


def _write_ratings(found: Found, work: Staging, bars: Bars) -> Tally:
    tally = Tally("ratings")
    known = pq.read_table(work.tables / "items.parquet", columns=["item_id"]).column(0).combine_chunks()
    name = found.path(_RATING_FILES[found.shape])
    assert name is not None  # noqa: S101 - what a set is found by
    with (
        bars("reading ratings, MB", found.files.size(name) >> 20) as advance,
        found.files.open(name) as handle,
        table_writer(work.tables / "interactions.parquet", _RATINGS) as out,
    ):
        for lot in _lots(found, handle, tally, advance):
            out.add(_sound(lot, known, tally))
    tally.check()
    return tally


def _lots(found: Found, handle: Any, tally: Tally, advance: Advance) -> Iterator[pa.Table]:  # noqa: ANN401
    """The ratings as they stand in the file, as strings, a few megabytes at a time."""

    def on_invalid(row: Any) -> str:  # noqa: ANN401 - pyarrow's InvalidRow
        tally.read += 1
        tally.reject("the line has not the four columns of a rating", str(row.text or f"row {row.number}"))
        return "skip"

    options = pcsv.ReadOptions(
        use_threads=False,
        block_size=_BLOCK,
        column_names=None if found.shape == "csv" else list(_RATING_COLUMNS),
    )
    if found.shape == "dat":
        handle = io.BufferedReader(Tabbed(handle), _BLOCK)
    with _readable(found):
        reader = pcsv.open_csv(
            handle,
            read_options=options,
            parse_options=pcsv.ParseOptions(
                delimiter="," if found.shape == "csv" else "\t",
                quote_char=False,
                invalid_row_handler=on_invalid,
            ),
            convert_options=pcsv.ConvertOptions(
                column_types=dict.fromkeys(_RATING_COLUMNS, pa.string()),
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
        if tuple(reader.schema.names) != _RATING_COLUMNS:
            raise InputError(
                f"{found.files.where}: ratings.csv begins with {','.join(reader.schema.names)}, expected "
                f"{','.join(_RATING_COLUMNS)}. Is it MovieLens?"
            )
        for batch in reader:
            advance(max(1, batch.nbytes >> 20))
            yield pa.Table.from_batches([batch])


@contextmanager
def _readable(found: Found) -> Iterator[None]:
    try:
        yield
    except pa.ArrowInvalid as e:
        raise InputError(f"{found.files.where}: the ratings cannot be read: {e}.") from e


def _sound(lot: pa.Table, known: pa.Array, tally: Tally) -> pa.Table:
    """The rows of which every column makes sense, and whose film is known."""
    tally.read += lot.num_rows
    checks = (
        ("userId", r"^[0-9]{1,18}$", "userId is no whole number"),
        ("movieId", r"^[0-9]{1,18}$", "movieId is no whole number"),
        ("rating", r"^([1-4](\.[05])?|0\.5|5(\.0)?)$", "rating is not 0.5 to 5 in halves"),
        ("timestamp", r"^[0-9]{1,10}$", "timestamp is no number of seconds"),
    )
    for column, pattern, reason in checks:
        good = pc.fill_null(pc.match_substring_regex(lot.column(column), pattern), False)
        tally.reject(reason, *_first(lot, pc.invert(good)))
        lot = lot.filter(good)
    there = pc.is_in(lot.column("movieId"), value_set=known)
    tally.leave_out("of films that are not in the list of films", *_first(lot, pc.invert(there)))
    lot = lot.filter(there).rename_columns(list(_RATINGS.names))
    return lot.set_column(2, "weight", lot.column("weight").cast(pa.float32())).set_column(
        3, "timestamp", lot.column("timestamp").cast(pa.int64())
    )


def _first(lot: pa.Table, mask: pa.ChunkedArray) -> tuple[str, int]:
    """The first of the rows in words, and how many they are."""
    n = pc.sum(mask).as_py() or 0
    return (str(lot.filter(mask).slice(0, 1).to_pylist()[0]) if n else ""), n
