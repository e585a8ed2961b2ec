"""Pages of an evaluation, of two builds and of tuning: complete, well-formed, self-contained, the same every time."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from pipelines.core.report import figure_svg, render_comparison, render_report, render_trials
from pipelines.core.report.svg import look, panel
from pipelines.core.report.theme import CSS_OF, MARK
from pipelines.core.report.wording import number

VOID = {"meta", "br"}
SLICES = (
    "cold",
    "warm",
    "all",
    "text_only",
    "query_only",
    "revealed_1",
    "revealed_3",
    "revealed_5",
    "revealed_10",
)
MODELS = ("kindling", "popularity", "als")
NASTY = "<script>alert('x')</script> & 工业 $a_b$"


class Page(HTMLParser):
    """Checks that tags nest and that nothing is fetched; keeps cells by table, and the text of each tag."""

    def __init__(self, html: str) -> None:  # noqa: D107
        super().__init__()
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.labels: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: D102
        assert tag not in ("script", "link", "img", "iframe")
        for name, value in attrs:
            if name in ("src", "href", "xlink:href"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            if name == "aria-label" and tag == "svg":
                self.labels.append(value or "")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)
        self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: D102
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:  # noqa: D102
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:  # noqa: D102
        for tag in set(self.open):
            self.texts[tag][-1] += data
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += ("|" if self.open[-1] == "small" else "") + data


def parsed(html: str) -> Page:
    """The page, with the checks every page must pass."""
    page = Page(html)
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html.replace("url(#", "")
    assert "@import" not in html
    assert len(page.ids) == len(set(page.ids))
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    for svg in svgs(html):
        root = ET.fromstring(svg)  # noqa: S314 - our own
        assert root.get("aria-hidden") or (root.get("role") == "img" and root.get("aria-label"))
        assert not re.search(r"#[0-9a-f]{6}\b", " ".join(e.get("style", "") for e in root.iter()))
    return page


def svgs(html: str) -> list[str]:
    return re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)


def evaluation(models: tuple[str, ...] = MODELS, slices: tuple[str, ...] = SLICES) -> dict[str, Any]:
    """Made-up figures: a model's recall@20 in slice s is 0.3 - 0.05 * its place, 0.01 more with each slice."""
    result: dict[str, Any] = {
        "schema_version": 2, "k": 20, "ks": [10, 20], "bootstrap": {"resamples": 100, "seed": 7, "level": 0.9},
        "build": {"version": "v1-abc"}, "split": {"kind": "random", "seed": 42, "pairs": {"train": 12345}},
        "models": list(models), "absent": {"cmfrec": "not installed: pip install 'kindling[bench]'"},
        "users": {}, "candidates": {}, "intervals": {}, "differences": {},
    }  # fmt: skip
    for which in ("validation", "test"):
        figures = {
            model: {
                s: {
                    f"{m}@{k}": round((0.3 - 0.05 * i + 0.01 * j) * k / 20 * share, 6)
                    for k in (10, 20) for m, share in (("recall", 1), ("ndcg", 0.5))
                } | {"gini@20": 0.5 + 0.1 * i, "novelty@20": 9.0 + i}
                for j, s in enumerate(slices)
            }
            for i, model in enumerate(models)
        }  # fmt: skip
        result[which] = figures
        result["users"][which] = dict.fromkeys(slices, 1234)
        result["candidates"][which] = dict.fromkeys(slices, 50)
        result["intervals"][which] = {
            m: {
                s: {n: [v - 0.01, v + 0.01] for n, v in f.items() if not n.startswith("gini")}
                for s, f in by.items()
            }
            for m, by in figures.items()
        }
        result["differences"][which] = {
            s: {
                "recall@20": {"baseline": models[1], "difference": 0.05, "interval": [0.04, 0.06]},
                "ndcg@20": {"baseline": models[1], "difference": -0.01, "interval": [-0.02, 0.0]},
            }
            for s in slices
            if len(models) > 1
        }
    result["plots"] = plots(models)
    return result


def plots(models: tuple[str, ...]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    bins = {"score": [0.01, 0.1, 1.0], "rate": [0.0, 0.001, 0.1], "n": [500, 400, 30]}
    return {
        "calibration": {"cold": bins, "warm": bins | {"rate": [0.0005, 0.003, 0.2]}},
        "exposure": {
            "labels": ["least popular 50 %", "most popular 50 %", "cold"],
            "models": {m: [0.2, 0.5, 0.3] for m in models},
            "relevant": [0.3, 0.3, 0.4],
        },
        "map": {
            "x": rng.random(60).tolist(),
            "y": rng.random(60).tolist(),
            "category": [NASTY] * 20 + ["工业电子"] * 15 + ["Tapes"] * 15 + ["Others"] * 10,
            "cold": (rng.random(60) < 0.3).tolist(),
        },
    }


def comparison() -> dict[str, Any]:
    a, b = evaluation(), evaluation()
    return {
        "builds": [{"name": NASTY, "version": "v1", "split": a["split"]}, {"name": "out-b", "split": b["split"]}],
        "config_differences": {"factorize.alpha": [10.0, 40.0], "text.columns": [["title"], ["title", "brand"]]},
        "paired": True, "users": a["users"], "models": [a, b],
        **{
            which: {
                s: {
                    "recall@20": {"a": 0.1, "b": 0.13, "difference": 0.03, "interval": [0.01, 0.05]},
                    "ndcg@20": {"a": 0.1, "b": 0.08, "difference": -0.02, "interval": None},
                    "gini@20": {"a": 0.5, "b": 0.6, "difference": 0.1, "interval": [0.05, 0.15]},
                }
                for s in SLICES
            }
            for which in ("test", "validation")
        },
    }  # fmt: skip


def trial(number_: int, state: str, objective: float | None, **settings: object) -> dict[str, Any]:
    slices = {} if objective is None else {"cold": {"recall@20": objective / 2}}
    return {
        "number": number_, "state": state, "objective": objective, "settings": settings, "slices": slices,
        "seconds": 1.5, "iterations": 8,
    }  # fmt: skip


def study() -> dict[str, Any]:
    return {
        "objective": "recall@20 on cold <items>",
        "trials": [
            trial(0, "COMPLETE", 0.2, alpha=1.0, gamma=0.3, kernel="dot"),
            trial(1, "PRUNED", 0.35, alpha=10.0, gamma=0.4, kernel="exp"),
            trial(2, "COMPLETE", 0.3, alpha=1000.0, gamma=0.5, kernel="exp"),
            trial(3, "ERROR", None, alpha=3.0, gamma=0.5, kernel="exp"),
            trial(4, "COMPLETE", 0.1, alpha=100.0, gamma=0.2, kernel="dot"),
        ],
        "best": 2, "defaults": 0, "importance": {"gamma": 0.25, "alpha": 0.75},
    }  # fmt: skip


@pytest.fixture(scope="module")
def html() -> str:
    """The page of `evaluation()`."""
    return render_report(evaluation())


def verdict_rows(page: Page) -> list[list[str]]:
    return page.tables[0][1:]


def test_the_verdict_tells_each_slice_with_intervals_best_baseline_and_words(html: str) -> None:
    page = parsed(html)
    rows = verdict_rows(page)
    assert page.tables[0][0] == ["slice", "metric", "verdict", "kindling", "best baseline", "difference"]
    assert len(rows) == 2 * len(SLICES)
    assert rows[0] == [
        "cold items|1,234 users", "recall@20", "▲ clearly ahead", "0.3000|[0.2900, 0.3100]", "0.2500|popularity",
        "+0.0500|[+0.0400, +0.0600]",
    ]  # fmt: skip
    # an interval that ends at zero is not clear of it
    assert rows[1][:2] == ["ndcg@20", "≈ no clear difference"]
    assert rows[1][-1] == "−0.0100|[−0.0200, 0.0000]"
    assert [r[0] for r in rows[::2]][-2:] == [
        "new users, 5 revealed|1,234 users",
        "new users, 10 revealed|1,234 users",
    ]


def test_the_first_screen_says_what_was_built_and_how_it_was_measured(html: str) -> None:
    facts = html[: html.index("Verdict on test")]
    for said in (
        "v1-abc",
        "random",
        "42",
        "100 resamples, seed 7, 90 %",
        "kindling, popularity, als",
        "12,345",
    ):
        assert said in facts
    assert "cmfrec (not installed: pip install &#x27;kindling[bench]&#x27;)" in html


def test_every_figure_of_both_held_out_sets_is_in_the_full_tables(html: str) -> None:
    raw, page = evaluation(), parsed(html)
    full = [t for t in page.tables if t[0][0] == "metric"]
    assert len(full) == 2 * len(SLICES)
    assert full[0][0] == ["metric", "difference|from the best baseline", *MODELS]
    for table, s in zip(full, SLICES, strict=False):
        assert [row[0] for row in table[1:]] == list(raw["test"]["als"][s])
        for row in table[1:]:
            for model, text in zip(MODELS, row[2:], strict=True):
                assert text.split("|")[0] == number(raw["test"][model][s][row[0]], row[0])


def test_best_is_marked_where_more_or_less_is_better_and_nowhere_else() -> None:
    html = render_report(evaluation(slices=("all",)))
    assert "<u>0.3000</u>" in html  # recall of kindling, the highest
    assert "<u>0.5000</u>" in html  # its gini, the lowest
    assert "<u>0.7000</u>" not in html
    assert "<u>9.00</u>" not in html  # nobody can say which novelty is best
    assert "<u>11.00</u>" not in html


def test_each_plot_has_a_title_axes_legend_and_words_for_who_does_not_see_it(html: str) -> None:
    page = parsed(html)
    assert len(page.texts["figcaption"]) == 5
    drawn = " ".join(page.texts["svg"])
    for axis in (
        "recall@20 (share)",
        "interactions revealed (count)",
        "mean score of the bin",
        "list places",
        "first axis",
    ):
        assert axis in drawn
    assert "cold items: kindling 0.3000 and 0.1500; popularity" in " ".join(page.labels)
    assert (
        "Few-shot curve of recall@20: kindling own words 0.3300, one query 0.3400, 1 revealed 0.3500"
        in " ".join(page.labels)
    )
    assert [t for t in page.texts["li"] if t in MODELS] == list(MODELS)


def test_strings_are_escaped_wherever_they_stand() -> None:
    raw = evaluation(slices=("cold",))
    raw["absent"] = {NASTY: NASTY}
    raw["build"] = {NASTY: NASTY}
    raw["users"]["test"][NASTY] = 3
    page = parsed(render_report(raw))
    assert NASTY in " ".join(page.texts["h4"])  # the category of the map
    assert NASTY in " ".join(page.texts["dd"])
    parsed(render_comparison(comparison()))
    tuned = parsed(
        render_trials(study() | {"objective": NASTY, "trials": [trial(0, "COMPLETE", 0.1, kernel=NASTY)]})
    )
    assert NASTY in " ".join(tuned.texts["text"])  # a tick of the axis, dollar signs and all


def test_a_model_named_by_a_stranger_is_escaped_and_drawn() -> None:
    page = parsed(render_report(evaluation(("kindling", NASTY), ("cold",))))
    assert NASTY in page.tables[-1][0]


def test_absent_values_are_dashes() -> None:
    raw = evaluation(slices=("cold", "warm"))
    for model in MODELS:
        raw["test"][model]["cold"] = dict.fromkeys(raw["test"][model]["cold"])
    raw["test"]["kindling"]["warm"]["recall@20"] = None
    raw["test"]["als"]["warm"]["recall@20"] = float("nan")
    raw["differences"]["test"]["warm"]["ndcg@20"]["interval"] = None
    del raw["differences"]["test"]["warm"]["recall@20"]
    html = render_report(raw)
    rows = verdict_rows(parsed(html))
    assert rows[0] == [
        "known items|1,234 users",
        "recall@20",
        "– not compared",
        "–|[0.3000, 0.3200]",
        "–",
        "–",
    ]
    assert rows[1][1] == "– no interval"
    assert len(rows) == 2  # nobody was measured on cold items
    assert "Nobody to measure: cold items." in html
    assert ">nan" not in html


@pytest.mark.parametrize(
    "empty", [{}, {"test": {}, "validation": {}}, {"models": ["kindling"], "test": {"kindling": {}}}]
)
def test_nothing_measured_is_a_page_that_says_so(empty: dict[str, Any]) -> None:
    assert "Nobody could be measured" in render_report(empty)
    parsed(render_report(empty))


def test_figures_alone_make_a_page() -> None:
    raw = {
        name: part for name, part in evaluation(slices=("cold",)).items() if name in ("test", "validation")
    }
    page = parsed(render_report(raw))
    assert verdict_rows(page)[0] == ["cold items", "recall@20", "– not compared", "0.3000", "–", "–"]
    assert "kindling, popularity, als" in page.texts["dd"]


def test_one_model_alone_has_no_differences() -> None:
    page = parsed(render_report(evaluation(("kindling",), ("cold", "warm"))))
    assert all(row[-4:-2][0] == "– not compared" for row in verdict_rows(page))


def test_without_the_emphasised_model_the_baselines_are_still_shown() -> None:
    page = parsed(render_report(evaluation(("popularity", "als"), ("cold", "warm"))))
    assert all("–" in row[-3] for row in verdict_rows(page))


def test_plots_that_were_not_computed_are_named() -> None:
    raw = evaluation(slices=("cold",))
    raw["plots"] = {"calibration": None, "exposure": None, "map": None}
    html = render_report(raw)
    parsed(html)
    for name in ("Calibration", "Exposure by popularity", "The map of embeddings"):
        assert f"{name} was not computed" in html
    del raw["plots"]
    assert render_report(raw) == html


@pytest.mark.parametrize("group", ["cold", "warm"])
def test_a_plot_with_one_group_or_one_item_is_drawn(group: str) -> None:
    raw = evaluation(slices=("cold",))
    raw["plots"]["calibration"][group] = {"score": [], "rate": [], "n": []}
    raw["plots"]["map"] = {"x": [1.0], "y": [2.0], "category": [""], "cold": [False]}
    raw["plots"]["exposure"] = {"labels": ["cold"], "models": {"kindling": [None]}, "relevant": []}
    parsed(render_report(raw))


def test_the_map_keeps_to_the_eight_most_frequent_categories_and_counts_the_rest() -> None:
    raw = evaluation(slices=("cold",))
    names = [f"c{i:02d}" for i in range(12) for _ in range(20 - i)]
    n = len(names)
    raw["plots"]["map"] = {"x": list(range(n)), "y": list(range(n)), "category": names, "cold": [True] * n}
    page = parsed(render_report(raw))
    shown = [title for title in page.texts["h4"] if re.match(r"c\d\d ", title)]
    assert shown == [f"c{i:02d} {20 - i}" for i in range(8)]
    assert f"then {12 + 11 + 10 + 9} items of others" in " ".join(page.texts["figcaption"])


def test_two_thousand_items_stay_small() -> None:
    raw, rng = evaluation(slices=("cold",)), np.random.default_rng(1)
    raw["plots"]["map"] = {
        "x": rng.normal(size=2000).tolist(), "y": rng.normal(size=2000).tolist(),
        "category": [f"c{i % 9}" for i in range(2000)], "cold": [False] * 2000,
    }  # fmt: skip
    maps = [s for s in svgs(render_report(raw)) if "Map of text embeddings" in s]
    assert len(maps) == 9
    assert sum(len(s.encode()) for s in maps) < 300_000
    dots = [len(re.findall(r"M[\d.]+ [\d.]+h0", s)) for s in maps]
    assert dots[0] == 667  # no item is cold: every third of 2000, in grey
    assert all(d > 200 for d in dots[1:])  # each category whole, and the grey behind it


def test_same_input_same_bytes_in_another_process_too() -> None:
    code = (
        "import sys, json, hashlib; from pipelines.core.report import render_report, render_comparison, render_trials; "
        "raw = json.load(sys.stdin); "
        "html = render_report(raw[0]) + render_comparison(raw[1]) + render_trials(raw[2]); "
        "print(hashlib.sha256(html.encode()).hexdigest(), 'matplotlib.pyplot' in sys.modules)"
    )
    raw = json.dumps([evaluation(), comparison(), study()])
    command = [sys.executable, "-c", code]
    runs = [subprocess.run(command, input=raw, capture_output=True, text=True, check=True) for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout
    assert re.fullmatch(r"[0-9a-f]{64} False\n", runs[0].stdout)  # pyplot is global state


def settings() -> dict[str, Any]:
    """Matplotlib's global settings; asking for the backend would choose one."""
    return {name: mpl.rcParams[name] for name in mpl.rcParams if name != "backend"}


def test_the_input_and_matplotlibs_settings_are_left_alone() -> None:
    raw, before = evaluation(slices=("cold",)), settings()
    kept = copy.deepcopy(raw)
    render_report(raw)
    assert raw == kept
    assert settings() == before


def test_two_builds_side_by_side() -> None:
    html = render_comparison(comparison())
    page = parsed(html)
    rows = verdict_rows(page)
    assert rows[0] == [
        "cold items|1,234 users", "recall@20", "▲ out-b clearly higher", "0.1000", "0.1300",
        "+0.0300|[+0.0100, +0.0500]",
    ]  # fmt: skip
    assert rows[1] == ["ndcg@20", "– no interval", "0.1000", "0.0800", "−0.0200"]
    assert page.tables[1] == [
        ["setting", NASTY, "out-b"], ["factorize.alpha", "10", "40"], ["text.columns", "title", "title, brand"],
    ]  # fmt: skip
    assert len(page.tables) == 2 + 2 * len(SLICES)
    assert [r[0] for r in page.tables[2][1:]] == ["recall@20", "ndcg@20", "gini@20"]
    assert "Not paired" not in html
    # more inequality is not better: higher in words, yet in the colour of the worse
    assert re.search(r"class='words behind'>▲ out-b clearly higher", html)


def test_builds_that_cannot_be_paired_say_why() -> None:
    raw = comparison() | {"paired": False, "why_unpaired": "other seed <42>", "models": []}
    html = render_comparison(raw)
    parsed(html)
    assert "Not paired: other seed &lt;42&gt;." in html
    assert "nothing is drawn" in html


def test_builds_without_a_common_slice_and_with_the_same_name() -> None:
    page = parsed(
        render_comparison({"builds": [{"name": "x"}, {"name": "x"}], "test": {}, "config_differences": {}})
    )
    assert page.texts["h1"] == ["Two builds: x (a) and x (b)"]
    assert "no slice in common" in " ".join(page.texts["p"])
    assert "None: both were built with the same settings." in page.texts["p"]


def test_trials_come_best_first_and_the_best_stands_beside_the_defaults() -> None:
    page = parsed(render_trials(study()))
    best, trials = page.tables
    assert best == [
        ["setting", "best", "defaults"], ["alpha", "1000", "1"], ["gamma", "0.5", "0.3"], ["kernel", "exp", "dot"],
    ]  # fmt: skip
    # a stopped trial has not been measured in full: it comes after the completed ones, whatever it had
    assert [row[0] for row in trials[1:]] == ["2|best", "0|defaults", "4", "1", "3"]
    assert trials[0][:4] == ["trial", "objective", "state", "recall@20|cold items"]
    assert trials[1] == ["2|best", "0.3000", "complete", "0.1500", "1000", "0.5", "exp", "8", "1.5"]
    assert trials[5][1:4] == ["–", "error", "–"]
    assert "0.3000 in trial 2" in page.texts["dd"]
    assert "+0.1000" in page.texts["dd"]


def test_settings_over_decades_get_a_logarithmic_axis_and_words_their_names() -> None:
    drawn = {
        label: text for label, text in zip(*_labels_and_texts(render_trials(study())), strict=True) if label
    }
    assert "alpha (logarithmic)" in drawn["Objective against alpha, 4 trials"]
    assert "logarithmic" not in drawn["Objective against gamma, 4 trials"]
    assert "dotexp" in drawn["Objective against kernel, 4 trials"]
    assert drawn["Importance of settings: alpha 0.75, gamma 0.25"].startswith("0")


def _labels_and_texts(html: str) -> tuple[list[str], list[str]]:
    roots = [ET.fromstring(svg) for svg in svgs(html)]  # noqa: S314 - our own
    return [r.get("aria-label", "") for r in roots], ["".join(r.itertext()) for r in roots]


def test_a_study_without_trials_or_with_failures_only() -> None:
    html = render_trials({"objective": "x", "trials": [], "best": None, "defaults": None, "importance": None})
    parsed(html)
    assert "No trial was run." in html
    failed = render_trials(study() | {"trials": [trial(0, "ERROR", None, alpha=1.0)], "best": None})
    parsed(failed)
    assert "No trial was completed." in failed


def test_a_figure_of_ones_own_follows_the_page() -> None:
    with look():
        figure = Figure(figsize=(2, 1))
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=MARK, marker="o")
        axes.set_title("中文 <&>")
        svg = figure_svg(figure, "a line")
    root = ET.fromstring(svg)  # noqa: S314 - our own
    assert (root.tag, root.get("aria-label"), root.get("width")) == ("svg", "a line", "192")
    assert "中文 <&>" in "".join(root.itertext())
    assert CSS_OF[MARK] in svg
    assert "font-family" not in svg
    assert "metadata" not in svg
    assert "<style" not in svg  # it would reach the whole page


def test_equal_drawings_under_two_labels_do_not_share_ids() -> None:
    drawn = [
        panel(label, 200, 100, lambda axes: axes.plot([0, 1], [1, 0], "o", color=MARK)) for label in "ab"
    ]
    ids = [set(re.findall(r'id="([^"]+)"', svg)) for svg in drawn]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_calibration_without_counts_has_no_whiskers_and_no_panel_of_counts() -> None:
    raw = evaluation(slices=("cold",))
    del raw["plots"]["calibration"]["cold"]["n"]
    raw["plots"]["calibration"]["warm"] = {"score": [-1.0, 1.0], "rate": [0.1, 0.2], "n": [0, 5]}
    page = parsed(render_report(raw))
    assert "How often items were relevant" in page.texts["h4"]
    assert "How many have the score" not in page.texts["h4"]
