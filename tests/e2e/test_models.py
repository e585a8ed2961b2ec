"""A build that publishes to a registry, and the commands that look after what is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.core.bundle import current_version
from pipelines.core.layout import Layout
from tests.conftest import SMALL_CONFIG, kindling

pytestmark = pytest.mark.ray


def test_a_build_publishes_to_a_registry(
    small_data: Path, built_copy: Path, s3_folder: str, tmp_path: Path
) -> None:
    before = current_version(Layout(built_copy))
    config = tmp_path / "registry.toml"
    config.write_text(
        f'{SMALL_CONFIG}[publish]\nkeep = 1\nregistry = "{s3_folder}"\n[logs]\nformat = "json"\n',
        encoding="utf-8",
    )
    build = ("build", "--data", small_data, "--out", built_copy, "--config", config)
    finished = kindling(*build)
    assert finished.status == 0, finished.err
    published = current_version(Layout(built_copy))
    assert published != before  # its settings are others
    assert not Layout(built_copy).bundle(before).exists()  # keep = 1
    assert "are not deleted: which versions experiments try" in finished.err  # there
    listed = json.loads(kindling("models", "list", "--out", s3_folder, "--json").out)["versions"]
    assert [(v["version"], v["is_current"], v["problem"]) for v in listed] == [(published, True, None)]
    assert listed[0]["headline"][0].startswith("all ndcg@")

    runs = json.loads(kindling("runs", "list", "--out", built_copy, "--json").out)
    assert [run["status"] for run in runs] == ["done", "done"]
    again, first = ({stage["stage"]: stage for stage in run["stages"]} for run in runs)
    assert [name for name, stage in again.items() if not stage["reused"]] == ["publish"]
    assert first["ingest"]["rows_in"]["interactions"] == 3000
    assert first["split"]["rows_in"]["ingest/items_ids.parquet"] == 240
    assert first["factorize"]["rows_out"]["full/item_factors"] == 240
    assert all(stage["peak_mb"] > 50 for stage in first.values())
    manifest = json.loads(kindling("models", "show", published, "--out", s3_folder, "--json").out)["manifest"]
    assert manifest["run_id"] == runs[0]["run_id"]
    said = [json.loads(line) for line in finished.err.splitlines() if line.startswith("{")]
    assert {"stage is unchanged", "stage begins", "stage is done"} <= {line["event"] for line in said}
    assert {line["run_id"] for line in said} == {runs[0]["run_id"]}
    picture = tmp_path / "run.svg"
    assert "publish" in kindling("runs", "show", "--out", built_copy, "--svg", picture).out
    assert picture.read_text(encoding="utf-8").startswith("<svg")

    fresh = tmp_path / "service"
    shown = kindling("models", "show", published, "--out", fresh, "--config", config)
    assert shown.status == 0, shown.err
    refused = kindling("models", "promote", "v0", "--out", s3_folder)
    assert (refused.status, "v0" in refused.err) == (3, True)

    finished = kindling(*build, "--from-stage", "publish")  # the same again
    assert finished.status == 0, finished.err
    assert current_version(Layout(built_copy)) == published
