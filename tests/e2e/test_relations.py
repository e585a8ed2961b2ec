"""A build with a relations table, generated relations, a column of vectors, and items enough for a graph."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipelines.core.bundle import BundlePaths, current_version
from pipelines.core.index import ApproximateRanker, load_index
from pipelines.core.layout import Layout
from pipelines.core.ranking import ExactRanker, Wanted
from pipelines.core.storage import read_json, read_tensors
from serving.recommender import Recommender, load_current
from serving.requests import Request
from tests.conftest import kindling

pytestmark = [pytest.mark.ray, pytest.mark.slow]

EMBEDDING, IMAGE = 384, 4
SETTINGS = """
[data]
vectors = {image = 0.5}
[relations]
weight = 0.3
weights = {goes_with = 2.0}
columns = ["brand", "categories"]
[serve]
index_items = 200
"""


def tables(small_data: Path, data: Path) -> Path:
    """The small catalogue with images, one of them too short, and with relations, some of them wrong."""
    shutil.copytree(small_data, data)
    items_df = pd.read_parquet(data / "items.parquet")
    rng = np.random.default_rng(5)
    images: list[list[float] | None] = [list(row) for row in rng.standard_normal((len(items_df), IMAGE))]
    images[10], images[200] = None, [1.0, 2.0]
    items_df["image"] = images
    items_df.to_parquet(data / "items.parquet")
    item = items_df["item_id"]
    rows = [(item[i], "goes_with", item[i + 60]) for i in range(0, 60)]
    rows += [rows[0], (item[1], "goes_with", item[1]), (item[1], "goes_with", "nowhere")]
    pd.DataFrame(rows, columns=["item_id", "relation", "other_id"]).to_csv(
        data / "relations.csv", index=False
    )
    interactions_df = pd.read_parquet(data / "interactions.parquet")
    known = interactions_df["item_id"] != item[200]  # with its image it goes
    interactions_df[known].to_parquet(data / "interactions.parquet")
    return data


def wanted_of(model: Recommender, request: Request) -> Wanted:
    (asked,) = model.understand([request])
    assert asked.wanted is not None
    return asked.wanted


def test_relations_and_vectors_reach_the_bundle(tmp_path: Path, small_data: Path, small_config: Path) -> None:
    data, out, config = tables(small_data, tmp_path / "data"), tmp_path / "out", tmp_path / "own.toml"
    # no words, so that a profile is an embedding and its block
    plain = small_config.read_text().replace("[lexical]", "[lexical]\nweight = 0.0")
    config.write_text(plain + SETTINGS)
    checked = kindling("data", "validate", data, "--config", config)
    assert checked.status == 0, checked.out + checked.err
    assert "image has 2 numbers, the first of the table 4" in checked.out
    options = ("build", "--data", data, "--out", out, "--config", config)
    finished = kindling(*options)
    assert finished.status == 0, finished.err
    layout = Layout(out)
    report = read_json(layout.ingest_report)
    assert report["items"]["kept"] == 239
    assert report["relations"] == {"identical_duplicates_merged": 1, "kept": 60, "read": 63, "rejected": 2}
    assert report["reasons"] == {
        "items: image has 2 numbers, the first of the table 4": 1,
        "relations: item_id and other_id are the same item": 1,
        "relations: other_id is not in the items table": 1,
    }
    paths = BundlePaths(layout.bundle(current_version(layout)))
    assert "image" not in pq.read_schema(paths.items).names
    profiles = read_tensors(paths.item_arrays)["profiles"]
    assert profiles.shape == (239, EMBEDDING + IMAGE)
    np.testing.assert_allclose(np.linalg.norm(profiles[:, :EMBEDDING], axis=1), 1.0, atol=1e-5)
    lengths = np.linalg.norm(profiles[:, EMBEDDING:], axis=1)
    np.testing.assert_allclose(lengths, np.where(np.arange(239) == 10, 0.0, 0.5), atol=1e-5)
    own = read_tensors(paths.user_arrays)["own_texts"]
    assert own[:, :EMBEDDING].any()
    assert not own[:, EMBEDDING:].any()
    answer = kindling("recommend", "--out", out, "--query", "a tent", "-n", "3", "--explain")
    assert answer.status == 0, answer.err
    # so many items are answered from a graph of neighbours, and of so few none can be missed
    model = load_current(out)
    assert isinstance(model.catalogue.ranker, ApproximateRanker)
    assert len(load_index(paths.item_index, model.catalogue.bundle.vectors.shape[1])) == 239
    request = Request(query="a tent", n=20)
    exact = ExactRanker(model.catalogue.bundle.vectors)
    (best,) = exact.best([wanted_of(model, request)])
    assert [item.item_id for item in model.recommend(request)] == [
        model.catalogue.ids[row] for row in best.rows
    ]
    # another weight is another profile, and no text is encoded again
    config.write_text(config.read_text().replace("weight = 0.3", "weight = 0.2"))
    again = kindling(*options, "--until-stage", "profile")
    assert again.status == 0, again.err
    reused = {entry["stage"]: entry["reused"] for entry in read_json(layout.run_record)}
    assert {stage for stage, same in reused.items() if not same} == {"profile"}
