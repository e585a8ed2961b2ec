"""What is asked of a recommender and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from serving.exploring import Exploration
from serving.filters import Filter
from serving.metadata import Json

Source = Literal["text", "fold_in", "hot", "fallback"]


@dataclass(frozen=True)
class Event:
    """One thing a user did.

    Attributes:
        item_id: with what.
        event: kind, a key of data.event_weights; absent counts as weight 1.
        weight: times the kind's weight.
        seq: its number in a store; 0: it is in none.

    """

    item_id: str
    event: str | None = None
    weight: float = 1.0
    seq: int = 0


@dataclass(frozen=True)
class Request:
    """Who asks for what. Everything may be absent: then the most popular items answer.

    Attributes:
        user_id: history and own words known to the bundle are used; an unknown id is a new user.
        user_text: who the user says they are.
        query: what they look for now.
        events: what they did that the bundle does not know, oldest first.
        stored: what a store knows that they did; what the version was built with counts once, and what it does not
            know is passed over.
        store_id: of that store.
        passed: items that were shown to them, with what is added to the confidence that they are not wanted, see
            `pipelines.core.passing`; those that they have touched are left out.
        forgotten_at: what the bundle knows of them from before must not be used; None: all may be.
        among: the items to put in order, known to the user or hidden as they may be; None: all that may be shown.
        n: length of the list.
        offset: places before it that were shown already.
        diversity: 0 to 1, see `pipelines.core.diversity`; None: as `serve.diversity` says.
        gamma: weight of the text-text term in place of `blend.gamma`; None: as the version has it.
        exclude_ids: never answered.
        filter: column to condition on item metadata, see `serving.filters`.
        rules: whether the business rules hold.
        explain: split each score.
        exploration: how the list may try something; None: it does not.
        fields: columns of the items to answer with each.

    """

    user_id: str | None = None
    user_text: str | None = None
    query: str | None = None
    events: Sequence[Event] = ()
    stored: Sequence[Event] = ()
    store_id: str | None = None
    passed: Mapping[str, float] = field(default_factory=dict)
    forgotten_at: float | None = None
    among: Sequence[str] | None = None
    n: int = 10
    offset: int = 0
    diversity: float | None = None
    gamma: float | None = None
    exclude_ids: Sequence[str] = ()
    filter: Filter = field(default_factory=dict)
    rules: bool = True
    explain: bool = False
    exploration: Exploration | None = None

    @property
    def is_plain(self) -> bool:
        """Whether nothing is asked but a list for the user."""
        words = self.user_text or self.query
        return not (words or self.events or self.among is not None or self.exclude_ids or self.filter)

    fields: Sequence[str] = ()


@dataclass(frozen=True)
class Recommended:
    """One place of the list.

    Attributes:
        item_id: the item.
        score: comparable within one answer only.
        rank: from 1.
        source: `text` where the item or the user is known by text alone, `fold_in` where the request's events
            took part, `hot` where both are known by behaviour, `fallback` where nothing is known of the user.
        parts: with `explain`, named shares that add up to the score.
        propensity: of this item at this place, where the list explores.
        metadata: the columns asked for.

    """

    item_id: str
    score: float
    rank: int
    source: Source
    parts: dict[str, float] | None = None
    propensity: float | None = None
    metadata: dict[str, Json] | None = None


class Answer(list[Recommended]):
    """A list, with what is to be known of it later.

    Attributes:
        policy: by which places were chosen, see `explore.policy`.
        scores: of its items, without what exploring added.
        best: ids of what would have been shown without exploring.

    """

    policy: str
    scores: Sequence[float]
    best: Sequence[str]
