"""Routes for what the catalogue holds, and for an item that is not in it yet."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

import pyarrow as pa
from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from pipelines.core.config import ServeConfig
from pipelines.core.errors import InputError
from pipelines.core.records import to_row
from pipelines.core.schema import TEXT
from pipelines.core.text import clean_text
from serving.answering import Current, in_service
from serving.audience import Audience, Samples
from serving.catalogue_bodies import (
    AudienceAnswer,
    AudienceBody,
    AudienceOfUsers,
    CatalogueAnswer,
)
from serving.limits import check_count, check_text
from serving.metadata import describe, scripts
from serving.recommender import Recommender
from serving.store.store import Store


def add_catalogue(
    reading: APIRouter, administering: APIRouter, current: Current, store: Store, limits: ServeConfig
) -> None:
    """`/catalogue` and `/items/audience`."""
    described = _Described()
    samples = Samples(limits.audience_users)
    ask = partial(_audience, samples, store, limits)

    @reading.get("/catalogue", response_model=CatalogueAnswer)
    async def catalogue() -> CatalogueAnswer:
        """What can be asked of the version in service: columns, kinds of event, sizes."""
        model = in_service(current)
        facts = await run_in_threadpool(described.of, model)
        config = model.config
        return CatalogueAnswer.model_validate(
            {
                "model_version": model.version,
                "encoder": model.encoder_name,
                "n_items": model.catalogue.n_items,
                "n_users": model.n_users,
                "item_text": list(config.data.item_text),
                "events": config.data.event_weights,
                # a list is as long as the version allows, the rest is the service's to say
                "limits": limits.model_dump() | {"max_n": config.serve.max_n},
                **facts,
            }
        )

    @reading.post("/items/audience", response_model=AudienceAnswer)
    async def audience(body: AudienceBody) -> AudienceAnswer:
        """Whom an item would be shown to that is not in the catalogue yet, by its text; nothing is stored.

        The sample of users is solved for when this is first asked of a version, which may take seconds.
        """
        return AudienceAnswer.model_validate(await run_in_threadpool(ask, in_service(current), body))

    @administering.post("/admin/items/audience", response_model=AudienceOfUsers)
    async def audience_of_users(body: AudienceBody) -> AudienceOfUsers:
        """The same, and which of the users asked would see it first."""
        return AudienceOfUsers.model_validate(await run_in_threadpool(ask, in_service(current), body))


class _Described:
    """Facts of the items as they were built, counted once a version: that takes long where there are many."""

    def __init__(self) -> None:
        self._last: tuple[pa.Table, dict[str, object]] | None = None

    def of(self, model: Recommender) -> dict[str, object]:
        last, items = self._last, model.catalogue.bundle.table
        if last is None or last[0] is not items:
            columns = [asdict(facts) for facts in describe(items)]
            last = self._last = (items, {"columns": columns, "scripts": scripts(items)})
        return last[1]


def _audience(
    samples: Samples, store: Store, limits: ServeConfig, model: Recommender, body: AudienceBody
) -> dict[str, object]:
    text = _text(body, model, limits)
    check_count("user_texts", len(body.user_texts), limits.max_texts)
    for given in body.user_texts:
        check_text("user_texts", given, limits)
    vector = model.place_text(text)
    fields = list(dict.fromkeys(body.fields))
    nearest = [
        {"item_id": item, "score": score, "rank": rank}
        | ({"metadata": model.metadata(item, fields)} if fields else {})
        for rank, (item, score) in enumerate(model.nearest(vector, body.n), 1)
    ]
    sample = samples.of(model)
    found: Audience = sample.audience(
        model, vector, body.n, body.user_texts, store.forgotten.among(sample.user_ids)
    )
    return {
        "model_version": model.version,
        "text": text,
        "nearest": nearest,
        "n_users": found.n_users,
        "reach": [{"n": n, "share": share} for n, share in found.reach.items()],
        "median_rank": found.median_rank,
        "interests": [asdict(interest) for interest in found.interests],
        "user_texts": [{"rank": rank} for rank in found.text_ranks],
        "users": [{"user_id": user, "rank": rank} for user, rank in found.users],
    }


def _text(body: AudienceBody, model: Recommender, limits: ServeConfig) -> str:
    """The item's text as a build would read it."""
    if (body.text is None) == (not body.item):
        raise InputError("give either text or item, which says its columns; expected exactly one of them.")
    if body.text is not None:
        check_text("text", body.text, limits)
        text = clean_text(body.text)
    else:
        text = str(to_row("new", body.item, model.catalogue.bundle.table, model.config)[TEXT])
    if not text:
        raise InputError("there are no words in it; expected a title, a description or the like.")
    return text
