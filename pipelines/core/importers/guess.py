"""Which column of somebody's table is which of ours: by its name, and by what is in it where names do not tell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.columns import string_values
from pipelines.core.errors import InputError
from pipelines.core.schema import REQUIRED, ROW, TableName

_USER = (
    "userid", "user", "uid", "customerid", "customer", "memberid", "visitorid", "accountid", "reviewerid", "profileid",
    "sessionid", "用户id", "用户编号", "用户",
)  # fmt: skip
_ITEM = (
    "itemid", "item", "iid", "productid", "product", "parentasin", "asin", "sku", "movieid", "filmid", "bookid", "isbn",
    "articleid", "songid", "trackid", "artistid", "businessid", "gameid", "newsid", "videoid", "contentid", "goodsid",
    "商品id", "商品编号", "商品", "物品id", "产品id",
)  # fmt: skip
_TEXT = ("description", "desc", "about", "bio", "profile", "描述", "简介", "介绍", "详情")

NAMES: dict[TableName, dict[str, tuple[str, ...]]] = {
    "items": {
        "item_id": (*_ITEM, "id", "编号"),
        "title": (
            "title", "name", "productname", "producttitle", "itemname", "movietitle", "booktitle", "headline", "标题",
            "名称", "商品名称", "商品名", "商品标题", "品名",
        ),
        "description": (
            *_TEXT, "productdescription", "itemdescription", "longdescription", "summary", "abstract", "overview",
            "plot", "body", "content", "text", "商品描述",
        ),
        "brand": ("brand", "manufacturer", "maker", "brandname", "品牌"),
        "categories": (
            "categories", "category", "genres", "genre", "categoryname", "producttype", "department", "section", "类别",
            "分类", "类目",
        ),
        "is_hidden": ("ishidden", "hidden", "isdeleted", "discontinued"),
    },
    "users": {
        "user_id": (*_USER, "id", "编号"),
        "description": (*_TEXT, "interests", "persona", "text", "兴趣"),
    },
    "interactions": {
        "user_id": _USER,
        "item_id": _ITEM,
        "weight": ("weight", "rating", "ratings", "stars", "star", "score", "overall", "grade", "评分", "打分", "权重"),
        "timestamp": (
            "timestamp", "time", "ts", "datetime", "date", "unixtimestamp", "unixtime", "eventtime", "createdat",
            "eventtimestamp", "reviewdate", "orderdate", "purchasedate", "invoicedate", "ratedat", "clicktime",
            "unixreviewtime", "时间", "时间戳", "日期",
        ),
        "event": (
            "event", "eventtype", "action", "actiontype", "behavior", "behaviour", "behaviortype", "interaction",
            "interactiontype", "行为", "行为类型",
        ),
    },
    "relations": {
        "item_id": ("itemid", "item", "source", "from"),
        "relation": ("relation", "relationtype", "type", "link"),
        "other_id": ("otherid", "other", "target", "to", "relatedid"),
    },
}  # fmt: skip
"""Names as people write them, without case and marks."""

_SAME = 0.9
"""Share of ids that must be known for two columns to mean the same things."""
_ID_CHARS = 64
_FEW = 10
"""Fewer distinct values than this may lie in any column of numbers."""


@dataclass
class Guess:
    """What a table's columns are taken for.

    Attributes:
        columns: ours = theirs.
        why: ours = in words, how it was found.

    """

    columns: dict[str, str] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)

    def take(self, ours: str, theirs: str, why: str) -> None:
        """Settle one column."""
        self.columns[ours], self.why[ours] = theirs, why

    def in_words(self) -> str:
        """For people."""
        return ", ".join(f"{ours} = '{theirs}' ({self.why[ours]})" for ours, theirs in self.columns.items())


def guess_columns(
    samples: Mapping[TableName, pa.Table], given: Mapping[tuple[TableName, str], str]
) -> dict[TableName, Guess]:
    """Match columns of all tables together.

    Args:
        samples: the first rows of each table.
        given: (table, our name) = their name, as the caller says; an empty name says that there is none.

    Raises:
        InputError: a column that is needed is not found, or several fit equally well; names them.

    """
    guesses = {table: Guess() for table in samples}
    _take_given(samples, guesses, given)
    for table, sample in samples.items():
        for ours, names in NAMES[table].items():
            if (table, ours) not in given:
                _by_name(table, ours, names, sample, guesses[table])
    _by_overlap(samples, guesses)
    if "items" in samples:
        _by_contents(samples["items"], guesses["items"], given)
    for table, guess in guesses.items():
        for ours in (name for name in REQUIRED[table] if name not in guess.columns):
            raise InputError(
                f"{table}: no column looks like {ours}; the table has {_listed(samples[table])}. Say which it is "
                f"with --column {table}.{ours}=NAME."
            )
    return guesses


def _take_given(
    samples: Mapping[TableName, pa.Table],
    guesses: Mapping[TableName, Guess],
    given: Mapping[tuple[TableName, str], str],
) -> None:
    for (table, ours), theirs in given.items():
        if table not in samples or not theirs:
            continue
        if theirs not in samples[table].column_names:
            raise InputError(
                f"{table}: there is no column '{theirs}', but {_listed(samples[table])}. Mend --column "
                f"{table}.{ours}."
            )
        guesses[table].take(ours, theirs, "as you say")


def plain(name: str) -> str:
    """A name without case and marks: `Product-ID` and `productId` are the same."""
    return re.sub(r"[\W_]", "", name).casefold()


def candidates(ours: str, names: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Columns that bear one of the names; our own name alone where it is there."""
    if ours in columns:
        return [ours]
    return [c for c in columns if plain(c) in names or plain(c) == plain(ours)]


def _by_name(table: TableName, ours: str, names: Sequence[str], sample: pa.Table, guess: Guess) -> None:
    taken = set(guess.columns.values())
    found = [c for c in candidates(ours, names, _columns(sample)) if c not in taken]
    if len(found) > 1 and ours == "item_id" and table == "items":
        found = [c for c in found if is_key(sample.column(c))] or found
    if len(found) > 1:
        raise InputError(
            f"{table}: {ours} may be {_either(found)}. Say which it is with --column {table}.{ours}={found[0]}"
            + ("." if ours in REQUIRED[table] else f", or --column {table}.{ours}= if it is none of them.")
        )
    if found:
        guess.take(ours, found[0], "by its name")


def _by_overlap(samples: Mapping[TableName, pa.Table], guesses: Mapping[TableName, Guess]) -> None:
    """Find an id column by the ids of another table that it repeats."""
    entities: tuple[tuple[TableName, str], ...] = (("items", "item_id"), ("users", "user_id"))
    for table, ours in entities:
        if table not in samples or "interactions" not in samples:
            continue
        theirs = _open_columns(samples[table], guesses[table], ours)
        others = _open_columns(samples["interactions"], guesses["interactions"], ours)
        if len(theirs) == len(others) == 1 and ours in guesses[table].columns:
            continue
        pairs = [
            (a, b)
            for a in theirs
            for b in others
            if is_key(samples[table].column(a))
            and _repeats(samples["interactions"].column(b), samples[table].column(a))
        ]
        if len(pairs) > 1:
            raise InputError(
                f"{ours} may be {_either([f'{a} of {table} with {b} of interactions' for a, b in pairs])}. Say which "
                f"it is with --column {table}.{ours}={pairs[0][0]} --column interactions.{ours}={pairs[0][1]}."
            )
        for a, b in pairs:
            for name, column in ((table, a), ("interactions", b)):
                if ours not in guesses[name].columns:
                    guesses[name].take(ours, column, "by the ids in it")


def _open_columns(sample: pa.Table, guess: Guess, ours: str) -> list[str]:
    if ours in guess.columns:
        return [guess.columns[ours]]
    return [c for c in _columns(sample) if c not in guess.columns.values()]


def _by_contents(sample: pa.Table, guess: Guess, given: Mapping[tuple[TableName, str], str]) -> None:
    """The key and the text of items, where exactly one column can be it."""
    free = [c for c in _columns(sample) if c not in guess.columns.values()]
    if "item_id" not in guess.columns:
        keys = [c for c in free if is_key(sample.column(c))]
        if len(keys) > 1:
            raise InputError(
                f"items: item_id may be {_either(keys)}, whose values are all different. Say which it is with "
                f"--column items.item_id={keys[0]}."
            )
        if keys:
            guess.take("item_id", keys[0], "the only one whose values are all different")
            free.remove(keys[0])
    has_text = {"title", "description"}.intersection(guess.columns) or ("items", "title") in given
    if not has_text:
        prose = [c for c in free if is_prose(sample.column(c))]
        if len(prose) > 1:
            raise InputError(
                f"items: title may be {_either(prose)}. Say which it is with --column items.title={prose[0]}; a "
                f"second one may be --column items.description={prose[1]}."
            )
        if prose:
            guess.take("title", prose[0], "the only one with prose in it")


def _columns(sample: pa.Table) -> list[str]:
    return [c for c in sample.column_names if c != ROW]


def is_key(column: pa.ChunkedArray) -> bool:
    """Whether values are all there, short, and all different."""
    if not (pa.types.is_string(column.type) or pa.types.is_integer(column.type)):
        return False
    texts = string_values(column)
    if not len(texts) or texts.null_count:
        return False
    longest = int(pc.max(pc.utf8_length(texts)).as_py())
    return longest <= _ID_CHARS and len(pc.unique(texts)) == len(texts)


def _repeats(column: pa.ChunkedArray, keys: pa.ChunkedArray) -> bool:
    """Whether nearly all of a column's values, of which there are some, are among `keys`."""
    if pa.types.is_nested(column.type) or pa.types.is_nested(keys.type):
        return False
    distinct = pc.drop_null(pc.unique(string_values(column)))
    if not len(distinct) or len(distinct) < min(_FEW, len(keys)):
        return False
    known = float(pc.mean(pc.is_in(distinct, value_set=string_values(keys)).cast(pa.int8())).as_py())
    return known >= _SAME


def is_prose(column: pa.ChunkedArray) -> bool:
    """Whether a column has words in it: mostly several words or Chinese, mostly different."""
    if not pa.types.is_string(column.type):
        return False
    texts = pc.drop_null(column)
    if not len(texts):
        return False
    has_words = pc.match_substring_regex(
        texts, r"\p{L}.*\s.*\p{L}|[\p{Han}\p{Hangul}\p{Hiragana}\p{Katakana}]{2}"
    )
    return int(pc.sum(has_words).as_py()) > 0.5 * len(texts) and len(pc.unique(texts)) > 0.5 * len(texts)


def _listed(sample: pa.Table) -> str:
    return ", ".join(_columns(sample))


def _either(names: Sequence[str]) -> str:
    return " or ".join(f"'{n}'" for n in names)
