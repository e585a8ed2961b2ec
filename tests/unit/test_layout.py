"""Where things lie."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from pipelines.core.layout import Layout

LAYOUT = Layout(Path("out"))
STAGES = ("ingest", "split", "embed", "factorize", "evaluate")


def all_paths() -> dict[str, Path]:
    """Every path there is, by name; methods with all their arguments."""
    paths = {
        name: getattr(LAYOUT, name) for name, member in vars(Layout).items() if isinstance(member, property)
    }
    for table in ("items", "users"):
        paths |= {f"ids {table}": LAYOUT.ids(table), f"text {table}": LAYOUT.text_embeddings(table)}
    for model in ("train", "full"):
        paths[f"maps {model}"] = LAYOUT.text_maps(model)
        for side in ("user", "item"):
            paths[f"pairs {model} {side}"] = LAYOUT.pairs(model, side)
            paths[f"factors {model} {side}"] = LAYOUT.factors(model, side)
    paths |= {f"relevant {which}": LAYOUT.relevant(which) for which in ("validation", "test")}
    paths |= {f"marker {name}": LAYOUT.marker(name) for name in STAGES}
    return paths


def test_paths_are_distinct_and_under_the_root() -> None:
    paths = all_paths()
    assert len(set(paths.values())) == len(paths)
    for path in paths.values():
        assert LAYOUT.root in path.parents


def test_the_cache_and_the_bundles_outlive_the_stages() -> None:
    for path in (LAYOUT.embedding_cache("abc"), LAYOUT.bundle("v1"), LAYOUT.current, LAYOUT.metrics):
        assert not any(LAYOUT.stage(name) in path.parents for name in STAGES)
    assert LAYOUT.embedding_cache("abc") != LAYOUT.embedding_cache("abd")
    assert LAYOUT.bundle("v1").parent == LAYOUT.bundles


def test_a_stage_owns_its_artefacts() -> None:
    owners = {
        "ingest": (LAYOUT.tables, LAYOUT.rejects, LAYOUT.ids("items"), LAYOUT.ingest_report),
        "split": (
            LAYOUT.pairs("full", "item"),
            LAYOUT.relevant("test"),
            LAYOUT.item_roles,
            LAYOUT.split_report,
        ),
        "embed": (LAYOUT.text_embeddings("users"), LAYOUT.embed_report),
        "factorize": (LAYOUT.factors("train", "user"), LAYOUT.text_maps("full")),
        "evaluate": (LAYOUT.evaluation, LAYOUT.evaluation_report),
    }
    for name, paths in owners.items():
        assert all(LAYOUT.stage(name) in path.parents for path in (*paths, LAYOUT.marker(name)))


def test_it_is_frozen_and_travels() -> None:
    with pytest.raises(FrozenInstanceError):
        LAYOUT.root = Path("other")  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(LAYOUT)) == LAYOUT  # noqa: S301 - our own
