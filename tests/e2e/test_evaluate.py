"""`kindling evaluate` on a finished build: what it measures again, what it leaves alone, two builds side by side."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from pipelines.core.config import load_config
from pipelines.core.layout import Layout
from pipelines.core.slices import SLICES
from pipelines.core.storage import read_json, write_json, write_table
from tests.conftest import SMALL_CONFIG, kill_group, kindling, start_kindling

pytestmark = [pytest.mark.ray, pytest.mark.slow]

OTHER = SMALL_CONFIG.replace("iterations = 4", "iterations = 4\nalpha = 2.0")


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "out"))


@pytest.fixture(scope="module")
def other(built: Path, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same build with another alpha, never published."""
    directory = tmp_path_factory.mktemp("other")
    out = Path(shutil.copytree(built, directory / "另一个"))
    shutil.rmtree(out / "bundles")
    (out / "CURRENT").unlink()
    (directory / "other.toml").write_text(OTHER, encoding="utf-8")
    finished = kindling(
        "build", "--data", small_data, "--out", out, "--config", directory / "other.toml", "--until-stage", "factorize"
    )  # fmt: skip
    assert finished.status == 0, finished.err
    assert finished.out.count("unchanged") == 6
    measured = kindling("evaluate", "--out", out)
    assert measured.status == 0, measured.err
    assert "evaluate done" in measured.err
    return out


def in_service(out: Path) -> dict[str, bytes]:
    """Everything that a server, or another tool, may be reading."""
    layout = Layout(out)
    files = [layout.current, layout.metrics, *sorted(layout.bundles.rglob("*"))]
    return {str(p.relative_to(out)): p.read_bytes() for p in files if p.is_file()}


def test_a_build_remembers_what_it_was_made_with(built: Path, small_data: Path, small_config: Path) -> None:
    assert load_config(Layout(built).config) == load_config(small_config)
    assert read_json(Layout(built).source) == {"data": str(small_data)}


def test_figures_that_are_there_are_told_again(copy: Path, small_data: Path, small_config: Path) -> None:
    before, service = read_json(Layout(copy).evaluation), in_service(copy)
    told = kindling("evaluate", "--out", copy)
    assert told.status == 0, told.err
    assert "evaluate unchanged" in told.err
    assert read_json(Layout(copy).evaluation) == before
    assert in_service(copy) == service
    for s in SLICES:
        row = next(line.split() for line in told.out.splitlines() if line.split()[:1] == [s])
        assert row[1] == str(before["users"]["test"][s])
        assert row[2] == f"{before['test']['kindling'][s]['recall@20']:.4f}"
    assert f"report: {Layout(copy).evaluation_report}" in told.out
    assert load_config(Layout(copy).config) == load_config(small_config)
    again = kindling("build", "--data", small_data, "--out", copy, "--config", small_config)
    assert again.out.count("unchanged") == 9, again.err


def test_only_the_evaluate_section_is_taken_from_a_file(
    copy: Path, small_data: Path, small_config: Path, tmp_path: Path
) -> None:
    service, markers = in_service(copy), copy / "stages" / "factorize" / "_DONE.json"
    fitted = markers.read_bytes()
    section = '\nks = [3, 10]\nbaselines = ["bm25", "irspack", "popularity"]\n'
    config = tmp_path / "bench.toml"
    config.write_text("[factorize]\nn_factors = 9\n[evaluate]\nbootstrap = 20" + section, encoding="utf-8")
    page = tmp_path / "pages" / "figures.html"
    measured = kindling("evaluate", "--out", copy, "--config", config, "--report", page)
    assert measured.status == 0, measured.err
    assert "evaluate done" in measured.err
    assert "recall@10 on the test slices" in measured.out
    assert f"report: {page}" in measured.out
    assert page.read_text(encoding="utf-8") == Layout(copy).evaluation_report.read_text(encoding="utf-8")
    evaluation = read_json(Layout(copy).evaluation)
    expected = [m for m in ("kindling", "bm25", "irspack", "popularity") if m not in evaluation["absent"]]
    assert evaluation["models"] == expected
    assert evaluation["ks"] == [3, 10]
    assert evaluation["build"]["data"] == str(small_data)
    for name in evaluation["absent"]:
        assert f"baseline left out: {name}, not installed" in measured.out
    assert in_service(copy) == service
    assert markers.read_bytes() == fitted
    kept = load_config(Layout(copy).config)
    assert kept.evaluate == load_config(config).evaluate
    assert kept.factorize == load_config(small_config).factorize
    assert "evaluate unchanged" in kindling("evaluate", "--out", copy).err
    same = tmp_path / "same.toml"
    same.write_text(
        small_config.read_text("utf-8").split("[evaluate]")[0] + config.read_text("utf-8").split("9\n")[1]
    )
    again = kindling(
        "build", "--data", small_data, "--out", copy, "--config", same, "--until-stage", "evaluate"
    )
    assert again.out.count("unchanged") == 8, again.err


def test_the_tables_may_be_gone(other: Path, small_data: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(other, tmp_path / "out"))
    write_json(Layout(out).source, {"data": "s3://gone/long-ago"})
    shutil.rmtree(Layout(out).stage("evaluate"))
    measured = kindling("evaluate", "--out", out)
    assert measured.status == 0, measured.err
    assert read_json(Layout(out).evaluation)["build"]["data"] == "s3://gone/long-ago"
    assert read_json(Layout(out).evaluation)["test"] == read_json(Layout(other).evaluation)["test"]


def test_a_build_beside_another(built: Path, copy: Path, other: Path, tmp_path: Path) -> None:
    service = {p: p.read_bytes() for p in sorted(other.rglob("*")) if p.is_file()}
    compared = kindling("evaluate", "--out", copy, "--against", other)
    assert compared.status == 0, compared.err
    assert "factorize.alpha: 2.0 → 15.0" in compared.out
    assert "not paired" not in compared.out
    file = next((copy / "comparisons").glob("另一个-*/comparison.json"))
    assert f"written: {file}" in compared.out
    assert f"report: {file.parent / 'report.html'}" in compared.out
    found = read_json(file)
    assert [b["name"] for b in found["builds"]] == ["另一个", "out"]
    assert found["builds"][0]["version"] is None
    assert found["builds"][1]["version"] == read_json(Layout(copy).current)["version"]
    assert found["paired"]
    assert list(found["config_differences"]) == ["factorize.alpha"]
    theirs, ours = (read_json(Layout(out).evaluation)["test"]["kindling"] for out in (other, built))
    clear = 0
    for s in SLICES:
        for metric in ("recall@20", "ndcg@5", "novelty@20", "coverage@20"):
            figure = found["test"][s][metric]
            assert (figure["a"], figure["b"]) == (theirs[s][metric], ours[s][metric])
            assert figure["difference"] == pytest.approx(ours[s][metric] - theirs[s][metric], abs=1e-6)
            if not metric.startswith("coverage"):
                low, high = figure["interval"]
                # of means in single precision
                assert low - 1e-6 <= figure["difference"] <= high + 1e-6
                clear += low > 0 or high < 0
    assert clear > 0, "another alpha must show somewhere"
    assert "另一个" in (file.parent / "report.html").read_text(encoding="utf-8")
    assert {p: p.read_bytes() for p in sorted(other.rglob("*")) if p.is_file()} == service
    page = tmp_path / "both.html"
    shutil.rmtree(file.parent)
    assert kindling("evaluate", "--out", copy, "--against", other, "--report", page).status == 0
    assert page.read_text(encoding="utf-8").count("<h1>Two builds") == 1
    assert [p.name for p in file.parent.iterdir()] == ["comparison.json"]


def test_another_split_is_compared_without_pairing(
    copy: Path, built: Path, small_data: Path, tmp_path: Path
) -> None:
    config = tmp_path / "split.toml"
    config.write_text(SMALL_CONFIG + "[split]\nseed = 1\n", encoding="utf-8")
    finished = kindling(
        "build", "--data", small_data, "--out", copy, "--config", config, "--until-stage", "evaluate"
    )
    assert finished.status == 0, finished.err
    assert "recall@20 on the test slices" in finished.out
    compared = kindling("evaluate", "--out", copy, "--against", built)
    assert compared.status == 0, compared.err
    assert "not paired: the splits differ in seed, 42 and 1; of " in compared.out
    found = read_json(next((copy / "comparisons").rglob("comparison.json")))
    assert not found["paired"]
    figure = found["test"]["all"]["recall@20"]
    assert figure["interval"][0] < figure["difference"] < figure["interval"][1]
    # both of the same name: told apart by their places
    assert {b["name"] for b in found["builds"]} == {"out", str(copy)}


@pytest.fixture
def locked(copy: Path) -> Iterator[Path]:
    """A build that another process is at work on."""
    with FileLock(Layout(copy).lock):
        yield copy


def test_a_build_at_work_is_left_alone(locked: Path) -> None:
    refused = kindling("evaluate", "--out", locked)
    assert refused.status == 4
    assert "another build is running" in refused.err


def test_killed_while_measuring(copy: Path, other: Path, tmp_path: Path) -> None:
    """The figures are gone, as the old ones were out of date, but nothing else; the next one makes them."""
    service, config = in_service(copy), tmp_path / "measure.toml"
    config.write_text("[evaluate]\nks = [20]\nbootstrap = 300\n", encoding="utf-8")
    victim = start_kindling("evaluate", "--out", copy, "--config", config)
    try:
        while Layout(copy).marker("evaluate").exists():
            assert victim.poll() is None, "it ended before it could be killed"
    finally:
        kill_group(victim)
    assert in_service(copy) == service
    assert f"kindling evaluate --out {copy}" in refused_with(5, "--out", other, "--against", copy)
    measured = kindling("evaluate", "--out", copy, "--config", config)
    assert measured.status == 0, measured.err
    assert read_json(Layout(copy).evaluation)["ks"] == [20]
    assert in_service(copy) == service


def refused_with(status: int, *arguments: str | Path) -> str:
    """What an evaluation that must fail says, in one message."""
    finished = kindling("evaluate", *arguments)
    assert finished.status == status, (finished.status, finished.err)
    assert "Traceback" not in finished.err
    return finished.err


def test_where_nothing_is_built(tmp_path: Path, copy: Path) -> None:
    nowhere, empty = tmp_path / "nowhere", tmp_path / "empty"
    empty.mkdir()
    for place in (nowhere, empty):
        assert f"nothing is built in {place}" in refused_with(5, "--out", place)
        assert f"nothing is built in {place}" in refused_with(5, "--out", copy, "--against", place)
    assert not nowhere.exists()
    assert not list(empty.iterdir())


def test_an_unfinished_build_is_to_be_finished_first(copy: Path, tmp_path: Path) -> None:
    Layout(copy).marker("factorize").unlink()
    said = refused_with(5, "--out", copy)
    assert "no finished stage 'factorize'" in said
    assert "kindling build" in said
    shutil.rmtree(Layout(copy).stage("profile"))
    assert "no finished stage 'profile'" in refused_with(5, "--out", copy)


def test_a_build_that_was_begun_anew_with_other_settings_is_to_be_finished_first(
    copy: Path, tmp_path: Path
) -> None:
    """Killed after it had noted its settings and before it fitted anything."""
    Layout(copy).config.write_text(OTHER, encoding="utf-8")
    said = refused_with(5, "--out", copy)
    assert "stage 'factorize'" in said
    assert "other settings" in said
    Layout(copy).config.write_text("[factorise]\nalpha = 1.0\n", encoding="utf-8")
    assert "factorise: no such setting" in refused_with(5, "--out", copy)
    Layout(copy).config.unlink()
    assert "config.toml is not there" in refused_with(5, "--out", copy)


def test_tuning_and_failed_builds_change_nothing_of_what_is_remembered(
    copy: Path, small_config: Path, tmp_path: Path
) -> None:
    config = tmp_path / "other.toml"
    config.write_text(OTHER, encoding="utf-8")
    failed = kindling("build", "--data", tmp_path / "nowhere", "--out", copy, "--config", config)
    assert failed.status == 3, failed.err
    assert load_config(Layout(copy).config) == load_config(small_config)
    assert "evaluate unchanged" in kindling("evaluate", "--out", copy).err


def spoil(out: Path, *, keep_size: bool) -> Path:
    path = Layout(out).per_user
    content = path.read_bytes()
    path.write_bytes(b"x" * len(content) if keep_size else content[:100])
    return path


def test_spoilt_figures_of_users(copy: Path, other: Path, tmp_path: Path) -> None:
    mine, theirs = copy, Path(shutil.copytree(other, tmp_path / "theirs"))
    spoil(theirs, keep_size=False)
    said = refused_with(5, "--out", mine, "--against", theirs)
    assert f"kindling evaluate --out {theirs}" in said
    # a file that is cut short is noticed, and made again
    assert "evaluate done" in kindling("evaluate", "--out", theirs).err
    path = spoil(theirs, keep_size=True)
    said = refused_with(5, "--out", mine, "--against", theirs)
    assert f"{path} cannot be read" in said
    path.unlink()
    assert "evaluate done" in kindling("evaluate", "--out", theirs).err
    table = pq.read_table(path)
    write_table(path, table.take([0, *range(table.num_rows)]))
    as_marked(theirs, path)
    said = refused_with(5, "--out", mine, "--against", theirs)
    assert f"{path}: user " in said
    assert "is twice in the slice 'cold' of validation" in said


def as_marked(out: Path, path: Path) -> dict[str, Any]:
    """Let the marker of evaluate vouch for the file as it is, or not know it at all."""
    marker: dict[str, Any] = read_json(Layout(out).marker("evaluate"))
    if path.exists():
        marker["files"][path.name] = path.stat().st_size
    else:
        del marker["files"][path.name]
    write_json(Layout(out).marker("evaluate"), marker)
    return marker


def test_a_build_from_before_figures_of_users_were_kept(copy: Path, other: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(other, tmp_path / "old"))
    Layout(old).per_user.unlink()
    as_marked(old, Layout(old).per_user)
    said = refused_with(5, "--out", copy, "--against", old)
    assert f"has no figures that are up to date. Run `kindling evaluate --out {old}`" in said
    assert "evaluate done" in kindling("evaluate", "--out", old).err
    assert kindling("evaluate", "--out", copy, "--against", old).status == 0


def test_wrong_options(copy: Path, tmp_path: Path) -> None:
    assert "is --out itself" in refused_with(2, "--out", copy, "--against", copy / ".")
    config = tmp_path / "wrong.toml"
    config.write_text("[evaluate]\nks = []\n", encoding="utf-8")
    assert "evaluate.ks" in refused_with(2, "--out", copy, "--config", config)
    assert "directory" in refused_with(2, "--out", copy, "--report", tmp_path)
    config.write_text("[evaluate]\nks = [7]\nbootstrap = 0\n", encoding="utf-8")
    other = Path(shutil.copytree(copy, tmp_path / "other"))
    assert kindling("evaluate", "--out", other, "--config", config).status == 0
    said = refused_with(2, "--out", copy, "--against", other)
    assert "other was measured on lists of 7, out on 5, 10, 20, 50" in said
