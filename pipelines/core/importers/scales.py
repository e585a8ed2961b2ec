"""What numbers and words of interactions are worth, as far as they tell."""

from __future__ import annotations

from collections.abc import Iterable

from pipelines.core.importers.guess import plain
from pipelines.core.sections.data import DataConfig

_RATING_NAMES = ("rating", "ratings", "stars", "star", "score", "overall", "grade", "评分", "打分")
_LIKED = 0.8
"""Share of the scale from which a rating is a like: four stars of five."""
_MAX_STEPS = 21

_SYNONYMS = {
    "view": ("pv", "pageview", "viewed", "show", "impression", "detail", "浏览", "查看"),
    "click": ("clicked", "clk", "点击"),
    "cart": ("addtocart", "addcart", "basket", "addtobasket", "加购", "加购物车"),
    "like": (
        "liked",
        "fav",
        "favorite",
        "favourite",
        "bookmark",
        "wishlist",
        "save",
        "share",
        "收藏",
        "喜欢",
        "点赞",
    ),
    "purchase": (
        "buy",
        "bought",
        "purchased",
        "order",
        "ordered",
        "transaction",
        "sale",
        "pay",
        "payment",
        "购买",
        "下单",
    ),
    "dislike": ("disliked", "skip", "hide", "hate", "notinterested", "不喜欢"),
}


def rating_threshold(name: str, low: float, high: float, *, n_distinct: int) -> float | None:
    """From which weight on a row is a like, where a column is of ratings: by its name, or by a scale of 5 or 10."""
    is_scale = high in (5.0, 10.0, 100.0) and 0 <= low <= 1 and n_distinct <= _MAX_STEPS
    if plain(name) not in _RATING_NAMES and not (plain(name) != "weight" and is_scale):
        return None
    return _LIKED * high if low >= 0 and high > 1 else None


def event_weights(events: Iterable[str]) -> dict[str, float]:
    """Weights of events by what their names mean; 1 where they mean nothing known."""
    usual = DataConfig().event_weights
    means = {word: event for event, words in _SYNONYMS.items() for word in words}
    return {
        event: usual.get(event, usual.get(means.get(plain(event), ""), 1.0)) for event in sorted(set(events))
    }
