"""`kindling predict`: what a fine-tuning with a model of its own says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from pipelines.core.errors import InputError
from pipelines.core.finetune.taught import Scored, Taught
from pipelines.core.layout import Layout
from serving.recommender import load_current
from serving.requests import Request

_CANDIDATES = 100
"""Of the version in service, to be put in order; each costs a pass of the taught model."""


def predict_and_print(
    layout: Layout,
    texts: Sequence[str],
    user_id: str | None,
    query: str | None,
    items: Sequence[str] | None,
    n: int,
) -> None:
    """Ask by what is given.

    Raises:
        ArtefactError: nothing is taught.
        InputError: what is given is not what this model can be asked with.

    """
    taught = Taught(layout)
    if taught.objective == "classification":
        if not texts:
            raise InputError("this build was taught to classify texts: give --text, once or more.")
        _print_classes(texts, taught.classes(texts))
        return
    words = " ".join(texts)
    if taught.objective == "next_behaviour":
        asked = query or words
        if not asked and user_id is None:
            raise InputError("this build was taught what comes next: give --query or --user-id.")
        among = items or _candidates(layout, Request(query=asked or None, user_id=user_id, n=_CANDIDATES))
        _print_scored("log-likelihood", taught.next(n, asked, user_id, among))
        return
    if not words and user_id is None:
        raise InputError(
            f"this build was taught to score pairs ({taught.objective}): give --text or --user-id."
        )
    chosen = items or _candidates(layout, Request(user_text=words or None, user_id=user_id, n=_CANDIDATES))
    _print_scored(taught.objective, taught.scores(chosen, words, user_id)[:n])


def _candidates(layout: Layout, request: Request) -> list[str]:
    """What the version in service would recommend."""
    if not layout.current.is_file():
        raise InputError(
            f"nothing is published in {layout.root} that could say which items to look at. Give --item-id, or run "
            "`kindling build`."
        )
    model = load_current(layout.root)
    most = min(request.n, model.config.serve.max_n)
    return [item.item_id for item in model.recommend(replace(request, n=most))]


def _print_classes(texts: Sequence[str], found: Sequence[dict[str, float]]) -> None:
    table = Table("class", "probability", "text", box=None)
    for text, classes in zip(texts, found, strict=True):
        for number, (name, probability) in enumerate(classes.items()):
            table.add_row(name, f"{probability:.3f}", "" if number else text)
    Console(highlight=False, markup=False).print(table)


def _print_scored(what: str, found: Scored) -> None:
    table = Table("item", what, box=None)
    for item, score in found:
        table.add_row(item, f"{score:.4f}")
    Console(highlight=False, markup=False).print(table)
