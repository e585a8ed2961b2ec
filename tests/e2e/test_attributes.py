"""Attributes from the configuration to a filter in a request, and nothing at all without labels."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core.layout import Layout
from pipelines.core.storage import read_json, read_rows
from serving.recommender import load_current
from serving.requests import Request
from tests.conftest import SMALL_CONFIG, kindling

pytestmark = [pytest.mark.ray, pytest.mark.slow]

LABELS = """
[data]
item_text = ["title", "description"]
[attributes]
labels = {topic = ["music", "cycling", "coffee", "gardening"], price_level = ["cheap", "expensive"]}
exclusive = ["price_level"]
"""
TOPIC_OF = {
    "Musical Instruments": "music",
    "Cycling": "cycling",
    "Coffee & Tea": "coffee",
    "Gardening": "gardening",
}


@pytest.fixture(scope="module")
def data(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small catalogue with two items that say nothing."""
    directory = Path(shutil.copytree(small_data, tmp_path_factory.mktemp("tagged") / "data"))
    items_df = pd.read_parquet(directory / "items.parquet")
    items_df.loc[[3, 200], ["title", "description"]] = ""
    items_df.to_parquet(directory / "items.parquet", index=False)
    return directory


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two attributes, one of them exclusive."""
    path = tmp_path_factory.mktemp("tagged_config") / "tagged.toml"
    path.write_text(SMALL_CONFIG + LABELS, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tagged(data: Path, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output directory in which everything up to the tags is done."""
    out = tmp_path_factory.mktemp("tagged_out") / "out"
    finished = kindling(
        "build", "--data", data, "--out", out, "--config", config, "--until-stage", "attributes"
    )
    assert finished.status == 0, finished.err
    return out


def test_every_item_has_a_row_of_tags_and_confidences(tagged: Path) -> None:
    layout = Layout(tagged)
    table = pq.read_table(layout.attributes)
    assert table.schema.field("topic").type == pa.list_(pa.string())
    assert table.schema.field("topic_confidence").type == pa.list_(pa.float32())
    assert table.num_rows == 240
    scores = read_rows(layout.attribute_scores)
    assert scores.shape == (240, 6)
    assert ((scores >= 0) & (scores <= 1)).all()
    names = ["music", "cycling", "coffee", "gardening", "cheap", "expensive"]
    for row, item in enumerate(table.to_pylist()):
        for attribute in ("topic", "price_level"):
            confidences = item[f"{attribute}_confidence"]
            assert confidences == sorted(confidences, reverse=True)
            expected = [float(scores[row, names.index(tag)]) for tag in item[attribute]]
            assert confidences == expected
        assert len(item["price_level"]) <= 1
    for row in (3, 200):
        assert table["topic"][row].as_py() == []
        assert not scores[row].any()


def test_thresholds_come_from_warm_items(tagged: Path) -> None:
    layout = Layout(tagged)
    report = read_json(layout.attributes_report)
    roles = np.array(pq.read_table(layout.item_roles).column("role").to_pylist())
    scores = read_rows(layout.attribute_scores)
    warm = (roles == "warm") & scores.any(axis=1)
    assert report["reference_items"] == warm.sum() < 240
    np.testing.assert_allclose(scores[warm, :4].mean(axis=0), 1 / 4, rtol=1e-4)
    np.testing.assert_allclose(scores[warm, 4:].mean(axis=0), 1 / 2, rtol=1e-4)
    for column, label in enumerate(report["attributes"]["topic"]["labels"]):
        assert label["calibrated_by"] == "expected share"
        assert label["items"] == (scores[:, column] >= label["threshold"] - 1e-6).sum()


def test_tags_tell_the_categories_that_are_not_in_the_text(tagged: Path, data: Path) -> None:
    categories = pd.read_parquet(data / "items.parquet")["categories"]
    truth = [TOPIC_OF.get(c[0]) for c in categories]
    tags = pq.read_table(Layout(tagged).attributes)["topic"].to_pylist()
    found = [(t, tag) for t, row_tags in zip(truth, tags, strict=True) for tag in row_tags[:1] if t]
    assert len(found) > 20
    assert np.mean([t == tag for t, tag in found]) > 0.8  # one in four by chance


def test_a_request_is_filtered_by_a_tag(tagged: Path, data: Path, config: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(tagged, tmp_path / "out"))
    finished = kindling("build", "--data", data, "--out", out, "--config", config)
    assert finished.status == 0, finished.err
    assert finished.out.count("unchanged") == 5
    model = load_current(out)
    tags_of = {item: model.tags(item) for item in model.catalogue.ids}
    for query in (None, "something with strings"):
        answer = model.recommend(Request(query=query, n=300, filter={"topic": "music"}))
        assert {a.item_id for a in answer} == {i for i, tags in tags_of.items() if "music" in tags["topic"]}
        assert 0 < len(answer) < 240
    cheap = [i for i, tags in tags_of.items() if "cheap" in tags["price_level"]]
    expected = {i for i in cheap if tags_of[i]["topic"].keys() & {"coffee", "cycling"}}
    answer = model.recommend(
        Request(query="bike", n=300, filter={"topic": ["coffee", "cycling"], "price_level": "cheap"})
    )
    assert {a.item_id for a in answer} == expected != set()
    assert all(0 < c <= 1 for tags in tags_of.values() for labels in tags.values() for c in labels.values())


def test_without_labels_there_is_a_report_and_nothing_else(tagged: Path, data: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(tagged, tmp_path / "out"))
    plain = tmp_path / "plain.toml"
    plain.write_text(SMALL_CONFIG + LABELS.partition("[attributes]")[0], encoding="utf-8")
    finished = kindling(
        "build", "--data", data, "--out", out, "--config", plain, "--until-stage", "attributes"
    )
    assert finished.status == 0, finished.err
    assert finished.out.count("unchanged") == 4
    layout = Layout(out)
    assert {p.name for p in layout.stage("attributes").iterdir()} == {"report.json", "_DONE.json"}
    assert read_json(layout.attributes_report) == {"attributes": {}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('labels = {brand = ["x", "y"]}', "the items have a column 'brand' already"),
        ('labels = {text = ["x", "y"]}', "the items have a column 'text' already"),
        (
            'labels = {topic = ["x", "y"]}\nknown = {topic = "genre"}',
            "no column 'genre' for topic; they have",
        ),
        ('labels = {topic = ["x", "y"]}\nknown = {topic = "price"}', "holds no tags; expected text"),
    ],
)
def test_settings_that_do_not_fit_the_data(
    tagged: Path, data: Path, settings: str, message: str, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(tagged, tmp_path / "out"))
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(
        SMALL_CONFIG + LABELS.partition("[attributes]")[0] + "[attributes]\n" + settings, encoding="utf-8"
    )
    finished = kindling(
        "build", "--data", data, "--out", out, "--config", wrong, "--until-stage", "attributes"
    )
    assert finished.status == 2
    assert message in finished.err


def test_known_tags_calibrate_and_cold_items_do_not(tagged: Path, data: Path, tmp_path: Path) -> None:
    """Known tags lead to regressions; the text of cold items changes nothing for the others."""
    results = []
    for name in ("as it is", "cold items rewritten"):
        out, changed = tmp_path / name / "out", Path(shutil.copytree(data, tmp_path / name / "data"))
        if results:
            roles = np.array(pq.read_table(Layout(tagged).item_roles).column("role").to_pylist())
            items_df = pd.read_parquet(changed / "items.parquet")
            items_df.loc[roles == "cold", "description"] = "Music music music for cheap cyclists"
            items_df["categories"] = items_df["categories"].where(
                pd.Series(roles != "cold"), pd.Series([["cycling"]] * len(items_df))
            )
            items_df.to_parquet(changed / "items.parquet", index=False)
        config = tmp_path / name / "known.toml"
        config.write_text(
            SMALL_CONFIG + LABELS.replace('"music", "cycling"', '"Musical Instruments", "Cycling"')
            + 'known = {topic = "categories"}\nmin_known = 50\n',
            encoding="utf-8",
        )  # fmt: skip
        finished = kindling(
            "build", "--data", changed, "--out", out, "--config", config, "--until-stage", "attributes"
        )
        assert finished.status == 0, finished.err
        results.append((read_json(Layout(out).attributes_report), read_rows(Layout(out).attribute_scores)))
    (report, scores), (other_report, other_scores) = results
    labels = {e["label"]: e for e in report["attributes"]["topic"]["labels"]}
    assert labels["Cycling"]["calibrated_by"] == "known"
    assert labels["coffee"]["calibrated_by"] == "expected share"  # the categories say "Coffee & Tea"
    for label, other in zip(
        report["attributes"]["topic"]["labels"], other_report["attributes"]["topic"]["labels"], strict=True
    ):
        assert label["threshold"] == pytest.approx(other["threshold"], abs=1e-4)
    warm = np.array(pq.read_table(Layout(tagged).item_roles).column("role").to_pylist()) == "warm"
    np.testing.assert_allclose(scores[warm], other_scores[warm], atol=1e-4)
    assert np.abs(scores[~warm] - other_scores[~warm]).max() > 0.1
