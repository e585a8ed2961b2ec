"""What answers about the catalogue, an item and a new item look like on the wire."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from serving.bodies import FIELDS, SimilarItem, Strict

Text = Annotated[str, StringConstraints(min_length=1)]


class ColumnAnswer(BaseModel):
    """A column of the items."""

    name: str
    type: str = Field(description="as Apache Arrow calls it")
    values: dict[str, int] | None = Field(
        description="of few texts, or true and false: each with its number of items as built; else null"
    )


class SizeLimits(BaseModel):
    """Sizes that a request may have."""

    max_n: int
    max_text_chars: int
    max_events: int
    max_texts: int


class CatalogueAnswer(BaseModel):
    """What can be asked of the version in service."""

    model_version: str
    encoder: str
    n_items: int = Field(description="as built, and those that came since")
    n_users: int = Field(description="known to the build")
    columns: list[ColumnAnswer]
    item_text: list[str] = Field(description="columns that make an item's text")
    scripts: dict[str, int] = Field(
        description="writing, by its name in Unicode, to the number of items, as built, whose text has letters of it"
    )
    events: dict[str, float] = Field(description="kinds of event and what they weigh")
    limits: SizeLimits


class AudienceBody(Strict):
    """An item that is not in the catalogue."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "item": {"title": "Two-person tent", "description": "Light and waterproof"},
                    "fields": ["title"],
                },
                {"text": "手冲咖啡壶，细口，600 毫升", "user_texts": ["我每天早上自己做咖啡"]},
            ]
        }
    )

    text: Text | None = Field(None, description="all that is to be known of it; or give `item`")
    item: dict[str, Any] = Field(
        default_factory=dict, description="its columns, as `PUT /v1/items/{item_id}` takes them in `fields`"
    )
    n: int = Field(10, ge=1, description="places of a list that count as seen; also the number of neighbours")
    user_texts: list[Text] = Field(
        default_factory=list, description="what users might say of themselves: for each, the rank of the item"
    )
    fields: list[str] = Field(default_factory=list, description=FIELDS)


class ReachAnswer(BaseModel):
    """How many would see an item."""

    n: int
    share: float = Field(description="of the users asked, in whose n best items it would be")


class InterestAnswer(BaseModel):
    """What those who would see an item want more often than others."""

    column: str
    value: str
    users: int
    share: float = Field(description="of those who would see it")
    typical_share: float = Field(description="of all users asked")


class TextRank(BaseModel):
    """The item's rank for one text."""

    rank: int | None = Field(description="null: beyond serve.max_n")


class AudienceAnswer(BaseModel):
    """Whom an item would be shown to, were it in the catalogue and nobody had touched it yet."""

    model_version: str
    text: str = Field(description="what is known of it, as it was put together")
    nearest: list[SimilarItem]
    n_users: int = Field(description="known users asked, drawn once for each version (serve.audience_users)")
    reach: list[ReachAnswer] = Field(description="empty where fewer than five users can be asked")
    median_rank: int | None = Field(description="null: beyond serve.max_n for half of the users")
    interests: list[InterestAnswer] = Field(description="each of at least five users")
    user_texts: list[TextRank]


class Reached(BaseModel):
    """A user who would see an item."""

    user_id: str
    rank: int


class AudienceOfUsers(AudienceAnswer):
    """The same with the users' ids, for administrators."""

    users: list[Reached] = Field(description="those of the users asked who would see it first, at most 20")
