"""What requests and answers look like on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from pipelines.core.schema import MAX_WEIGHT
from serving.store.schema import MOST_ID_CHARS

# no control characters: PostgreSQL keeps no zero, a path loses a last line end; nor what stands for bytes of no UTF-8.
# A build leaves blanks around an id away; here it would be another item, which is shown under the same id
Id = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=MOST_ID_CHARS, pattern=r"^[^\x00-\x1f\x7f\ufffd]+$"
    ),
]
RequestId = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z-]{8,64}$")]
_LEAST_WEIGHT = 1e-6
"""Less than this is nothing in single precision, once it is squared."""
FilterScalar = str | int | float | bool
FIELDS = (
    "columns of the items, such as title, to answer with each as `metadata`; `/v1/catalogue` has their names"
)


class Strict(BaseModel):
    """Base of request bodies: an unknown field is an error, not a silently ignored wish."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class EventBody(Strict):
    """One thing the user did."""

    item_id: Id
    event: str | None = Field(None, max_length=64, description="kind of event, as in data.event_weights")
    weight: float = Field(1.0, ge=_LEAST_WEIGHT, le=MAX_WEIGHT)


class EventToStore(EventBody):
    """One thing somebody did, to be kept."""

    event_id: Id | None = Field(
        None, description="your name for it; the same one again is the same event. Absent: one is made"
    )
    user_id: Id
    timestamp: float | None = Field(
        None, ge=0, le=253_402_300_799, description="seconds since 1970, UTC; absent: when it is received"
    )
    request_id: RequestId | None = Field(
        None, description="of the answer whose list it came of, so that policies can be judged by it"
    )


class EventsBody(Strict):
    """Events to keep."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "events": [
                        {
                            "event_id": "order-77-1",
                            "user_id": "u00042",
                            "item_id": "i00007",
                            "event": "purchase",
                        },
                        {
                            "user_id": "visitor-9f3",
                            "item_id": "i00012",
                            "event": "click",
                            "timestamp": 1790000000,
                        },
                    ]
                }
            ]
        }
    )

    events: list[EventToStore] = Field(min_length=1)


class Acknowledged(BaseModel):
    """What became of one event."""

    event_id: str
    outcome: Literal["stored", "duplicate", "conflict"] = Field(
        description="conflict: another event has this id already, and stays as it is"
    )


class EventsAnswer(BaseModel):
    """What became of each event, in the order given."""

    events: list[Acknowledged]


class UserBody(Strict):
    """What a user says of themselves."""

    description: str = Field(min_length=1, pattern=r"^[^\x00]*$")


class UserAnswer(BaseModel):
    """What is stored of a user."""

    user_id: str
    description: str | None
    is_forgotten: bool = Field(
        description="whether what is known of them from before a deletion is left unused"
    )
    events: list[EventToStore] = Field(description="the newest ones, oldest first")


class MergeBody(Strict):
    """Who a user was before."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"former_id": "visitor-9f3"}]})

    former_id: Id


class Merged(BaseModel):
    """A user with what was another's."""

    user_id: str
    moved_events: int


class Forgotten(BaseModel):
    """A user who is stored no more."""

    user_id: str
    deleted_events: int


class Bounds(Strict):
    """min <= value <= max."""

    min: float | None = None
    max: float | None = None


class Asking(Strict):
    """Who asks; everything is optional."""

    user_id: Id | None = None
    user_text: str | None = Field(None, description="who the user says they are")
    query: str | None = Field(None, description="what they look for now")
    events: list[EventBody] = Field(
        default_factory=list,
        description="what they did just now, oldest first; counts here and is not stored",
    )
    explain: bool = False
    fields: list[str] = Field(default_factory=list, description=FIELDS)


class RecommendBody(Asking):
    """Who asks for what; everything is optional."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_text": "I spend most weekends hiking and like light, simple gear", "n": 5},
                {"query": "waterproof tent for two", "filter": {"price": {"max": 200}}},
                {"user_id": "u00042", "events": [{"item_id": "i00007", "event": "click"}]},
            ]
        }
    )

    n: int = Field(10, ge=1)
    offset: int = Field(0, ge=0, description="places that were shown already: the next page")
    diversity: float | None = Field(
        None,
        ge=0,
        le=1,
        description="0: the best items, however alike; larger: fewer that are alike. Absent: serve.diversity",
    )
    exclude_ids: list[Id] = Field(default_factory=list)
    filter: dict[str, FilterScalar | list[FilterScalar] | Bounds] = Field(
        default_factory=dict, description="column: value, list of values, or {min, max}"
    )
    rules: bool = Field(True, description="false: as though the shop had no rules")


class ItemAnswer(BaseModel):
    """One place of the list."""

    item_id: str
    score: float
    rank: int
    source: Literal["text", "fold_in", "hot", "fallback"]
    parts: dict[str, float] | None = None
    propensity: float | None = Field(
        None, description="with exploring: how likely this item was at this place"
    )
    metadata: dict[str, JsonValue] | None = None


class RecommendAnswer(BaseModel):
    """The list and what made it."""

    request_id: str
    model_version: str
    items: list[ItemAnswer]
    experiment: str | None = Field(None, description="the A/B test that had a part in this; absent: none had")
    variant: str | None = Field(None, description="how it had this user answered")


class RankBody(Asking):
    """Who asks, and which items to put in order for them."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"user_text": "I like hiking", "item_ids": ["i00007", "i00012", "i00003"]}]
        }
    )

    item_ids: list[Id] = Field(
        min_length=1, description="to be ranked; what the user knows or is hidden as well"
    )
    rules: bool = Field(False, description="true: boost, bury and freshness have a say in the order")


class SimilarItem(BaseModel):
    """An item like another."""

    item_id: str
    score: float = Field(description="cosine of what both are served by, text and behaviour")
    rank: int
    metadata: dict[str, JsonValue] | None = None


class SimilarAnswer(BaseModel):
    """Items like one item."""

    model_version: str
    items: list[SimilarItem]


class EncodeBody(Strict):
    """Texts to encode."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"texts": ["a light tent", "轻便的帐篷"]}]})

    texts: list[str] = Field(min_length=1)


class EncodeAnswer(BaseModel):
    """Vectors of length 1, of the encoder of the version in service; zeros for an empty text."""

    model_version: str
    encoder: str
    vectors: list[list[float]]


class ItemFieldsBody(Strict):
    """What is said of an item."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"fields": {"title": "Two-person tent", "description": "Light and waterproof", "price": 149}}
            ]
        }
    )

    fields: dict[str, Any] = Field(
        min_length=1,
        description="column to value; the columns are those of the items of the version in service",
    )


class ItemFields(BaseModel):
    """What is known of an item."""

    item_id: str
    fields: dict[str, Any] = Field(description="those that have a value")


class Withdrawn(BaseModel):
    """An item that is shown no more."""

    item_id: str
