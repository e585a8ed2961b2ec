"""What slices and metrics are called and mean, how numbers are written, and when a difference is clear."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

SLICES: dict[str, tuple[str, str]] = {
    "cold": ("cold items", "items that training has never seen in any form, known by their text alone; the candidates "
             "are all of them"),
    "warm": ("known items", "held-out pairs of items that training knows; the candidates are all of those, without "
             "what the user had in training"),
    "all": ("all items", "cold and known together; every item of the catalogue competes"),
    "text_only": ("new users, own words", "users held out whole, known by the words they say about themselves, with no "
                  "behaviour at all"),
    "query_only": ("new users, one query", "users held out whole, known by one typed query: the title of an item they "
                   "liked, which is not among what is to be found"),
}  # fmt: skip
METRICS: dict[str, str] = {
    "recall": "hits among the first k, divided by the number of relevant items",
    "ndcg": "hits discounted by log2(position + 1), divided by the largest value that min(k, relevant) items can reach",
    "map": "average precision: precision at each hit among the first k, summed, over the number of relevant items",
    "mrr": "1 / position of the first hit among the first k, else 0",
    "hit_rate": "share of users with at least one hit among the first k",
    "coverage": "share of the candidates that stand in at least one user's list",
    "gini": "inequality of how list places fall on candidates: 0 all alike, 1 one item takes all",
    "novelty": "mean of −log2 of the share of training's users who have the listed item, in bits; more is less known",
    "diversity": "mean over pairs in a list of 1 − cosine of their text embeddings",
    "cold_share": "share of list places taken by cold items",
    "popularity_bias": "popularity (share of items that are less popular) of what is listed, less that of what the "
    "user chose; 0 is unbiased",
}  # fmt: skip
_REVEALED = re.compile(r"revealed_(\d+)")
DASH = "–"
_DIRECTIONS = {"gini": -1, "novelty": 0, "cold_share": 0, "popularity_bias": 0}


def direction(metric: str) -> int:
    """1 where more is better, -1 where less is, 0 where neither is."""
    return _DIRECTIONS.get(metric.partition("@")[0], 1)


def slice_title(name: str) -> str:
    """What a slice is called on the page; an unknown one goes by its key."""
    if found := _REVEALED.fullmatch(name):
        return f"new users, {found[1]} revealed"
    return SLICES.get(name, (name, ""))[0]


def slice_meaning(name: str) -> str:
    """Who is measured on what, in a sentence without a full stop."""
    if found := _REVEALED.fullmatch(name):
        plural = "" if found[1] == "1" else "s"
        return (
            f"users held out whole of whom exactly {found[1]} interaction{plural} {'is' if not plural else 'are'} "
            "revealed, beside their own words; a last third of what they did is to be found, the same for every number"
        )
    return SLICES.get(name, ("", "no description"))[1]


def ordered_slices(names: Sequence[str]) -> list[str]:
    """Known slices in reading order, then revealed ones by their number, then others as they come."""
    known = list(SLICES)

    def place(name: str) -> tuple[int, int]:
        if found := _REVEALED.fullmatch(name):
            return (1, int(found[1]))
        return (0, known.index(name)) if name in known else (2, 0)

    return sorted(dict.fromkeys(names), key=place)


def revealed(name: str) -> int | None:
    """How many interactions a slice reveals; None for slices that are not about that."""
    found = _REVEALED.fullmatch(name)
    return int(found[1]) if found else None


def finite(value: object) -> float | None:
    """The number, or None where there is none (null, NaN, infinite, a word)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def number(value: float | None, metric: str = "") -> str:
    """A figure as it stands in tables; `–` where there is none. Bits and lifts go with two decimals."""
    if value is None:
        return DASH
    digits = 2 if metric.startswith(("novelty", "popularity_bias")) else 4
    return f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, metric: str = "") -> str:
    """A difference with its sign."""
    if value is None:
        return DASH
    return ("+" if value > 0 else "") + number(value, metric)


def between(bounds: tuple[float, float] | None, metric: str = "", *, sign: bool = False) -> str:
    """An interval, `[low, high]`; the empty string where there is none."""
    if bounds is None:
        return ""
    write = signed if sign else number
    return f"[{write(bounds[0], metric)}, {write(bounds[1], metric)}]"


@dataclass(frozen=True)
class Verdict:
    """Whether an interval is clear of zero: a CSS class, a sign and words, so that colour is never alone."""

    css: str
    sign: str
    words: str


def verdict(
    bounds: tuple[float, float] | None, above: str = "clearly ahead", below: str = "clearly behind"
) -> Verdict:
    """Above, below, or not clear of zero; an interval that touches zero is not clear of it."""
    if bounds is None:
        return Verdict("unknown", DASH, "no interval")
    low, high = bounds
    if low > 0:
        return Verdict("ahead", "▲", above)
    if high < 0:
        return Verdict("behind", "▼", below)
    return Verdict("unclear", "≈", "no clear difference")


def tone(seen: Verdict, metric: str) -> str:
    """The CSS class of a verdict, turned round where less is better and neutral where neither is."""
    better = direction(metric)
    if seen.css not in ("ahead", "behind") or better == 1:
        return seen.css
    if better == 0:
        return "unclear"
    return "behind" if seen.css == "ahead" else "ahead"
