"""`kindling build` as its users run it: what it writes, what it reuses, what it refuses."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipelines.core.bundle import BundlePaths, check_bundle, current_version
from pipelines.core.layout import Layout
from pipelines.core.metrics import RANK_METRICS
from pipelines.core.slices import SLICES
from pipelines.core.storage import part_paths, read_json, read_tensors
from tests.conftest import command, kill_group, kindling, start_kindling
from tests.serving.databases import file_store

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STAGES = ["ingest", "split", "finetune", "embed", "attributes", "profile", "factorize", "evaluate", "publish"]


def reused(out: Path) -> dict[str, bool]:
    return {
        name: entry["reused"] for name, entry in ((o["stage"], o) for o in read_json(Layout(out).run_record))
    }


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "out"))


@pytest.fixture
def own_data(small_data: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_data, tmp_path / "data"))


def test_metrics_json_has_the_documented_shape(built: Path) -> None:
    metrics = read_json(Layout(built).metrics)
    models = ["kindling", "popularity", "bm25", "content", "als", "als_text"]
    assert list(metrics["models"]) == list(metrics["validation"]) == models
    users = metrics["users_measured"]["test"]
    names = [f"{m}@{k}" for k in (5, 10, 20, 50) for m in RANK_METRICS]
    others = ["novelty", "diversity", "cold_share", "popularity_bias", "coverage", "gini"]
    for model, slices in metrics["models"].items():
        assert list(slices) == list(SLICES) == list(users)
        for name, figures in slices.items():
            assert list(figures) == [*names, *(f"{o}@20" for o in others)]
            assert all(0 <= figures[n] <= 1 for n in [*names, "coverage@20", "gini@20", "cold_share@20"])
            for metric, (low, high) in metrics["intervals"]["test"][model][name].items():
                assert low <= high, metric
    for name, figures in metrics["differences"]["test"].items():
        assert users[name] > 0
        assert list(figures) == names
        best, ours = figures["ndcg@20"], metrics["models"]["kindling"][name]["ndcg@20"]
        theirs = {m: metrics["models"][m][name]["ndcg@20"] for m in models[1:]}
        assert theirs[best["baseline"]] == max(theirs.values())
        assert best["difference"] == pytest.approx(ours - max(theirs.values()), abs=2e-6)
    assert set(metrics["seconds"]) == set(STAGES[:-1])
    assert metrics["counts"]["items"] == 240
    assert metrics["counts"]["interactions"] == 3000
    pointer = read_json(Layout(built).current)
    assert read_json(built / pointer["metrics"]) == metrics


def test_text_helps_cold_items(built: Path) -> None:
    models = read_json(Layout(built).metrics)["models"]
    assert models["kindling"]["cold"]["recall@10"] > 1.5 * models["popularity"]["cold"]["recall@10"]
    assert models["kindling"]["cold"]["recall@10"] > 1.5 * models["als"]["cold"]["recall@10"]


def test_bundle_is_whole_and_serves(built: Path) -> None:
    version = current_version(Layout(built))
    manifest = check_bundle(Layout(built).bundle(version))
    assert {
        "config.toml",
        "metrics.json",
        "items.parquet",
        "users.parquet",
        "item_arrays.safetensors",
    } <= set(manifest["files"])
    answer = kindling("recommend", "--out", built, "--text", "I like hiking", "-n", "3", "--explain")
    assert answer.status == 0, answer.err
    assert "your words" in answer.out


def test_every_published_factor_and_text_is_finite(built: Path) -> None:
    paths = BundlePaths(Layout(built).bundle(current_version(Layout(built))))
    for file in (paths.item_arrays, paths.user_arrays, paths.text_maps):
        for name, array in read_tensors(file).items():
            assert np.isfinite(array).all(), (file.name, name)


def test_second_build_does_nothing(copy: Path, small_data: Path, small_config: Path) -> None:
    before = read_json(Layout(copy).current)
    again = kindling("build", "--data", small_data, "--out", copy, "--config", small_config)
    assert again.status == 0, again.err
    assert again.out.count("unchanged") == len(STAGES)
    assert read_json(Layout(copy).current) == before


def test_a_changed_setting_reruns_only_what_it_concerns(
    copy: Path, small_data: Path, small_config: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "changed.toml"
    changed.write_text(small_config.read_text() + "[blend]\ngamma = 0.9\n")
    before = current_version(Layout(copy))
    again = kindling("build", "--data", small_data, "--out", copy, "--config", changed)
    assert again.status == 0, again.err
    assert reused(copy) == {s: s not in ("evaluate", "publish") for s in STAGES}
    assert current_version(Layout(copy)) != before
    assert Layout(copy).bundle(before).is_dir(), "the old version stays for rollback"


def test_only_changed_texts_are_encoded(copy: Path, own_data: Path, small_config: Path) -> None:
    items_df = pd.read_parquet(own_data / "items.parquet")
    items_df.loc[[3, 5], "title"] = ["A brand new kettle for one", "全新的单人手冲壶"]
    items_df.to_parquet(own_data / "items.parquet")
    again = kindling("build", "--data", own_data, "--out", copy, "--config", small_config)
    assert again.status == 0, again.err
    report = read_json(Layout(copy).embed_report)
    # a newcomer's query is the title of an item, so a new title may be a new query as well
    queries = pd.concat(pd.read_parquet(p) for p in part_paths(Layout(copy).queries))["text"]
    changed = 2 + queries[queries.isin(items_df["title"][[3, 5]])].nunique()
    assert report["to_encode"] == changed
    assert report["from_cache"] == report["texts"] - changed


def test_touched_but_equal_input_is_read_again_and_nothing_more(
    copy: Path, own_data: Path, small_config: Path
) -> None:
    for name in ("items", "users", "interactions"):
        (own_data / f"{name}.parquet").touch()
    again = kindling("build", "--data", own_data, "--out", copy, "--config", small_config)
    assert again.status == 0, again.err
    assert reused(copy)["split"]
    assert reused(copy)["embed"]


def test_stage_window(tmp_path: Path, small_data: Path, small_config: Path) -> None:
    out = tmp_path / "out"
    options = ("--data", small_data, "--out", out, "--config", small_config)
    early = kindling("build", *options, "--from-stage", "factorize")
    assert early.status == 5
    assert "is not done" in early.err
    assert kindling("build", *options, "--until-stage", "split").status == 0
    assert not Layout(out).current.exists()
    assert kindling("build", *options, "--from-stage", "split", "--until-stage", "split").status == 0
    assert reused(out) == {"ingest": True, "split": False}
    wrong = kindling("build", *options, "--from-stage", "bake")
    assert wrong.status == 2
    assert "ingest, split, finetune, embed" in wrong.err


def test_two_builds_at_once_the_second_says_so(tmp_path: Path, small_data: Path, small_config: Path) -> None:
    out = tmp_path / "out"
    first = start_kindling("build", "--data", small_data, "--out", out, "--config", small_config)
    try:
        while not (out / "stages" / "ingest").exists():
            assert first.poll() is None
        second = kindling("build", "--data", small_data, "--out", out, "--config", small_config)
        assert second.status == 4
        assert "another build is running" in second.err
        assert first.wait(timeout=300) == 0
    finally:
        if first.poll() is None:
            kill_group(first)


def test_data_in_all_formats_gives_the_same_tables(
    tmp_path: Path, built: Path, small_data: Path, small_config: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    items_df, users_df, interactions_df = (
        pd.read_parquet(small_data / f"{n}.parquet") for n in ("items", "users", "interactions")
    )
    items_df.to_json(data / "items.jsonl", orient="records", lines=True, force_ascii=False)
    users_df.to_csv(data / "users.csv", index=False)
    (data / "interactions").mkdir()
    for part, start in enumerate(range(0, 3000, 1000)):
        interactions_df[start : start + 1000].to_csv(data / "interactions" / f"{part}.csv.gz", index=False)
    out = tmp_path / "out"
    options = ("--data", data, "--out", out, "--config", small_config, "--until-stage", "split")
    finished = kindling("build", *options)
    assert finished.status == 0, finished.err
    for part in ("test.parquet", "train_by_user.parquet"):
        ours = pq.read_table(out / "stages" / "split" / part)
        assert ours.equals(pq.read_table(built / "stages" / "split" / part)), part


def test_text_only_catalogue(tmp_path: Path, small_data: Path, small_config: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(small_data / "items.parquet", data)
    out = tmp_path / "out"
    refused = kindling("build", "--data", data, "--out", out, "--config", small_config)
    assert refused.status == 3
    assert "data.text_only = true" in refused.err
    config = tmp_path / "text.toml"
    config.write_text(small_config.read_text() + "[data]\ntext_only = true\n")
    finished = kindling("build", "--data", data, "--out", out, "--config", config)
    assert finished.status == 0, finished.err
    assert read_json(Layout(out).metrics)["models"]["kindling"]["cold"]["recall@20"] is None
    answer = kindling("recommend", "--out", out, "--query", "a tent", "-n", "3")
    assert answer.status == 0, answer.err


BUILT = ("no text at all", "unreadable file", "wrong types")
"""Bad input that is also built from; a build and `data validate` share their checks."""

BAD: dict[str, tuple[str, str, str]] = {
    "empty items": ("items.jsonl", "", "no usable rows"),
    "missing column": ("items.jsonl", '{"title": "a"}\n', "column 'item_id' is missing"),
    "no text at all": ("items.jsonl", '{"item_id": "1"}\n{"item_id": "2"}\n', "has any text"),
    "unreadable file": ("items.parquet", "this is no parquet", "cannot be read"),
    "not JSON": ("items.jsonl", '{"item_id": \n', "not JSON"),
    "NaN weights": ("interactions.csv", "user_id,item_id,weight\nu1,i1,NaN\nu2,i2,nan\n", "NaN"),
    "wrong types": (
        "interactions.csv",
        "user_id,item_id,weight\nu1,i1,many\nu2,i2,few\n",
        "expected a number",
    ),
    "unknown items": ("interactions.csv", "user_id,item_id\nu1,x1\nu2,x2\n", "not in the items table"),
    "one user": ("interactions.csv", "user_id,item_id\nu1,i1\nu1,i2\n", "at least 2"),
    "empty interactions": ("interactions.csv", "", "no usable rows"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_message(case: str, tmp_path: Path) -> None:
    name, content, expected = BAD[case]
    data = tmp_path / "data"
    data.mkdir()
    if not name.startswith("items"):
        (data / "items.jsonl").write_text(
            '{"item_id": "i1", "title": "a pot"}\n{"item_id": "i2", "title": "a pan"}\n'
        )
    if not name.startswith("interactions"):
        (data / "interactions.csv").write_text("user_id,item_id\nu1,1\nu2,2\n")
    (data / name).write_text(content)
    checked = kindling("data", "validate", data)
    assert checked.status == 3, (checked.out, checked.err)
    assert expected in checked.out + checked.err
    assert "Traceback" not in checked.out + checked.err
    if case not in BUILT:
        return
    built = kindling("build", "--data", data, "--out", tmp_path / "out")
    assert built.status == 3, (built.status, built.err)
    assert expected in built.err
    assert "Traceback" not in built.err
    assert not Layout(tmp_path / "out").current.exists()


def test_an_encoder_that_is_not_there(tmp_path: Path, small_data: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[encoder]\nmodel = "{tmp_path / "nowhere"}"\n')
    finished = kindling("build", "--data", small_data, "--out", tmp_path / "out", "--config", config)
    assert finished.status == 2, finished.err
    assert "cannot be loaded" in finished.err
    assert "Traceback" not in finished.err


def test_an_output_that_cannot_be_written(tmp_path: Path, small_data: Path) -> None:
    (tmp_path / "file").write_text("")
    finished = kindling("build", "--data", small_data, "--out", tmp_path / "file")
    assert finished.status == 5
    assert "Traceback" not in finished.err


def test_a_cluster_that_is_not_there(tmp_path: Path, small_data: Path) -> None:
    finished = kindling(
        "build", "--data", small_data, "--out", tmp_path / "out", env={"RAY_ADDRESS": "127.0.0.1:9"}
    )
    assert finished.status == 6
    assert "RAY_ADDRESS" in finished.err


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_build_says_so(
    sent: signal.Signals, tmp_path: Path, small_data: Path, small_config: Path
) -> None:
    out = tmp_path / "out"
    build = subprocess.Popen(
        command("build", "--data", small_data, "--out", out, "--config", small_config),
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (out / "stages" / "embed").exists():
        assert build.poll() is None
    build.send_signal(sent)
    _, said = build.communicate(timeout=60)
    assert build.returncode == 130
    assert "run the same command again" in said
    assert "Traceback" not in said


def test_what_was_deleted_or_spoilt_is_made_again(copy: Path, small_data: Path, small_config: Path) -> None:
    options = ("build", "--data", small_data, "--out", copy, "--config", small_config)
    bundle = Layout(copy).bundle(current_version(Layout(copy)))
    arrays = BundlePaths(bundle).item_arrays
    whole = arrays.read_bytes()
    arrays.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    next((Layout(copy).tables / "items").glob("*.parquet")).unlink()
    cache = next((copy / "cache" / "embeddings").iterdir())
    (cache / "garbage.parquet").write_text("garbage")
    shutil.rmtree(copy / "stages" / "embed")
    finished = kindling(*options)
    assert finished.status == 0, finished.err
    check_bundle(Layout(copy).bundle(current_version(Layout(copy))))
    assert read_json(Layout(copy).embed_report)["to_encode"] == 0
    assert kindling("recommend", "--out", copy, "--query", "tea", "-n", "2").status == 0


def test_young_items_are_made_up_for_in_models_of_what_comes_next(
    built: Path, tmp_path: Path, small_data: Path, small_config: Path
) -> None:
    """Not in those whose figures ask for pairs of the same past; and not where items have no dates."""
    in_time, config = tmp_path / "out", tmp_path / "time.toml"
    config.write_text(small_config.read_text() + '[split]\nkind = "time"\n')
    options = ("--data", small_data, "--out", in_time, "--config", config, "--until-stage", "split")
    assert (finished := kindling("build", *options)).status == 0, finished.err
    assert not any(Layout(built).exposure(name).exists() for name in ("train", "newcomers"))
    pairs_df = pd.read_parquet(small_data / "interactions.parquet")
    born = pd.read_parquet(small_data / "items.parquet").set_index("item_id")["created_at"]
    first_df = pairs_df.groupby(["user_id", "item_id"])["timestamp"].min()
    for out, name in ((built, "full"), (in_time, "full"), (in_time, "train")):
        ids = pq.read_table(Layout(out).ids("items")).column(0).to_pylist()
        moments = np.sort(first_df)
        if name == "train":
            moments = moments[moments < read_json(Layout(out).split_report)["cuts"][0]]
        since = len(moments) - np.searchsorted(moments, born[ids])
        found = pq.read_table(Layout(out).exposure(name)).column(0).to_numpy()
        np.testing.assert_allclose(found, np.maximum(since, 1) / len(moments), rtol=1e-6)
        assert found.min() < 0.2
        assert np.median(found) > 0.9
    assert read_json(Layout(built).split_report)["items_with_arrival"] == 240
    undated = Path(shutil.copytree(small_data, tmp_path / "undated"))
    items_df = pd.read_parquet(undated / "items.parquet")
    items_df.drop(columns="created_at").to_parquet(undated / "items.parquet")
    options = ("--data", undated, "--out", in_time, "--config", config, "--until-stage", "split")
    assert (finished := kindling("build", *options)).status == 0, finished.err
    assert not Layout(in_time).exposure("full").exists()
    with closing(file_store(in_time)) as store:  # as a service would be told
        store.items.put("new-kettle", {"title": "A kettle that came today"})
        store.items.put(items_df["item_id"][0], {"title": "An old friend under another name"})
    assert (finished := kindling("build", *options)).status == 0, finished.err
    assert pq.read_table(Layout(in_time).announced).column("item_id").to_pylist() == ["new-kettle"]
    ids = pq.read_table(Layout(in_time).ids("items")).column(0).to_pylist()
    found = pq.read_table(Layout(in_time).exposure("full")).column(0).to_numpy()
    assert found[ids.index("new-kettle")] == np.float32(1 / len(first_df))
    assert (np.delete(found, ids.index("new-kettle")) == 1).all(), "of what the tables have nobody says it"


def test_rejects_are_kept_with_source_row_and_reason(
    tmp_path: Path, own_data: Path, small_config: Path
) -> None:
    interactions_df = pd.read_parquet(own_data / "interactions.parquet")
    bad_df = pd.DataFrame(
        {"user_id": ["u", None], "item_id": ["nowhere", interactions_df["item_id"][0]], "weight": [1.0, 1.0]}
    )
    pd.concat([interactions_df, bad_df]).to_parquet(own_data / "interactions.parquet")
    items_df = pd.read_parquet(own_data / "items.parquet")
    twin_df = items_df[:2].assign(title=["changed", items_df["title"][1]])
    huge_df = items_df[2:3].assign(item_id="huge", description="wort " * 200_000)
    pd.concat([items_df, twin_df, huge_df]).to_parquet(own_data / "items.parquet")
    out = tmp_path / "out"
    options = ("--data", own_data, "--out", out, "--config", small_config, "--until-stage", "ingest")
    finished = kindling("build", *options)
    assert finished.status == 0, finished.err
    rejects = pd.concat(pd.read_parquet(p) for p in Layout(out).rejects.rglob("*.parquet"))
    assert sorted(rejects["row"]) == [241, 3001, 3002]
    assert rejects["source"].str.endswith((".parquet",)).all()
    report = json.loads(Layout(out).ingest_report.read_text())
    assert report["items"]["identical_duplicates_merged"] == 1
    assert report["items"]["texts_cut"] == 1
    assert report["items"]["kept"] == 241
    assert report["interactions"]["kept"] == 3000


def test_too_many_rejects_stop_the_build(tmp_path: Path, own_data: Path, small_config: Path) -> None:
    interactions_df = pd.read_parquet(own_data / "interactions.parquet")
    interactions_df.loc[:500, "weight"] = -1.0
    interactions_df.to_parquet(own_data / "interactions.parquet")
    finished = kindling("build", "--data", own_data, "--out", tmp_path / "out", "--config", small_config)
    assert finished.status == 3
    assert "501 of 3000 rows were rejected" in finished.err
    assert "weight is negative" in finished.err
