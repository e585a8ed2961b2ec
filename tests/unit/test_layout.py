"""Where things lie."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from pipelines.core.layout import HELD_OUT, Layout, fitted_models

LAYOUT = Layout(Path("out"))
STAGES = ("ingest", "split", "embed", "profile", "factorize", "evaluate")


def all_paths() -> dict[str, Path]:
    """Every path there is, by name; methods with all their arguments."""
    paths = {
        name: getattr(LAYOUT, name) for name, member in vars(Layout).items() if isinstance(member, property)
    }
    for table in ("items", "users"):
        paths[f"ids {table}"] = LAYOUT.ids(table)
    for table in ("items", "users", "queries"):
        paths[f"text {table}"] = LAYOUT.text_embeddings(table)
    for model in ("train", "newcomers", "held", "full"):
        paths[f"maps {model}"] = LAYOUT.text_maps(model)
        paths[f"item profiles {model}"] = LAYOUT.item_profiles(model)
        paths[f"own profiles {model}"] = LAYOUT.own_profiles(model)
        paths[f"query profiles {model}"] = LAYOUT.query_profiles(model)
        paths[f"means {model}"] = LAYOUT.profile_means(model)
        paths[f"lexical {model}"] = LAYOUT.lexical(model)
        for table in ("items", "users", "queries"):
            paths[f"words {model} {table}"] = LAYOUT.lexical_vectors(model, table)
        for side in ("user", "item"):
            paths[f"pairs {model} {side}"] = LAYOUT.pairs(model, side)
            paths[f"factors {model} {side}"] = LAYOUT.factors(model, side)
    for which in HELD_OUT:
        paths[f"relevant {which}"] = LAYOUT.relevant(which)
        paths[f"known {which}"] = LAYOUT.known(which)
        paths[f"newcomers {which}"] = LAYOUT.newcomers(which)
    for model in ("kindling", "als"):
        paths[f"tuning {model}"] = LAYOUT.tuning(model)
        paths |= {f"study {model} {f}": LAYOUT.study(model, f) for f in ("abc", "abd")}
        paths[f"trials {model}"] = LAYOUT.trials(model)
        paths[f"tuning report {model}"] = LAYOUT.tuning_report(model)
        paths[f"best {model}"] = LAYOUT.best_config(model)
        paths[f"scratch {model}"] = LAYOUT.tune_scratch(model)
    paths["run"] = LAYOUT.run("r1")
    paths |= {f"marker {name}": LAYOUT.marker(name) for name in STAGES}
    return paths


def test_paths_are_distinct_and_under_the_root() -> None:
    paths = all_paths()
    assert len(set(paths.values())) == len(paths)
    for path in paths.values():
        assert LAYOUT.root in path.parents


def test_the_cache_and_the_bundles_outlive_the_stages() -> None:
    kept = (
        LAYOUT.bundle("v1"),
        LAYOUT.current,
        LAYOUT.metrics,
        LAYOUT.study("als", "abc"),
        LAYOUT.best_config("als"),
    )
    for path in (LAYOUT.embedding_cache("abc"), *kept):
        assert not any(LAYOUT.stage(name) in path.parents for name in STAGES)
    assert LAYOUT.embedding_cache("abc") != LAYOUT.embedding_cache("abd")
    assert LAYOUT.bundle("v1").parent == LAYOUT.bundles


def test_a_stage_owns_its_artefacts() -> None:
    owners = {
        "ingest": (LAYOUT.tables, LAYOUT.rejects, LAYOUT.ids("items"), LAYOUT.ingest_report),
        "split": (
            LAYOUT.pairs("full", "item"),
            LAYOUT.relevant("test"),
            LAYOUT.known("test"),
            LAYOUT.newcomers("validation"),
            LAYOUT.queries,
            LAYOUT.item_roles,
            LAYOUT.newest,
            LAYOUT.split_report,
        ),
        "embed": (LAYOUT.text_embeddings("users"), LAYOUT.embed_report),
        "profile": (
            LAYOUT.item_profiles("train"),
            LAYOUT.own_profiles("full"),
            LAYOUT.query_profiles("newcomers"),
            LAYOUT.profile_means("full"),
            LAYOUT.lexical("train"),
            LAYOUT.lexical_vectors("newcomers", "queries"),
        ),
        "factorize": (LAYOUT.factors("train", "user"), LAYOUT.text_maps("full")),
        "evaluate": (LAYOUT.evaluation, LAYOUT.per_user, LAYOUT.evaluation_report),
    }
    for name, paths in owners.items():
        assert all(LAYOUT.stage(name) in path.parents for path in (*paths, LAYOUT.marker(name)))


@pytest.mark.parametrize(
    ("refit", "newcomers", "held", "models"),
    [
        (False, False, False, ("train",)),
        (True, False, False, ("train", "full")),
        (False, True, False, ("train", "newcomers")),
        (True, True, False, ("train", "newcomers", "full")),
        (False, False, True, ("train", "held")),
        (True, True, True, ("train", "newcomers", "held", "full")),
    ],
)
def test_what_is_fitted(refit: bool, newcomers: bool, held: bool, models: tuple[str, ...]) -> None:
    assert fitted_models(refit=refit, newcomers=newcomers, held=held) == models


def test_it_is_frozen_and_travels() -> None:
    with pytest.raises(FrozenInstanceError):
        LAYOUT.root = Path("other")  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(LAYOUT)) == LAYOUT  # noqa: S301 - our own
