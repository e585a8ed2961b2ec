"""Routes for items and texts, whoever asks: what the version in service knows of them, and what callers say of items.

What is put, changed or withdrawn is in the store when it is acknowledged; every replica, this one too, has it a moment
later (`serve.items_seconds`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from starlette.concurrency import run_in_threadpool

from pipelines.core.config import ServeConfig
from pipelines.core.records import Row, own_columns, to_row
from serving.answering import Current, in_service
from serving.bodies import (
    FIELDS,
    EncodeAnswer,
    EncodeBody,
    Id,
    ItemFields,
    ItemFieldsBody,
    SimilarAnswer,
    Withdrawn,
)
from serving.limits import check_count, check_text
from serving.metadata import to_json
from serving.problems import PROBLEMS
from serving.recommender import Recommender
from serving.steps import Watch, in_thread
from serving.store.store import Store

_UNKNOWN: dict[int | str, dict[str, Any]] = {404: PROBLEMS[422]}


def add_items(router: APIRouter, current: Current, limits: ServeConfig, watch: Watch) -> None:
    """`/items/.../similar` and `/encode`."""

    @router.get(
        "/items/{item_id:id}/similar",
        response_model=SimilarAnswer,
        response_model_exclude_unset=True,
        responses=_UNKNOWN,
    )
    async def similar(
        item_id: Id,
        n: Annotated[int, Query(ge=1)] = 10,
        fields: Annotated[list[str] | None, Query(description=FIELDS)] = None,
    ) -> SimilarAnswer:
        """The items most like one of them, by text and behaviour."""
        model = in_service(current)
        if item_id not in model.catalogue:
            raise _no_item(item_id)
        found = await in_thread(watch, model.similar, item_id, n)
        wanted = list(dict.fromkeys(fields or []))
        items = [
            {"item_id": i, "score": score, "rank": rank}
            | ({"metadata": model.metadata(i, wanted)} if wanted else {})
            for rank, (i, score) in enumerate(found, 1)
        ]
        return SimilarAnswer.model_validate({"model_version": model.version, "items": items})

    @router.post("/encode", response_model=EncodeAnswer)
    async def encode(body: EncodeBody) -> EncodeAnswer:
        """Texts as vectors, by the encoder of the version in service."""
        check_count("texts", len(body.texts), limits.max_texts)
        for text in body.texts:
            check_text("texts", text, limits)
        model = in_service(current)
        vectors = await in_thread(watch, model.encode, body.texts)
        return EncodeAnswer(model_version=model.version, encoder=model.encoder_name, vectors=vectors.tolist())


def add_item_changes(reading: APIRouter, writing: APIRouter, current: Current, store: Store) -> None:
    """`/items/{item_id}`: what is known of an item; put, change, withdraw."""

    @reading.get("/items/{item_id:id}", response_model=ItemFields, responses=_UNKNOWN)
    async def get_item(item_id: Id) -> ItemFields:
        """What is known of an item: as built, with what callers have said since."""
        return await run_in_threadpool(_known_item, in_service(current), store, item_id)

    @writing.put("/items/{item_id:id}", response_model=ItemFields)
    async def put_item(item_id: Id, body: ItemFieldsBody) -> ItemFields:
        """Say all that there is to an item, new or not; what was said of it or built before is left.

        A new item is placed by its text and can be recommended a moment later.
        """
        model = in_service(current)
        await run_in_threadpool(
            to_row, item_id, body.fields, model.catalogue.bundle.table, model.config
        )  # as every replica will
        await run_in_threadpool(store.items.put, item_id, body.fields)
        return await run_in_threadpool(_known_item, in_service(current), store, item_id)

    @writing.patch("/items/{item_id:id}", response_model=ItemFields, responses=_UNKNOWN)
    async def patch_item(item_id: Id, body: ItemFieldsBody) -> ItemFields:
        """Say some fields of an item anew, such as a price; null empties one, the others stay."""
        model = in_service(current)
        table = model.catalogue.bundle.table
        await run_in_threadpool(to_row, item_id, body.fields, table, model.config)
        is_known = model.catalogue.is_built(item_id)
        if not await run_in_threadpool(store.items.patch, item_id, body.fields, is_known=is_known):
            raise _no_item(item_id)
        return await run_in_threadpool(_known_item, in_service(current), store, item_id)

    @writing.delete("/items/{item_id:id}", response_model=Withdrawn)
    async def withdraw_item(item_id: Id) -> Withdrawn:
        """Show an item no more, until it is put again; behaviour with it still tells of its users."""
        await run_in_threadpool(store.items.withdraw, item_id)
        return Withdrawn(item_id=item_id)


def _known_item(model: Recommender, store: Store, item_id: str) -> ItemFields:
    """As built, with what callers have said since.

    Raises:
        HTTPException: there is no such item.

    """
    said, built = store.items.get(item_id), model.catalogue.built(item_id)
    if built is not None and said is not None and said.change <= model.store_point.of(store.store_id).items:
        said = None  # the version was built with it, and with what the tables have said since
    if (said is None and built is None) or (said is not None and said.fields is None):
        raise _no_item(item_id)
    columns = own_columns(model.catalogue.bundle.table, model.config)
    fields = {} if built is None or (said and said.is_whole) else _told(built, columns)
    if said is not None and said.fields is not None:
        fields |= said.fields
    given = {name: value for name, value in fields.items() if value is not None}
    return ItemFields(item_id=item_id, fields=given)


def _told(built: Row, columns: Iterable[str]) -> Row:
    """As `PUT` takes them; whole numbers of any size."""
    return {n: v if isinstance(v := built[n], int) else to_json(v) for n in columns}


def _no_item(item_id: str) -> HTTPException:
    return HTTPException(404, f"item {item_id[:80]!r} is not in this catalogue")
