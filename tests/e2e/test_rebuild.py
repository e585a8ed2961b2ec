"""A build with the note of a rebuild: what it starts from, what it does again, what a plain build makes of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest

from pipelines.core.bundle import BundlePaths, check_bundle, current_version
from pipelines.core.errors import ArtefactError
from pipelines.core.incumbent import Incumbent
from pipelines.core.layout import Layout
from pipelines.core.storage import part_paths, read_json, read_tensors
from pipelines.flow import measured_with
from tests.conftest import SMALL_CONFIG, Finished

pytestmark = [pytest.mark.ray, pytest.mark.slow]

# `kindling build` clears the note
PROGRAM = """
import sys
from pathlib import Path
from pipelines.core.config import load_config
from pipelines.flow import build
build(load_config(Path(sys.argv[3])), sys.argv[1], Path(sys.argv[2]))
"""


def texts_of(layout: Layout) -> set[str]:
    """Everything that is embedded."""
    folders = (layout.tables / "items", layout.tables / "users", layout.queries)
    return {
        t for f in folders for p in part_paths(f) for t in pd.read_parquet(p, columns=["text"])["text"] if t
    }


def test_a_rebuild_starts_from_the_version_in_service_and_encodes_what_is_new(
    built_copy: Path, small_data: Path, tmp_path: Path, run_python: Callable[[str, Sequence[str]], Finished]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        SMALL_CONFIG.replace("bootstrap = 50", "bootstrap = 0\nbaselines = []"), encoding="utf-8"
    )
    layout, data = Layout(built_copy), Path(shutil.copytree(small_data, tmp_path / "data"))
    version, before = current_version(layout), texts_of(layout)
    items_df = pd.read_parquet(data / "items.parquet")
    items_df.loc[[3, 5], "title"] = ["A brand new kettle for one", "全新的单人手冲壶"]
    items_df.to_parquet(data / "items.parquet")
    pairs_df = pd.read_parquet(data / "interactions.parquet")
    pairs_df.iloc[:-30].to_parquet(data / "interactions.parquet")
    Incumbent(version, is_warm=True).write(layout)

    again = run_python(PROGRAM, [str(data), str(built_copy), str(config)])

    assert again.status == 0, again.err[-3000:]
    assert read_json(layout.embed_report)["to_encode"] == len(texts_of(layout) - before)
    summary = {o["stage"]: o["summary"] for o in read_json(layout.run_record)}["factorize"]
    assert summary["starts"]["full"] == f"from {version}, 2 passes"
    assert all(summary["starts"][m].startswith("from nothing") for m in ("train", "newcomers"))
    made = current_version(layout)
    assert made != version
    check_bundle(layout.bundle(made))
    old, new = (read_tensors(BundlePaths(layout.bundle(v)).item_arrays)["factors"] for v in (version, made))
    # from nothing they would be as good, turned by the seed's chance; from there they have hardly moved
    moved = ((new - old) ** 2).sum() / (old**2).sum()
    assert 0 < moved < 0.1
    assert measured_with(built_copy).rebuild.iterations == 2
    Incumbent.clear(layout)
    with pytest.raises(ArtefactError, match="'factorize'"):  # a plain build has other factors
        measured_with(built_copy)
