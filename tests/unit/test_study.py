"""The journal of a study, what is concluded from it, and the file it ends in."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from pipelines.core.config import Config, load_config, parse_config
from pipelines.core.report import render_trials
from pipelines.core.search_defaults import OURS
from pipelines.core.search_space import make_space
from pipelines.core.short_toml import short_toml
from pipelines.core.study import Journal, Trial, as_report, best_of, importance

SETTINGS = {"factorize.alpha": 23.5, "factorize.n_factors": 64}


def ended(number: int, objective: float | None = -1.0, state: str = "COMPLETE", alpha: float = 23.5) -> Trial:
    proposed = SETTINGS | {"factorize.alpha": alpha}
    figures = {"cold": {"recall@20": 0.25}}
    return Trial(
        number, state, objective, proposed, proposed | {"blend.gamma": 0.5}, figures, [-2.0, -1.0], 1.5
    )  # type: ignore[arg-type]


def test_a_journal_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "study.jsonl"
    first = Journal(path)
    first.open({"cold": 7, "warm": 0})
    first.end(ended(0))
    assert [first.start(SETTINGS), first.start(SETTINGS | {"factorize.alpha": 1.0})] == [1, 2]
    first.end(ended(2, alpha=1.0))
    again = Journal(path)
    assert again.users == {"cold": 7, "warm": 0}
    assert again.ended == {0: ended(0), 2: ended(2, alpha=1.0)}
    assert again.interrupted == {1: SETTINGS}


def test_an_interrupted_trial_keeps_its_number_and_others_get_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    first = Journal(path)
    assert first.start(SETTINGS) == 1
    assert first.start(SETTINGS) == 2  # the same suggested twice, at the same time
    again = Journal(path)
    assert again.start(SETTINGS | {"factorize.alpha": 9.0}) == 3
    assert again.start(SETTINGS) == 1
    assert again.start(SETTINGS) == 2
    assert again.start(SETTINGS) == 4
    assert len(path.read_text(encoding="utf-8").splitlines()) == 4
    again.open({})
    again.open({"cold": 1})
    assert Journal(path).users == {}


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_line_cut_short_by_a_kill_never_happened(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "study.jsonl"
    journal = Journal(path)
    journal.start(SETTINGS)
    journal.end(ended(1))
    path.write_bytes(path.read_bytes()[:-cut])
    again = Journal(path)
    assert again.interrupted == ({} if cut == 1 else {1: SETTINGS})  # the newline alone is no loss
    again.end(ended(1))
    assert Journal(path).ended == {1: ended(1)}
    assert all(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


def test_the_best_is_complete_and_the_earliest_of_equals() -> None:
    trials = [
        ended(0, -3.0),
        ended(3, -1.0),
        ended(2, -1.0),
        ended(4, -0.1, "PRUNED"),
        ended(5, None, "ERROR"),
    ]
    best = best_of(trials)
    assert best is not None
    assert best.number == 2
    assert best_of(trials[3:]) is None
    assert best_of([]) is None


def test_importance_finds_what_matters() -> None:
    config = parse_config(
        {"tune": {"search": {"factorize.alpha": [1.0, 100.0], "factorize.n_factors": {"choices": [64]}}}},
        "test",
    )
    space = make_space(config, OURS)
    trials = [
        Trial(
            n,
            "COMPLETE",
            -abs(math.log(a / 10)),
            {"factorize.alpha": a, "factorize.n_factors": (64, 128)[n % 2]},
            {},
        )
        for n, a in enumerate(float(10 ** (i / 12)) for i in range(25))
    ]
    shares = importance(space, trials)
    assert shares is not None
    assert shares["factorize.alpha"] > 0.8
    assert importance(space, trials[:9]) is None
    assert importance(space, [Trial(0, "COMPLETE", -1.0, {}, {}), *trials[:9]]) is None
    same = [Trial(n, "COMPLETE", -1.0, trials[0].proposed, {}) for n in range(20)]
    assert importance(space, same) is None  # nothing to tell apart


def test_the_report_takes_a_study_as_it_is() -> None:
    trials = [ended(2, -0.5), ended(0, -1.0), ended(1, None, "ERROR"), ended(3, -2.0, "PRUNED")]
    study = as_report(trials, "多 & few", {"factorize.alpha": 0.9})
    assert [t["number"] for t in study["trials"]] == [0, 1, 2, 3]
    assert (study["best"], study["defaults"]) == (2, 0)
    page = render_trials(study)
    assert "多 &amp; few" in page
    assert "factorize.alpha" in page


def test_short_toml_holds_what_differs_and_is_read_back_the_same(tmp_path: Path) -> None:
    config = parse_config(
        {
            "data": {"columns": {"item_id": "商品"}, "like_threshold": 4.0, "item_text": ["title", "简介"]},
            "factorize": {"alpha": 23.5, "n_factors": 64},
            "evaluate": {"baseline_settings": {"als_alpha": 3.0}, "ks": [20]},
            "tune": {"search": {"factorize.alpha": [1.0, 60.0], "blend.gamma": {"choices": [0.1]}}},
        },
        "test",
    )
    text = short_toml(config, ["first 说明", "a\nb = 1\r\x00c"])
    path = tmp_path / "best.toml"
    path.write_text(text, encoding="utf-8")
    assert load_config(path) == config
    assert text.startswith("# first 说明\n# a?b = 1??c\n")
    keys = re.findall(r"^(\w+) = ", text, flags=re.MULTILINE)
    assert keys == [
        "columns", "item_text", "like_threshold", "n_factors", "alpha", "ks", "baseline_settings", "search",
    ]  # fmt: skip
    assert short_toml(Config(), []).strip() == ""
