"""One build against the version in service: everything that is measured, in the order in which it is told."""

from __future__ import annotations

from pipelines.core.config import DriftConfig
from pipelines.core.drift.events import compare_amounts, compare_behaviour
from pipelines.core.drift.findings import Comparison
from pipelines.core.drift.matching import match
from pipelines.core.drift.scores import compare_scores
from pipelines.core.drift.sources import Source
from pipelines.core.drift.texts import compare_hidden, compare_members, compare_texts, compare_vectors


def compare(before: Source, after: Source, bounds: DriftConfig, n_embedding: int, k: int) -> Comparison:
    """Measure everything.

    Args:
        before: the version in service.
        after: the build that would take its place.
        bounds: and how much to look at.
        n_embedding: columns of a profile that are the encoder's, in the build.
        k: places of a list.

    """
    found = Comparison(bounds)
    items = match(before.item_ids, after.item_ids, bounds.sample_items)
    users = match(before.user_ids, after.user_ids, bounds.sample_users)
    compare_members(found, "items", "catalogue", items)
    compare_hidden(found, before, after)
    compare_texts(found, before, after, items)
    compare_vectors(found, before, after, items, n_embedding)
    compare_members(found, "users", "events", users)
    compare_amounts(found, before, after)
    compare_behaviour(found, before, after, items, users)
    compare_scores(found, before, after, items, users, k)
    return found
