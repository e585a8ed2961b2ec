"""What the first rows of all tables tell: columns under other names, tables in each other's place, encodings, marks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from pipelines.core.config import Config
from pipelines.core.errors import InputError
from pipelines.core.importers.encodings import detect
from pipelines.core.importers.guess import NAMES, Guess, candidates, guess_columns, is_key, is_prose
from pipelines.core.readers import Chunk, cut_chunks, find_files, open_filesystem, read_chunk
from pipelines.core.schema import ITEM_ID, REQUIRED, ROW, TABLES, USER_ID, TableName
from pipelines.core.text_files import BadRow

_SAMPLE_ROWS = 100_000
_SAMPLE_BYTES = 1 << 20
_OTHER_MARKS = ";|\t"


@dataclass(frozen=True)
class Head:
    """A table's chunks and what came of the first.

    Attributes:
        chunks: all of them.
        rows: of the first chunk.
        bad: rows of the first chunk that cannot be read.

    """

    chunks: list[Chunk]
    rows: pa.Table
    bad: list[BadRow]

    @property
    def sample(self) -> pa.Table:
        """The first rows."""
        return self.rows.slice(0, _SAMPLE_ROWS)


@dataclass
class Outlook:
    """What was found before all rows are read.

    Attributes:
        heads: of the tables that are there, read as `config` says.
        config: the caller's, changed to what fits the tables.
        given: `data.columns` of the caller.
        problems: what stops a build with the caller's own.
        hints: what does not, but is worth knowing.
        columns: of each table ours = theirs, as they were guessed.
        unreadable: tables that cannot be read as the caller names their columns.

    """

    heads: dict[TableName, Head]
    config: Config
    given: Mapping[str, str]
    problems: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    columns: dict[TableName, dict[str, str]] = field(default_factory=dict)
    unreadable: set[TableName] = field(default_factory=set)

    def config_of(self, table: TableName, *, with_guesses: bool = False) -> Config:
        """The configuration to read a table with: the caller's where that does, or with what was guessed of it."""
        data = self.config.data
        guessed = self.columns.get(table, {}) if with_guesses or table in self.unreadable else {}
        columns = {**self.given, **guessed}
        return self.config.model_copy(update={"data": data.model_copy(update={"columns": columns})})

    def change(self, **data: object) -> None:
        """Set fields of the section `data`."""
        merged = {**self.config.data.model_dump(), **data}
        self.config = self.config.model_copy(update={"data": type(self.config.data).model_validate(merged)})


def look(directory: str, config: Config) -> Outlook:
    """Read the first rows of every table and make sense of them.

    Raises:
        InputError: the folder cannot be read, or holds a table twice.

    """
    outlook = Outlook(_read(directory, config), config, config.data.columns)
    mark = _other_mark(outlook.heads)
    if mark:
        outlook.problems.append(
            f"columns of the CSV files are parted by {mark!r}, not by {config.data.csv_delimiter!r}; set "
            f"data.csv_delimiter = {mark!r}"
        )
        outlook.change(csv_delimiter=mark)
        outlook.heads = _read(directory, outlook.config)
    if _are_swapped(outlook.heads):
        items, interactions = config.data.items, config.data.interactions
        outlook.problems.append(
            f"tables '{items}' and '{interactions}' are in each other's place: '{interactions}' has one row for each "
            f"item, '{items}' has users and items that come again. Rename the files, or set data.items = "
            f"'{interactions}' and data.interactions = '{items}'"
        )
        outlook.change(items=interactions, interactions=items)
        outlook.heads = _read(directory, outlook.config)
    _find_columns(outlook)
    outlook.hints += _encodings(outlook.heads)
    return outlook


def _read(directory: str, config: Config) -> dict[TableName, Head]:
    heads: dict[TableName, Head] = {}
    for table in TABLES:
        chunks = cut_chunks(directory, table, find_files(directory, getattr(config.data, table)))
        if chunks:
            heads[table] = Head(chunks, *read_chunk(chunks[0], config.data.csv_delimiter))
    return heads


def _names(rows: pa.Table) -> list[str]:
    return [n for n in rows.column_names if n != ROW]


def _other_mark(heads: Mapping[TableName, Head]) -> str:
    """What parts the columns where what should have parted none."""
    for head in heads.values():
        names = _names(head.rows)
        if head.chunks[0].path.removesuffix(".gz").endswith(".csv") and len(names) == 1:
            found = [mark for mark in _OTHER_MARKS if mark in names[0]]
            if len(found) == 1:
                return found[0]
    return ""


def _are_swapped(heads: Mapping[TableName, Head]) -> bool:
    """Whether items look like interactions and interactions like items."""
    if not {"items", "interactions"} <= heads.keys():
        return False
    items, interactions = heads["items"].sample, heads["interactions"].sample
    asked = NAMES["interactions"]
    pairs = [candidates(name, asked[name], _names(items)) for name in (USER_ID, ITEM_ID)]
    if not all(pairs) or candidates(USER_ID, asked[USER_ID], _names(interactions)) or not items.num_rows:
        return False
    keys = [
        c
        for c in candidates(ITEM_ID, NAMES["items"][ITEM_ID], _names(interactions))
        if is_key(interactions[c])
    ]
    return bool(keys) and any(is_prose(interactions.column(c)) for c in _names(interactions))


def _find_columns(outlook: Outlook) -> None:
    """Find columns that bear other names; what is needed and absent is a problem."""
    data = outlook.config.data
    samples = {table: head.sample for table, head in outlook.heads.items() if head.rows.num_rows}
    missing = {table: missing_columns(table, rows, data.columns) for table, rows in samples.items()}
    for table, names in missing.items():
        for name in names:
            outlook.unreadable.add(table)
            have = ", ".join(_names(samples[table]))
            outlook.problems.append(
                f"table '{getattr(data, table)}': column '{name}' is missing; it has {have}"
            )
    given = {
        (table, ours): theirs
        for table, rows in samples.items()
        for ours, theirs in data.columns.items()
        if ours in NAMES[table] and theirs in rows.column_names
    }
    try:
        guesses = guess_columns(samples, given)
    except InputError as e:
        if any(missing.values()):
            told = re.sub(
                r"--column \w+\.(\w+)=(\S+?)([.,;]?)(?=\s|$)", r'data.columns = {\1 = "\2"}\3', str(e)
            )
            outlook.hints.append(told.rstrip("."))
        return
    _suggest(outlook, samples, guesses)


def missing_columns(table: TableName, rows: pa.Table, columns: Mapping[str, str]) -> list[str]:
    """Required columns that a table has neither by our name nor by the one that `columns` gives."""
    have = {*_names(rows)}
    return [c for c in REQUIRED[table] if c not in have and columns.get(c) not in have]


def _suggest(
    outlook: Outlook, samples: Mapping[TableName, pa.Table], guesses: Mapping[TableName, Guess]
) -> None:
    """Write names of theirs into `data.columns`, where one name does for all tables."""
    data = outlook.config.data
    in_use = {*data.item_text, *data.user_text, *data.vectors, *outlook.config.relations.columns}
    theirs: dict[str, set[str]] = {}
    for table, guess in guesses.items():
        for ours, name in guess.columns.items():
            is_wanted = ours in REQUIRED[table] or (name not in in_use and data.columns.get(ours) != name)
            if ours not in samples[table].column_names and is_wanted:
                theirs.setdefault(ours, set()).add(name)
                outlook.columns.setdefault(table, {})[ours] = name
    for ours, names in theirs.items():
        if len(names) > 1:
            outlook.hints.append(
                f"{ours} is called {' and '.join(sorted(names))} in different tables, and data.columns knows one "
                "name; rename one, or let `kindling data import generic` do it"
            )
    found = {ours: min(names) for ours, names in theirs.items() if len(names) == 1}
    if found.items() - outlook.config.data.columns.items():
        outlook.change(columns={**outlook.config.data.columns, **found})


def _encodings(heads: Mapping[TableName, Head]) -> list[str]:
    """Files that are not UTF-8, and what they seem to be."""
    hints = []
    for head in heads.values():
        if any("UTF-8" in row.reason or "utf-8" in row.reason for row in head.bad):
            chunk = head.chunks[0]
            encoding = detect(_start(chunk))
            if encoding != "utf-8":
                name = Path(chunk.path).name
                hints.append(
                    f"{name} is not UTF-8 and looks like {encoding}: `iconv -f {encoding} -t utf-8 {name}` mends it, "
                    f"or `kindling data import generic --encoding {encoding}`"
                )
    return hints


def _start(chunk: Chunk) -> bytes:
    """The first bytes of a text file, unpacked, up to the end of a line."""
    filesystem, _ = open_filesystem(chunk.uri)
    with filesystem.open_input_stream(chunk.path) as stream:  # by its ending, gzip is unpacked
        raw = bytes(stream.read(_SAMPLE_BYTES))
    return raw[: raw.rfind(b"\n") + 1] or raw


def rename_hint(ids: Iterable[str], known: set[str]) -> str:
    """What would make ids that are not known the same as known ones; empty where nothing simple would."""
    unknown = list(ids)
    ways = (
        (
            "written 12.0 in one table and 12 in the other (a column with gaps that pandas has made floats of)",
            _whole,
        ),
        ("written with zeros before them in one table only", lambda i: i.lstrip("0")),
        ("written in capitals in one table only", str.casefold),
        ("written with marks around or between them in one table only", lambda i: re.sub(r"[\W_]", "", i)),
    )
    for words, plain in ways:
        same = {plain(k) for k in known}
        met = sum(plain(i) in same for i in unknown)
        if met >= 0.5 * len(unknown):
            return f"{met} of {len(unknown)} unknown ids would be known were they not {words}"
    return ""


def _whole(text: str) -> str:
    return re.sub(r"\.0+$", "", text)
