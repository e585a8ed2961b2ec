"""Routes for what the version in service knows of items and texts, whoever asks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query

from pipelines.core.config import ServeConfig
from serving.answering import Current, in_service
from serving.bodies import EncodeAnswer, EncodeBody, Id, SimilarAnswer
from serving.limits import check_count, check_text
from serving.problems import PROBLEMS
from serving.steps import Watch, in_thread


def add_items(router: APIRouter, current: Current, limits: ServeConfig, watch: Watch) -> None:
    """`/items` and `/encode`."""

    @router.get("/items/{item_id:id}/similar", response_model=SimilarAnswer, responses={404: PROBLEMS[422]})
    async def similar(item_id: Id, n: Annotated[int, Query(ge=1)] = 10) -> SimilarAnswer:
        """The items most like one of them, by text and behaviour."""
        model = in_service(current)
        if not model.knows_item(item_id):
            raise HTTPException(404, f"item {item_id[:80]!r} is not in this catalogue")
        found = await in_thread(watch, model.similar, item_id, n)
        items = [{"item_id": i, "score": score, "rank": rank} for rank, (i, score) in enumerate(found, 1)]
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
