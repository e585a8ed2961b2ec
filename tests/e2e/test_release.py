"""A rebuild beside the version in service: the same settings pass the gate, absurd ones are refused with a reason."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipelines.core.bundle import current_version
from pipelines.core.catalogue import GeneratorConfig, generate
from pipelines.core.layout import Layout
from pipelines.core.storage import read_json
from tests.conftest import SMALL_CONFIG, Finished

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PROGRAM = """
import json, sys, tomllib
from pathlib import Path
from jobs.release import check_release
from pipelines.core.config import parse_config
from pipelines.core.errors import ArtefactError
from pipelines.core.incumbent import Incumbent
from pipelines.core.layout import Layout
from pipelines.flow import build
from pipelines.progress import Progress
out, version, runs = json.loads(sys.argv[1])
layout, incumbent, quiet = Layout(Path(out)), Incumbent(version, False), Progress(quiet=True)
incumbent.write(layout)
answers = []
for data, until, settings in runs:
    config = parse_config(settings, "test")
    build(config, data, layout.root, until_stage=until)
    layout.release_bundle.mkdir(exist_ok=True)  # as a gate leaves it that was killed
    (layout.release_bundle / "items.parquet").write_text("half a file")
    verdict = check_release(config, layout, incumbent, quiet)
    left = [path.name for path in layout.bundles.iterdir()]
    answers.append([verdict.passed, verdict.reasons, verdict.figures, left, layout.release_page.read_text()])
try:
    check_release(config, layout, Incumbent("v0", False), quiet)
except ArtefactError as e:
    print(json.dumps([answers, str(e)]))
"""


def next_night(small_data: Path, directory: Path) -> Path:
    """The same shop later: other pairs of the same tastes, 60 users and 40 items of them under new names."""
    items_df, users_df, old_df = (
        pd.read_parquet(small_data / f"{name}.parquet") for name in ("items", "users", "interactions")
    )
    later_df = generate(GeneratorConfig(n_items=240, n_users=200, n_interactions=6000)).interactions_df
    known = set(zip(old_df["user_id"], old_df["item_id"], strict=True))
    is_new = [pair not in known for pair in zip(later_df["user_id"], later_df["item_id"], strict=True)]
    later_df = later_df[is_new]
    for name, table_df, n in (("item_id", items_df, 40), ("user_id", users_df, 60)):
        renamed_df = table_df[:n].assign(**{name: "new-" + table_df[name][:n]})
        is_renamed = later_df[name].isin(table_df[name][:n])
        later_df = later_df.assign(**{name: np.where(is_renamed, "new-" + later_df[name], later_df[name])})
        pd.concat([table_df, renamed_df]).to_parquet(directory / f"{name[:4]}s.parquet", index=False)
    pd.concat([old_df, later_df]).to_parquet(directory / "interactions.parquet", index=False)
    return directory


def test_the_same_settings_pass_and_absurd_ones_are_refused(
    small_data: Path, built_copy: Path, tmp_path: Path, run_python: Callable[[str, Sequence[str]], Finished]
) -> None:
    layout, later = Layout(built_copy), tmp_path / "later"
    version = current_version(layout)
    later.mkdir()
    next_night(small_data, later)
    settings = tomllib.loads(SMALL_CONFIG)
    settings |= {"release": {"max_users": 150}, "split": {"newcomers": 0.0}, "publish": {"refit": False}}
    # texts say nothing any more
    absurd = {
        **settings,
        "factorize": {**settings["factorize"], "text_weight": 0.0},
        "blend": {"gamma": 0.0},
    }
    runs = [
        (str(small_data), "split", settings),
        (str(later), "factorize", settings),
        (str(later), "factorize", absurd),
    ]
    done = run_python(PROGRAM, [json.dumps([str(built_copy), version, runs])])
    assert done.status == 0, done.err
    (nothing_new, same, broken), beside_another = json.loads(done.out.splitlines()[-1])
    assert f"was split beside {version}, the gate is to compare it with v0" in beside_another

    passed, reasons, figures, left, page = nothing_new
    assert (passed, reasons, figures["newest"]) == (True, [], {"pairs": 0, "wanted": 0})
    assert "nothing to compare by" in page

    passed, reasons, figures, left, page = same
    assert (passed, reasons) == (True, [])
    assert left == [version]
    slices = figures["slices"]
    assert {name: found["users"] for name, found in slices.items()} == {
        "warm": 140,
        "cold": 120,
        "new_users": 58,
    }
    assert slices["cold"]["candidates"] == 43  # 40 new ones, and 3 that nobody had touched
    # fitted on the same pairs, with the same history and items: what was in service is answered again to the digit
    for found in slices.values():
        for pair in found["metrics"].values():
            assert pair["candidate"] == pytest.approx(pair["incumbent"], abs=0.02)
            assert pair["incumbent"] > 0.05
    assert figures["not_placed"] == 0

    passed, reasons, figures, left, page = broken
    assert not passed
    assert any(reason.startswith("cold items, ") for reason in reasons)
    assert any(reason.startswith("cold items that are listed to anybody: ") for reason in reasons)
    assert left == [version]
    assert reasons[0] in page
    report = read_json(layout.release)
    assert (report["passed"], report["reasons"]) == (False, reasons)

    held, full = (pq.read_metadata(layout.pairs(model, "user")).num_rows for model in ("held", "full"))
    assert full - held == figures["newest"]["pairs"] > 1000
    assert current_version(layout) == version
